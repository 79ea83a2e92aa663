"""Judging a run and writing down why to believe it: ``evaluation.json`` and ``report.html``."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from swath.evaluation.evaluate import evaluate_probability
from swath.evaluation.report import DataFacts, Evidence, write_report
from swath.files import write_json
from swath.labels import LabelTable, is_known, is_present, is_unknown
from swath.scenes.contract import BandContract
from swath.scenes.packed import PackedScenes
from swath.scenes.picture import display_bands, stretched
from swath.tasks.prepare import Prepared
from swath.training.predict import probabilities
from swath.training.run import Run

__all__ = ["judge", "thumbnail", "write_evidence"]


def write_evidence(
    run: Run, prepared: Prepared, *, threshold: float = 0.5, draws: int = 1000
) -> dict[str, Any]:
    """Predict the run's test and training scenes, write ``evaluation.json`` and then ``report.html``.

    Args:
        run: A run with a trained model.
        prepared: Its data.
        threshold: Probability from which a class counts as predicted.
        draws: Bootstrap draws for the intervals.

    Returns:
        What ``evaluation.json`` holds.
    """
    model = run.model
    parts = prepared.parts
    train, test = parts["train"], parts["test"]
    test_labels = prepared.truth.take(test)
    test_probability = probabilities(model, prepared.read, test)
    train_probability = probabilities(model, prepared.read, train)
    evaluation = judge(run, test_labels, test_probability, prepared.source.name, threshold, draws)
    truth = prepared.truth.take(train)
    hidden = is_known(truth.state) & is_unknown(prepared.labels.state)
    evidence = Evidence(
        title=f"{run.config['method']} on {prepared.source.name}",
        classes=prepared.truth.classes,
        exclusive=prepared.truth.exclusive,
        data=_facts(run.config, prepared),
        train_state=prepared.labels.state,
        train_truth=truth.state if hidden.any() else None,
        train_probability=train_probability,
        test_state=test_labels.state,
        test_probability=test_probability,
        evaluation=evaluation,
        progress=run.progress,
        method=run.card["method"],
        config=run.config,
        command=_command(run.config),
        selection=_selection(run.config, len(parts["validation"]), run.card.get("last_epoch", {})),
        thumbnails=lambda part, row: thumbnail(prepared.store, prepared.contract, int(parts[part][row])),
    )
    write_report(run.folder, evidence)
    return evaluation


def judge(
    run: Run,
    labels: LabelTable,
    probability: npt.NDArray[np.float32],
    data: str,
    threshold: float,
    draws: int,
) -> dict[str, Any]:
    """Compare probabilities with what is known and write ``evaluation.json``."""
    evaluation = evaluate_probability(
        labels.state,
        probability,
        labels.classes,
        labels.exclusive,
        threshold=threshold,
        seed=run.config["seed"],
        draws=draws,
        train_present=_train_present(run, labels.classes),
    )
    evaluation = {"data": data, **evaluation}
    write_json(run.folder / "evaluation.json", evaluation)
    return evaluation


def _train_present(run: Run, classes: Sequence[str]) -> list[int]:
    """Count, as the run recorded it, in how many training scenes the method knew each class to be present."""
    trained = run.scenes[run.scenes["part"] == "train"]
    return [int(is_present(trained[f"label:{name}"].to_numpy()).sum()) for name in classes]


def thumbnail(store: PackedScenes, contract: BandContract, row: int) -> npt.NDArray[np.uint8]:
    """Return a picture (height, width, 3) of a scene: true colour where the bands have it, else the first bands."""
    image = store.read(np.array([row]))[0].astype(np.float32)
    chosen = display_bands(store.contract.names)
    picture = image[chosen]
    if store.dtype == np.uint8:
        return np.ascontiguousarray(picture.transpose(1, 2, 0)).astype(np.uint8)
    valid = store.contract.valid(picture)
    # Stretched by the statistics of all training scenes, so that dark scenes look dark.
    scale, offset = np.asarray(contract.scale)[chosen], np.asarray(contract.offset)[chosen]
    mean, std = np.asarray(contract.mean)[chosen], np.asarray(contract.std)[chosen]
    units = picture * scale[:, None, None] + offset[:, None, None]
    return stretched(units, valid, mean, std)


def _facts(config: Mapping[str, Any], prepared: Prepared) -> DataFacts:
    contract, notes, parts = prepared.contract, prepared.notes, prepared.parts
    names = [prepared.source.describe(int(row)) for row in prepared.store.kept]
    return DataFacts(
        name=prepared.source.name,
        scenes=len(prepared.store),
        train=len(parts["train"]),
        test=len(parts["test"]),
        validation=len(parts["validation"]),
        image_size=(config["size"], config["size"]),
        bands=contract.names,
        gsd_m=contract.gsd_m,
        unreadable=[(entry["name"], entry["reason"]) for entry in notes["unreadable"]],
        crossing_duplicates=[[names[row] for row in group] for group in notes["duplicates"]],
        split=notes["split"],
        label_loss=_said(notes["lost"]),
    )


def _said(lost: Mapping[str, Any]) -> str:
    if not lost:
        return ""
    text = f"{lost['how']}, seed {lost['seed']}: of {lost['present_before']:,} present and "
    text += f"{lost['absent_before']:,} absent labels, {lost['present_after']:,} and {lost['absent_after']:,} are "
    text += "known to the method"
    return text + (f"; {lost['wrong']} of them are wrong" if lost["wrong"] else "")


def _command(config: Mapping[str, Any]) -> str:
    """Return a command that repeats the run, with what differs from the defaults."""
    from swath.tasks.train import option_defaults

    words = ["swath", "train", str(config["data"])]
    for name, default in option_defaults().items():
        value = config.get(name, default)
        if value == default and name not in ("method", "encoder", "size", "epochs", "seed"):
            continue
        flag = f"--{name.replace('_', '-')}"
        word = value if isinstance(value, str) else _on_one_line(value)
        words += [f"{flag}={word}"] if word.startswith(("-", "{")) else [flag, word]
    return shlex.join([*words, "--out", "RUN"])


def _on_one_line(value: Any) -> str:
    """Return a number, a boolean, None or a dictionary as the command line reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").strip()


def _selection(config: Mapping[str, Any], scenes: int, last_epoch: Mapping[str, float]) -> str:
    if not scenes:
        return "The weights of the last epoch were kept. No validation scenes were used."
    figures = ", ".join(f"{name} {value:.4f}" for name, value in last_epoch.items())
    said = f" The last epoch's network has, on the test scenes: {figures}." if figures else ""
    return _chosen_on(config, scenes) + said


def _chosen_on(config: Mapping[str, Any], scenes: int) -> str:
    if config["validation_labels"] == "clean":
        return (
            f"The epoch was chosen on {scenes} validation scenes with all their labels. This looked at clean labels "
            f"that a user with labels like those of the training would not have."
        )
    return (
        f"The epoch was chosen on {scenes} validation scenes whose labels are as incomplete as those of the training; "
        f"no clean labels were looked at."
    )
