"""The work behind ``swath train``: check the options, train, judge, keep."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import yaml
from accelerate import PartialState
from torch import nn

from swath.encoders import SceneModel, build_model
from swath.errors import InputError, LabelError, MissingExtraError, OutputError
from swath.evaluation.metrics import Measures, average_precision
from swath.files import write_text, writing
from swath.labels import UNKNOWN, is_known, is_present, is_unknown
from swath.labels.losing import check_way, lose
from swath.methods import METHODS, Method, make_method
from swath.scenes.contract import BandContract
from swath.scenes.source import SceneSource
from swath.selection.file import read_selection
from swath.tasks.evidence import write_evidence
from swath.tasks.labelled import only_labelled, read_labelled
from swath.tasks.prepare import Prepared, prepare
from swath.training.checkpoint import Shelf, load_module
from swath.training.dynamics import Recorded, check_recordable
from swath.training.loop import fit, make_accelerator
from swath.training.memory import peak_memory
from swath.training.predict import probabilities
from swath.training.run import Run, load_run, save_model
from swath.training.settings import Settings

__all__ = ["check_options", "new_model", "remove_unstarted", "run_job", "start_folder"]

OnEpoch = Callable[[Method, nn.Module, dict[str, Any]], None]


def start_folder(folder: Path, options: Mapping[str, Any]) -> None:
    """Check every option that can be checked without data, then make the run's folder with its ``config.yaml``.

    Raises:
        InputError: An option is out of its range or unknown.
        OutputError: The folder exists or cannot be written.
    """
    check_options(options)
    state = make_accelerator(options["precision"])
    with state.main_process_first():
        if not state.is_main_process:
            return
        # A hidden file is what a process left that was killed while it wrote the first one.
        if folder.exists() and (
            not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())
        ):
            raise OutputError(
                f"{folder} exists already. Name another folder with --out, or go on with it: "
                f"swath train --resume {shlex.quote(str(folder))}"
            )
        write_text(
            folder / "config.yaml",
            yaml.safe_dump({**options, "out": str(folder)}, sort_keys=False, allow_unicode=True),
        )


def run_job(
    folder: Path, options: Mapping[str, Any], data: SceneSource | None = None, model: SceneModel | None = None
) -> Run:
    """Train from the start or from the folder's checkpoint, then evaluate; what is done already is not done again.

    Args:
        folder: The run's folder, with its ``config.yaml``.
        options: The options of :func:`swath.train`.
        data: The data set, if ``options["data"]`` does not name it.
        model: The model to train, if it is not to be built from the options.

    Returns:
        The finished run.
    """
    accelerator = make_accelerator(options["precision"])
    with accelerator.main_process_first():  # one packs the scenes, the others find them packed
        prepared = prepare(options, data)
    if not (folder / "model.safetensors").exists():
        method = _method(options)
        model = _model(options, prepared, model)
        recorded = Recorded(method) if options["record_dynamics"] else None
        if accelerator.is_main_process:
            _write_scenes(folder, prepared)
        with (
            _naming_what_fits(options["method"], method, prepared),
            _tensorboard(folder, enabled=options["tensorboard"] and accelerator.is_main_process) as show,
            peak_memory(accelerator.device) as memory,
        ):
            validate = _validator(options, prepared)
            last: dict[str, Any] = {}
            kept, history = fit(
                model,
                recorded or method,
                prepared.read,
                prepared.parts["train"],
                prepared.labels,
                _settings(options),
                folder,
                accelerator=accelerator,
                validate=validate,
                on_epoch=_recorder(prepared, show, folder if accelerator.is_main_process else None),
                on_last=_last_judge(prepared, last) if validate and accelerator.is_main_process else None,
            )
        if accelerator.is_main_process:
            if recorded:
                recorded.gather(folder, len(history))
            notes = {
                "method": {"name": options["method"], **method.report()},
                "lost": prepared.notes["lost"],
                "split": prepared.notes["split"],
                "peak_memory_mb": memory(),
                **({"last_epoch": last} if last else {}),
                **({"only": prepared.notes["only"]} if options["only"] else {}),
            }
            save_model(cast(SceneModel, kept).cpu(), folder, notes)
    run = load_run(folder)
    if accelerator.is_main_process:
        if not (folder / "report.html").exists():
            write_evidence(run, prepared)
        Shelf(folder).clear()
        Recorded.clear(folder)
    accelerator.wait_for_everyone()
    return run


def remove_unstarted(folder: Path) -> None:
    """Remove a new run's folder if it failed before its first epoch ended, so that its place is free again."""
    if not PartialState().is_main_process or (folder / "checkpoint.safetensors").exists():
        return
    for name in ("config.yaml", "scenes.parquet", "progress.jsonl"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody put a file of their own into it
        folder.rmdir()


def check_options(options: Mapping[str, Any]) -> None:
    """Check every option that can be checked without data.

    Raises:
        InputError: An option is out of its range or unknown.
    """
    method = _method(options)
    if options["record_dynamics"]:
        check_recordable(method, options["method"])
    how = options["near_duplicates"]
    if how not in ("ignore", "apart") and not os.path.isfile(how):
        raise InputError(
            f"near_duplicates is {how!r}; expected 'ignore', 'apart', or a file that `swath duplicates --out` wrote."
        )
    if options["only"]:
        read_selection(options["only"])  # refused now, not after an hour of packing
    _settings(options)
    if options["draw"]:
        check_way(options["draw"])
    if options["encoder_from"]:
        if options["pretrained"]:
            raise InputError("pretrained and encoder_from are two ways to begin; give one of them.")
        load_run(options["encoder_from"])
    if options["size"] < 1:
        raise InputError(f"size is {options['size']}; expected the images' height and width in pixels.")
    if options["split_seed"] is not None and options["split_seed"] < 0:
        raise InputError(
            f"split_seed is {options['split_seed']}; expected 0 or more, or None for the seed's own."
        )
    for name in ("test_share", "validation_share"):
        if not 0 <= options[name] < 1:
            raise InputError(f"{name} is {options[name]}; expected a share from 0 up to, not including, 1.")
    if options["patience"] is not None and options["validation_share"] == 0:
        raise InputError("patience needs scenes to watch: set validation_share above 0.")


def _method(options: Mapping[str, Any]) -> Method:
    return make_method(options["method"], options["method_options"] or {})


def _settings(options: Mapping[str, Any]) -> Settings:
    values = {field.name: options[field.name] for field in dataclasses.fields(Settings)}
    values["augment"] = tuple(name.strip() for name in options["augment"].split(",") if name.strip())
    return Settings(**values)


@contextlib.contextmanager
def _naming_what_fits(name: str, method: Method, prepared: Prepared) -> Iterator[None]:
    """Refuse labels that the method is not for; whatever refuses them, before or at its start, also name what fits."""
    labels = prepared.labels
    try:
        reason = method.refusal(labels)
        if reason is not None:
            raise LabelError(f"{name} cannot learn from {prepared.source.name}: {reason}.")
        yield
    except LabelError as error:
        others = [
            other for other in sorted(METHODS) if other != name and METHODS[other].refusal(labels) is None
        ]
        raise LabelError(f"{error} Methods for such labels: {', '.join(others) or 'none'}.") from error


def _model(options: Mapping[str, Any], prepared: Prepared, model: SceneModel | None) -> SceneModel:
    if model is None:
        return new_model(options, prepared.contract)
    model.contract.order_of(prepared.contract.names, what=prepared.source.name)
    if model.contract.classes != prepared.contract.classes:
        raise InputError(
            f"The model has the classes {', '.join(model.contract.classes)}; the data has "
            f"{', '.join(prepared.contract.classes)}. Build the model with the data's classes, in their order."
        )
    model.contract = prepared.contract
    return model


def new_model(options: Mapping[str, Any], contract: BandContract) -> SceneModel:
    """Return the model as it is before training: with initial, published or another run's weights.

    Args:
        options: The options of :func:`swath.train`.
        contract: The bands and classes of the data.

    Raises:
        InputError: The run that ``encoder_from`` names has another encoder or other bands.
        RunError: It is no run.
    """
    names = ("size", "pretrained", "seed")
    model = build_model(options["encoder"], contract, **{name: options[name] for name in names})
    if options["encoder_from"] is None:
        return model
    given = load_run(options["encoder_from"])
    asked = f"{model.name} with the bands {', '.join(contract.names)}"
    found = f"{given.model.name} with the bands {', '.join(given.model.contract.names)}"
    if asked != found:
        raise InputError(
            f"encoder_from is {given.folder}, which has {found}; this training has {asked}. Name a run with the same "
            f"encoder and the same bands in the same order."
        )
    load_module(model.encoder, given.model.encoder.state_dict(), what=str(given.folder))
    return model


def _validator(options: Mapping[str, Any], prepared: Prepared) -> Callable[[nn.Module], float] | None:
    """Return what scores a network on the validation scenes, or None where there are none."""
    rows = prepared.parts["validation"]
    if not len(rows):
        return None
    observed = options["validation_labels"] == "observed"
    labels = prepared.truth.take(rows)
    if observed and options["labelled"]:
        kept, source = prepared.store.kept, prepared.source
        table = read_labelled(options["labelled"], source)
        labels = only_labelled(labels, kept[rows], table, kept[prepared.parts["train"]])
        answered = is_known(labels.state).any(axis=1)
        if not answered.any():
            raise InputError(
                f"{options['labelled']} names none of the {len(rows)} validation scenes, so they cannot choose an "
                f"epoch. Label some of them, or leave validation_share out."
            )
        rows, labels = rows[answered], labels.take(answered)
    if observed and options["draw"]:
        labels = lose(labels, options["draw"], options["seed"] + 1, area=prepared.area(rows))

    def score(network: nn.Module) -> float:
        probability = probabilities(cast(SceneModel, network), prepared.read, rows)
        if labels.exclusive:
            known = labels.class_index >= 0
            return float((probability.argmax(axis=1) == labels.class_index)[known].mean())
        # Positives alone rank nothing; all that nobody named stands on the other side, for choosing only.
        state = is_present(labels.state).astype(np.int8) if observed else labels.state
        return float(np.nanmean(average_precision(state, probability)))

    return score


def _last_judge(prepared: Prepared, found: dict[str, Any]) -> Callable[[nn.Module], None]:
    """Return what measures the last epoch's network on the test scenes, so that what the choice brought can be said."""

    def judge(network: nn.Module) -> None:
        rows = prepared.parts["test"]
        measures = Measures(
            prepared.truth.take(rows), probabilities(cast(SceneModel, network), prepared.read, rows)
        ).value()
        names = ("overall_accuracy" if prepared.truth.exclusive else "map_macro", "f1_macro")
        found.update({name: float(measures[name]) for name in names if np.isfinite(measures[name])})

    return judge


def _recorder(prepared: Prepared, show: OnEpoch | None, folder: Path | None) -> OnEpoch:
    """Return what adds to each epoch's record how much of the hidden truth is in the method's memory.

    Only methods that remember a probability for each scene have this curve: others would need another pass over
    all training scenes. It is written down; nothing is decided by it. Training dynamics, if they are recorded, go
    into ``folder``, on the process that writes.
    """
    truth = prepared.truth.take(prepared.parts["train"])
    hidden = np.where(is_unknown(prepared.labels.state), truth.state, np.int8(UNKNOWN))
    there = is_present(hidden)

    def on_epoch(method: Method, network: nn.Module, record: dict[str, Any]) -> None:
        if isinstance(method, Recorded):
            if folder is not None:
                method.keep(folder, record["epoch"])
            method = method.base
        remembered = getattr(method, "predictions", None)
        if callable(remembered) and there.any():
            probability = remembered().detach().float().cpu().numpy()
            precision = average_precision(hidden, probability)
            if not np.isnan(precision).all():
                record["recovery_map"] = round(float(np.nanmean(precision)), 5)
            claimed = is_known(hidden) & (probability >= 0.5)
            found = int((claimed & there).sum())
            record["recovery_f1"] = round(2 * found / int(claimed.sum() + there.sum()), 5)
        if show is not None:
            show(method, network, record)

    return on_epoch


def _write_scenes(folder: Path, prepared: Prepared) -> None:
    """Record which scene was in which part and which labels the method got, so that a report draws nothing again.

    What each source said is left out: a report shows the labels, and a resumed training prepares its data anew.
    """
    part = np.full(len(prepared.store), "", object)
    for name, rows in prepared.parts.items():
        part[rows] = name
    given = np.full(prepared.truth.state.shape, UNKNOWN, np.int8)
    given[prepared.parts["train"]] = prepared.labels.state
    kept = prepared.store.kept
    columns = {"row": kept, "scene": [prepared.source.describe(int(row)) for row in kept], "part": part}
    columns |= {f"label:{name}": given[:, column] for column, name in enumerate(prepared.truth.classes)}
    with writing(folder / "scenes.parquet") as temporary:
        pd.DataFrame(columns).to_parquet(temporary, index=False)


@contextlib.contextmanager
def _tensorboard(folder: Path, *, enabled: bool) -> Iterator[OnEpoch | None]:
    if not enabled:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "tensorboard=True needs TensorBoard: pip install 'swath[tensorboard]'."
        ) from error
    with SummaryWriter(str(folder / "tensorboard")) as writer:

        def on_epoch(method: Method, network: nn.Module, record: dict[str, Any]) -> None:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "epoch":
                    writer.add_scalar(name, value, record["epoch"])
            writer.flush()

        yield on_epoch
