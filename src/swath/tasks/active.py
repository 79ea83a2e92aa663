"""The closed loop of training and asking, as an experiment on scenes whose labels are all known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from swath.scenes.source import SceneSource

__all__ = ["ActiveLearning", "active_learning"]


@dataclass(frozen=True)
class ActiveLearning:
    """What a closed loop found.

    Args:
        folder: Where ``rounds.json``, the tables ``labelled-N.csv`` and the runs ``round-N`` lie.
        rows: One for each round: ``round``, ``labels`` (labelled scenes), ``share`` of the training part, ``by`` (how
            the last of them were chosen), the figures on the test scenes, ``ratio`` to training with all labels (None
            without it), ``classes`` (labelled scenes that show each class), ``seconds`` of training and ``run``.
        full: The figures of training with all labels, or None.
        table: The rows as text.
    """

    folder: Path
    rows: list[dict[str, Any]]
    full: Mapping[str, Any] | None
    table: str


def active_learning(
    data: str | os.PathLike[str] | SceneSource,
    *,
    out: str | os.PathLike[str],
    by: str = "hssal",
    start: str | int | float = "2%",
    stop: str | int | float = "8%",
    rounds: int = 4,
    first: str | None = None,
    method: str = "fixmatch",
    one_positive: bool = False,
    full: bool = False,
    encoder: str = "scene_mixer",
    size: int = 64,
    epochs: int = 30,
    batch_size: int = 64,
    seed: int = 0,
    test_share: float = 0.2,
    block_size: float | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    schedule: Literal["cosine", "constant"] = "cosine",
    warmup_epochs: float = 1.0,
    clip_norm: float | None = None,
    augment: str = "flips,turns",
    precision: Literal["no", "bf16", "fp16"] = "no",
    pretrained: bool = False,
    encoder_from: str | None = None,
    method_options: dict[str, Any] | None = None,
    image_column: str | None = None,
    label_columns: str | None = None,
    domain_column: str | None = None,
    context_column: str | None = None,
    complete: bool = False,
    images: str | None = None,
    nodata: float | None = None,
    skip_unreadable: bool = False,
) -> ActiveLearning:
    """Find out what a way to ask is worth: hide the training labels, and reveal in rounds those that are asked for.

    Each round trains a network from scratch on what is labelled so far, as ``swath train`` does, judges it on the test
    scenes, and asks with it which scenes to label for the next. Called again after an interruption it goes on where it
    was. Test scenes choose nothing, and no validation scenes are used.

    Args:
        data: A folder, table, zip, name such as ``earth:...``, or an open source; all training scenes are labelled.
        out: The experiment's folder.
        by: ``random``, ``entropy``, ``margin``, ``coreset``, ``badge`` or ``hssal``.
        start: Labelled scenes of the first round: a number, or a percentage or share of the training part.
        stop: Labelled scenes of the last round.
        rounds: Trainings; each but the first asks for an equal part of what lies between ``start`` and ``stop``.
        first: How the first scenes are chosen, with the encoder as it is before training: ``random``, ``coreset`` or
            ``hssal``; if None, as ``by`` if that is one of them, else ``random``.
        method: A registered method. ``fixmatch`` trains itself on scenes without labels; with its weight at 0 it
            draws and averages alike and does not.
        one_positive: An answer is one present class, drawn at random, and the rest of the scene stays unknown: for
            multi-label data and methods such as ``adagc``.
        full: Train with all labels too, once (``cross-entropy`` or ``all-known``), and say the ratio to it.
        encoder: The encoder of all runs.
        size: Height and width in pixels to which images are resized.
        epochs: Passes in each round over as many scenes as the training part has.
        batch_size: Scenes in a step.
        seed: The one seed; split, questions, weights and order follow from it.
        test_share: Share of the scenes for the test, if the data has no ``split`` column.
        block_size: Edge of square blocks of ground, in CRS units, that stay on one side of the split.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay.
        schedule: ``cosine`` falls to zero, ``constant`` stays.
        warmup_epochs: Epochs of linear rise at the start.
        clip_norm: Largest gradient norm.
        augment: Comma-separated augmentations.
        precision: ``no`` (float32), ``bf16`` or ``fp16``.
        pretrained: Start from published weights (timm encoders).
        encoder_from: A run with the same encoder and bands, whose encoder's weights are started from.
        method_options: Constants of the method, by name.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        domain_column: Column that says which sensor, season or city a scene is from; if None, ``domain``.
        context_column: Column with each scene's own class; if None, ``context``.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        skip_unreadable: Leave out images that cannot be read.

    Returns:
        Folder, rows and table. ``out/rounds.json`` holds the rows, rewritten after each round.

    Raises:
        InputError: An option is out of its range, or ``out`` holds an experiment with other settings or data.
        UnknownNameError: There is no such strategy or method.
        LabelError: Some training scenes have no label that could be revealed.
        RunError: A round cannot be trained.

    Source:
        The loop, with four equal rounds, follows our reading of HSSAL (arXiv 2511.18058).

    Example:
        >>> import tempfile
        >>> options = {"start": 10, "stop": 20, "rounds": 2, "size": 16, "epochs": 1}
        >>> found = active_learning("earth:scenes=60,size=16", out=tempfile.mkdtemp(), by="random", **options)
        >>> [row["labels"] for row in found.rows]
        [10, 20]
    """
    own = {"data", "out", "by", "start", "stop", "rounds", "first", "one_positive", "full", "own"}
    encoder_from = None if encoder_from is None else os.path.abspath(encoder_from)
    options = {name: value for name, value in locals().items() if name not in own}
    from swath.tasks.loop import Experiment

    experiment = Experiment.begin(
        data,
        Path(out),
        options,
        by=by,
        first=first,
        start=start,
        stop=stop,
        rounds=rounds,
        one_positive=one_positive,
    )
    rows, reference = experiment.run(full=full)
    return ActiveLearning(experiment.folder, rows, reference, experiment.table(rows))
