"""The cells of a comparison: which runs it asks for, where each is kept, and what makes an old one still good."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.errors import InputError, RunError, SwathError

if TYPE_CHECKING:
    from swath.scenes.source import SceneSource

__all__ = [
    "CEILING",
    "FIGURES",
    "WITHOUT_EFFECT",
    "Cell",
    "data_identity",
    "failed_row",
    "parse_method",
    "plan",
    "refuse_changed",
    "run_cell",
]

FIGURES = (
    "kind",
    "map_macro",
    "map_micro",
    "map_head",
    "map_medium",
    "map_tail",
    "f1_macro",
    "f1_micro",
    "overall_accuracy",
    "average_accuracy",
    "kappa",
    "calibration_error",
    "positive_recall",
    "positive_rank",
)
"""What a row takes from its run's ``evaluation.json``."""

WITHOUT_EFFECT = frozenset({"record_dynamics", "tensorboard"})
"""The options of a training that change no figure. All others do: a run made with another value is not taken over."""

CEILING = "all-known"
"""The method that is given every label, whatever the draw loses for the others."""

# What the folder of a cell does not name.
_USUAL_DRAW = "single-positive-random"


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Args:
        method: As it was asked for, such as ``adagc`` or ``adagc:start_epoch=10``.
        draw: Where in the comparison it stands; None where no label is lost.
        seed: Of everything, and of the split where ``split_seed`` is None.
        split_seed: Of the split alone.
        options: All options of :func:`swath.train` for it, ``data`` among them.
    """

    method: str
    draw: str | None
    seed: int
    split_seed: int | None
    options: Mapping[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """The name of its folder: it depends on the cell alone, so that a larger comparison finds it again."""
        parts = [_slug(self.method)]
        drawn = self.options["draw"]
        if self.options["method"] != CEILING and drawn != _USUAL_DRAW:
            parts.append(_slug(drawn or "none"))
        parts.append(str(self.seed))
        if self.split_seed is not None:
            parts.append(f"split-{self.split_seed}")
        return "-".join(parts)

    @property
    def axes(self) -> dict[str, Any]:
        """The cell's place in the table."""
        return {"method": self.method, "seed": self.seed, "draw": self.draw, "split_seed": self.split_seed}


def plan(
    methods: Sequence[str],
    seeds: Sequence[int],
    draws: Sequence[str | None],
    splits: Sequence[int | None],
    options: Mapping[str, Any],
) -> Iterator[Cell]:
    """Yield all cells, one seed of everything before the next, so that a table which is stopped early is even.

    Args:
        methods: Registered names, with options as in :func:`parse_method`.
        seeds: Seeds.
        draws: Ways to lose labels.
        splits: Seeds of the split alone, or None.
        options: All other options of :func:`swath.train`.
    """
    parsed = [parse_method(text) for text in methods]
    for split_seed in splits:
        for seed in seeds:
            for draw in draws:
                for label, name, given in parsed:
                    own = {"method": name, "method_options": given or None, "seed": seed}
                    own |= {"split_seed": split_seed, "draw": None if name == CEILING else draw}
                    yield Cell(label, draw, seed, split_seed, {**options, **own})


def parse_method(text: str) -> tuple[str, str, dict[str, Any]]:
    """Return label, name and options of a method as it stands on a command line.

    Args:
        text: ``NAME`` or ``NAME:key=value;key=value``; values are numbers, ``true``, ``false``, ``null`` or words. A
            dot leads into an option that holds options: ``ddsc:base=fixmatch;base_options.thresholds=flexmatch``.

    Raises:
        InputError: Something is not ``key=value``.

    Example:
        >>> parse_method("adagc: start_epoch=10; roll_back=false")
        ('adagc:start_epoch=10;roll_back=false', 'adagc', {'start_epoch': 10, 'roll_back': False})
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    flat: dict[str, Any] = {}
    for part in filter(str.strip, rest.split(";")):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not re.fullmatch(r"\w+(\.\w+)?", key) or key in flat:
            raise InputError(
                f"{text!r} is not a method with options; expected NAME:key=value;key=value, each key once, such as "
                f"adagc:start_epoch=10;roll_back=false."
            )
        flat[key] = _scalar(value, text)
    given: dict[str, Any] = {}
    for key, value in flat.items():
        head, dot, tail = key.partition(".")
        if not dot:
            given[head] = value
        elif isinstance(given.setdefault(head, {}), dict):
            given[head][tail] = value
    label = name + (":" if flat else "") + ";".join(f"{key}={_spelled(value)}" for key, value in flat.items())
    return label, name, given


def data_identity(source: SceneSource) -> dict[str, str]:
    """Return what changes when the images or the labels of a data set do."""
    labels, state = source.labels, hashlib.sha256("\0".join(source.labels.classes).encode())
    further = [labels.columns[name] for name in sorted(labels.columns)]
    for part in (labels.state, labels.confidence, labels.source, labels.votes, labels.scores, *further):
        state.update(b"" if part is None else part.tobytes())
    for name in ("split", "domain", "context", "group"):
        if name in source.columns:
            state.update("\0".join(map(str, source.columns[name])).encode())
    return {"images": source.fingerprint(), "labels": state.hexdigest()[:16]}


def refuse_changed(folder: Path, options: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """Refuse a cell whose run was made with other settings or from other data.

    Args:
        folder: The cell's folder; nothing is refused where there is no run yet.
        options: What this comparison asks for.
        identity: Of the data, from :func:`data_identity`.

    Raises:
        InputError: With every difference.
    """
    from swath.tasks.train import option_defaults
    from swath.training.run import load_run

    if not (folder / "config.yaml").exists():
        return
    defaults, before = option_defaults(), load_run(folder).config
    differing = [
        name
        for name, value in options.items()
        if name not in WITHOUT_EFFECT and before.get(name, defaults.get(name)) != value
    ]
    if differing:
        was = ", ".join(f"{name} = {before.get(name, defaults.get(name))!r}" for name in differing)
        asked = ", ".join(repr(options[name]) for name in differing)
        raise InputError(
            f"{folder} was made with {was}; this comparison asks for {asked}. Name another --out."
        )
    changed = [name for name, value in _kept(folder).get("data", {}).items() if identity.get(name) != value]
    if changed:
        raise InputError(
            f"{folder} was made when {options['data']} had other {' and '.join(changed)} (of image "
            f"files, names, sizes and times are compared). Name another --out, or restore the data; copies keep their "
            f"times with cp -p or rsync -t."
        )


def run_cell(
    folder: Path, options: Mapping[str, Any], identity: Mapping[str, str], source: SceneSource | None = None
) -> dict[str, Any]:
    """Train and judge one cell, or take what is there, and return the figures of its row.

    One cell must not lose the others, whatever goes wrong in it: the row then has the reason under ``error``.

    Args:
        folder: The cell's folder.
        options: The options of its run.
        identity: Of the data, written beside the figures.
        source: The data set; None opens what ``options["data"]`` names.

    Returns:
        The figures, None where undefined; ``seconds``, ``seconds_per_epoch``, ``peak_memory_mb`` and ``error``.
    """
    try:
        kept = _kept(folder)
        if not kept:
            found = _figures(folder, options, source)
            settings = {name: value for name, value in options.items() if name not in WITHOUT_EFFECT}
            kept = {"settings": settings, "data": dict(identity), "found": found}
            _write(folder / "cell.json", kept)
    except SwathError as error:
        return failed_row(str(error))
    except BaseException as error:
        if not isinstance(error, Exception):  # Ctrl-C and the like stop everything
            raise
        # Anything else has a place in the row, and its trace in the log: hours of other cells depend on going on.
        traceback.print_exc(file=sys.stderr)
        return failed_row(f"{type(error).__name__}: {error}")
    return {**dict.fromkeys(FIGURES), **kept["found"], "error": None}


def _figures(folder: Path, options: Mapping[str, Any], source: SceneSource | None) -> dict[str, Any]:
    from swath.tasks.job import remove_unstarted, run_job, start_folder
    from swath.training.run import load_run

    if (folder / "report.html").exists():
        run = load_run(folder)
    else:
        if not (folder / "config.yaml").exists():
            start_folder(folder, options)
        try:
            run = run_job(folder, options, source)
        except SwathError:
            remove_unstarted(folder)
            raise
    seconds = [record["seconds"] for record in run.progress]
    return {
        **{name: run.evaluation.get(name) for name in FIGURES},
        **{f"{name}_last": value for name, value in run.card.get("last_epoch", {}).items()},
        "seconds": round(sum(seconds), 1),
        "seconds_per_epoch": round(statistics.median(seconds), 3) if seconds else None,
        "peak_memory_mb": run.card.get("peak_memory_mb"),
    }


def failed_row(reason: str) -> dict[str, Any]:
    """Return the figures of a cell that has none, with the reason."""
    nothing = dict.fromkeys([*FIGURES, "seconds", "seconds_per_epoch", "peak_memory_mb"])
    return {**nothing, "error": reason}


def _kept(folder: Path) -> dict[str, Any]:
    """Return what a finished cell wrote, or nothing."""
    path = folder / "cell.json"
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {"settings", "data", "found"} <= content.keys():
            return dict(content)
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path} cannot be read: {error}. Remove it; its figures are then taken from the run again."
        ) from error
    raise RunError(
        f"{path} is not what a comparison wrote. Remove it; its figures are then taken from the run again."
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    from swath.files import write_json

    write_json(path, content)


def _scalar(value: str, text: str) -> Any:
    try:
        number = json.loads(value)
    except ValueError as error:
        if re.fullmatch(r"[A-Za-z_][\w.+-]*", value):
            return value
        raise InputError(
            f"{value!r} in {text!r} is no value; expected a number, true, false, null or a word."
        ) from error
    if isinstance(number, dict | list):
        raise InputError(
            f"{value!r} in {text!r} is not a single value; expected a number, true, false, null or a word."
        )
    return number


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _slug(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.")[:60]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
