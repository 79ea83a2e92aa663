"""The command line: thin, its options generated from the functions' signatures."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from swath.errors import InputError, SwathError, UnknownNameError

__all__ = ["main"]


class Command(NamedTuple):
    """One command: what it is for, the function behind it, its positional arguments and an example."""

    summary: str
    function: str
    positional: dict[str, str]
    example: str
    skip: frozenset[str] = frozenset()
    spelled: Mapping[str, str] = MappingProxyType(
        {}
    )  # options whose name Python does not allow for an argument


# The functions are named, not imported: `swath --help` must not wait for torch.
COMMANDS = {
    "quickstart": Command(
        "train three methods on a synthetic Earth and compare them; needs no data and no network",
        "swath.tasks.quickstart:quickstart",
        {},
        "swath quickstart --out runs/quickstart",
    ),
    "train": Command(
        "train a model, judge it on test scenes and write its report",
        "swath.tasks.train:train",
        {"data": "?"},
        "swath train DATA --method adagc --encoder scene_mixer --size 64 --epochs 30 --seed 0 "
        "--draw single-positive-random --out RUN\n  swath train --resume RUN",
        frozenset({"model"}),
    ),
    "evaluate": Command(
        "judge a run on its test scenes, or on other data; writes evaluation.json and report.html",
        "swath.tasks.evaluate:evaluate",
        {"run": "?", "data": "?"},
        "swath evaluate RUN\n  swath evaluate RUN OTHER_DATA",
    ),
    "predict": Command(
        "write each image's probability for each class to a table",
        "swath.tasks.predict:predict",
        {"run": "?", "images": "*"},
        "swath predict RUN images/ more/*.tif --out predictions.csv",
    ),
    "map": Command(
        "map whole scenes: GeoTIFF, polygons, STAC item, picture and viewer; goes on where it was killed",
        "swath.tasks.map:map_scenes",
        {"run": "?", "scenes": "*"},
        "swath map RUN SCENE.tif more/*.tif --stride 32 --out FOLDER",
    ),
    "compare": Command(
        "train methods over seeds, label budgets and splits, and say which differences are real",
        "swath.tasks.compare:compare",
        {"data": "?"},
        "swath compare DATA --methods all-known,assume-negative,adagc --seeds 0,1,2 --out FOLDER\n"
        "  swath compare DATA --methods 'adagc,adagc:start_epoch=10' --draws single-positive-random,none "
        "--seeds 0,1,2 --workers 2 --out FOLDER",
    ),
    "select": Command(
        "choose which training scenes to keep, and show what is lost; train --only takes the selection",
        "swath.tasks.select:select",
        {"data": "?"},
        "swath select DATA --keep 15% --by rs-prune --run RUN --out selection.parquet\n"
        "  swath select --run RUN --keep 30% --by ccs:aum\n  swath train DATA --only selection.parquet --out OTHER",
    ),
    "duplicates": Command(
        "list scenes that show nearly the same, also flipped or turned",
        "swath.tasks.duplicates:duplicates",
        {"data": "?"},
        "swath duplicates DATA --out groups.csv",
    ),
    "ask": Command(
        "say which scenes to have labelled next, of a data set whose labels are partly unknown",
        "swath.tasks.ask:ask",
        {"data": "?"},
        "swath ask DATA --run RUN --by hssal --budget 42 --out next.csv",
    ),
    "active": Command(
        "try a way to ask in rounds of training and asking, on a data set whose labels are all known",
        "swath.tasks.active:active_learning",
        {"data": "?"},
        "swath active DATA --by hssal --start 2% --stop 8% --rounds 4 --method fixmatch --out FOLDER",
    ),
    "label": Command(
        "open a local page on which people label scenes; every answer is on disk at once",
        "swath.tasks.label:label",
        {"data": "?"},
        "swath label IMAGES --classes water,forest,field --out labels.parquet\n"
        "  swath label DATA --run RUN --budget 200 --out labels.parquet",
    ),
    "labels check": Command(
        "list the labels that look wrong, as a table and a gallery; for labels that are complete",
        "swath.tasks.label_check:check_labels",
        {"data": "?"},
        "swath labels check DATA --out FOLDER",
    ),
    "info": Command(
        "say what a run, a data set or this installation is",
        "swath.tasks.info:info",
        {"what": "?"},
        "swath info\n  swath info RUN\n  swath info DATA",
    ),
    "methods": Command(
        "list the methods, or those that fit the labels of a data set and why the others do not",
        "swath.tasks.info:methods",
        {},
        "swath methods\n  swath methods --for DATA",
        spelled=MappingProxyType({"data": "for"}),
    ),
    "encoders": Command(
        "list the encoders whose name matches a pattern",
        "swath.tasks.info:encoders",
        {"pattern": "?"},
        "swath encoders 'resnet*'",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 something was wrong, 2 usage, 130 interrupted.

    Args:
        arguments: What stands after ``swath`` on the command line; the process's own if None.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        import swath

        print(swath.__version__)
        return 0
    name, rest = arguments[0], arguments[1:]
    if " ".join(arguments[:2]) in COMMANDS:
        name, rest = " ".join(arguments[:2]), arguments[2:]
    try:
        if name not in COMMANDS:
            longer = [known for known in COMMANDS if known.startswith(f"{name} ")]
            raise UnknownNameError("command", name, longer or COMMANDS)
        _run(name, rest)
    except SwathError as error:
        print(f"swath: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"swath: stopped.{_how_to_go_on(name, rest)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    return 0


def _run(name: str, arguments: list[str]) -> None:
    command = COMMANDS[name]
    if name == "train" and "--resume" in arguments:
        name, command = (
            "train --resume",
            Command(
                "go on with an interrupted run, with the options it was started with",
                "swath.tasks.train:resume",
                {"run": "?"},
                "swath train --resume RUN",
                frozenset({"data"}),
            ),
        )
        arguments = [argument for argument in arguments if argument != "--resume"]
    module, _, attribute = command.function.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    answer = function(**_parse(name, command, function, arguments))
    if os.environ.get("RANK", "0") != "0":
        return  # several processes train together; the first one speaks
    if isinstance(answer, str):
        print(answer)
    elif answer is not None:
        print(_told(answer))


def _parse(name: str, command: Command, function: Callable[..., Any], arguments: list[str]) -> dict[str, Any]:
    parser = _parser(name, command, function)
    flags = {
        f"--{option}"
        for option, entry in inspect.signature(function).parameters.items()
        if entry.default is False
    }
    values = parser.parse_args(list(_spelled(arguments, flags, command.spelled))).as_dict()
    configs = values.pop("config", None) or []
    for argument in command.positional:
        # A config file may hold them too; jsonargparse reads only options from it.
        for config in configs:
            stored = yaml.safe_load(config.get_content())
            values[argument] = stored.get(argument) if values[argument] in (None, []) else values[argument]
        if values[argument] in (None, []) and _required(function, argument):
            parser.error(f"{argument.upper()} is missing")
    return {key: value for key, value in values.items() if key in inspect.signature(function).parameters}


def _parser(name: str, command: Command, function: Callable[..., Any]) -> ArgumentParser:
    class Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
        """Examples keep their lines."""

    class Parser(ArgumentParser):
        def format_help(self, *arguments: Any) -> str:
            text = super().format_help(*arguments)
            for argument, spelled in command.spelled.items():
                text = re.sub(rf"--{argument}\b", f"--{spelled}", text)
            return re.sub(r"--[a-z_]+", lambda found: found.group().replace("_", "-"), text)

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            unknown = re.search(r"nrecognized arguments: (--[\w-]+)", message)
            if unknown:
                known = [
                    f"--{command.spelled.get(option[2:], option[2:])}".replace("_", "-")
                    for option in self._option_string_actions
                    if option.startswith("--")
                ]
                raise UnknownNameError(f"option of swath {name}", unknown.group(1).replace("_", "-"), known)
            raise InputError(f"{message.strip()}. See: swath {name} --help")

    parser = Parser(
        prog=f"swath {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"example:\n  {command.example}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="a YAML file with options, such as RUN/config.yaml")
    for argument, count in command.positional.items():
        parser.add_argument(argument, type=str, nargs=count, help=_described(function, argument))
    parser.add_function_arguments(
        function, skip={*command.positional, *command.skip}, as_group=False, sub_configs=False
    )
    return parser


def _spelled(arguments: Sequence[str], flags: set[str], spelled: Mapping[str, str]) -> Iterator[str]:
    """Yield the arguments as the parser knows them: options with underscores, and ``true`` behind a bare flag."""
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if not option.startswith("--"):
            yield argument
            continue
        head, dot, tail = option[2:].partition(".")
        head = next((name for name, other in spelled.items() if other == head), head)
        option = f"--{head.replace('-', '_')}{dot}{tail}"
        yield f"{option}{equals}{value}"
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        if option in flags and not equals and following not in ("true", "false"):
            yield "true"


def _required(function: Callable[..., Any], argument: str) -> bool:
    return inspect.signature(function).parameters[argument].default is inspect.Parameter.empty


def _described(function: Callable[..., Any], argument: str) -> str:
    found = re.search(rf"^ +{argument}: (.*(?:\n {{9,}}.*)*)", function.__doc__ or "", re.MULTILINE)
    return " ".join(found.group(1).replace("``", "").split()) if found else ""


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "swath: learn what is in satellite and aerial scenes from labels that are incomplete, noisy or few.",
            "",
            "usage: swath COMMAND ...",
            "",
            *lines,
            "",
            "swath COMMAND --help shows a command's options and an example; swath --version its version.",
        ]
    )


def _told(answer: Any) -> str:
    """Return what a command says at its end: the figures, and where things are."""
    from swath.evaluation.evaluate import chief_figures
    from swath.tasks.active import ActiveLearning
    from swath.tasks.compare import Comparison
    from swath.tasks.duplicates import Duplicates
    from swath.tasks.label_check import LabelCheck
    from swath.tasks.map import MapSummary
    from swath.tasks.select import Selected
    from swath.training.run import Run

    if isinstance(answer, Duplicates | MapSummary | Selected):
        return str(answer)
    if isinstance(answer, Comparison):
        said = "".join(f"{sentence}\n" for sentence in answer.findings)
        return f"{answer.table}\n\n{said}folder: {answer.folder}\nreport: {answer.report}"
    if isinstance(answer, ActiveLearning):
        return f"{answer.table}\nfolder: {answer.folder}"
    if isinstance(answer, LabelCheck):
        said = f"{len(answer.table)} of {answer.checked} known labels look wrong"
        first = answer.table.head(10).to_string(index=False) + "\n" if len(answer.table) else ""
        return f"{said}\n{first}table: {answer.folder / 'suspicious.csv'}\ngallery: {answer.gallery}"
    if isinstance(answer, Run):
        evaluation = answer.evaluation
        lines = [
            f"{name}: {value:.4f}{_between(evaluation['intervals'].get(name))}"
            for name, value in chief_figures(evaluation).items()
        ]
        if evaluation["kind"] == "multi-label" and "map_macro" in evaluation["undefined"]:
            lines.append(f"map_macro is not defined: {evaluation['undefined']['map_macro']}")
        return "\n".join([*lines, f"run: {answer.folder}", f"report: {answer.folder / 'report.html'}"])
    return f"{len(answer)} images\n{answer.head(10).to_string(index=False)}"


def _between(interval: Sequence[float] | None) -> str:
    return f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""


def _how_to_go_on(name: str, arguments: list[str]) -> str:
    if name == "train" and "--resume" in arguments:
        return " Call the same command again to go on."
    if name == "train":
        words = [word for argument in arguments for word in argument.split("=", 1)]
        out = words[words.index("--out") + 1 :][:1] if "--out" in words else []
        return f" Go on with: swath train --resume {shlex.quote(out[0])}" if out else ""
    if name in ("map", "select"):
        return " Call the same command again to go on; what is computed is kept."
    if name in ("active", "compare", "quickstart"):
        return " Call the same command again to go on; finished runs are kept, and the last one goes on where it was."
    return ""
