"""From scenes with missing labels to a model, its evidence and its predictions."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swath.errors import RunError, SwathError

# What is slow to import (torch) is imported when it is used, so that `swath train --help` answers at once.
if TYPE_CHECKING:
    from swath.encoders import SceneModel
    from swath.scenes.source import SceneSource
    from swath.training.run import Run

__all__ = ["option_defaults", "resume", "train"]


def train(
    data: str | os.PathLike[str] | SceneSource,
    *,
    out: str | os.PathLike[str],
    method: str = "adagc",
    encoder: str = "scene_mixer",
    size: int = 64,
    epochs: int = 30,
    batch_size: int = 64,
    seed: int = 0,
    split_seed: int | None = None,
    labelled: str | None = None,
    draw: str | None = None,
    test_share: float = 0.2,
    block_size: float | None = None,
    near_duplicates: str = "ignore",
    only: str | None = None,
    validation_share: float = 0.0,
    validation_labels: Literal["observed", "clean"] = "observed",
    patience: int | None = None,
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
    tensorboard: bool = False,
    record_dynamics: bool = False,
    model: SceneModel | None = None,
) -> Run:
    """Train a model on scenes whose labels may be missing, judge it on test scenes and write a report.

    Test scenes come from the data's ``split`` column if it has one, else from ``test_share``, stratified and
    seeded. Their labels are used at the end only. The last epoch is kept unless ``validation_share`` is set.

    Args:
        data: A folder of classes, a table, a zip of either, ``earth:...``, ``torchgeo:...``, or an open source.
        out: The run's folder; it must not exist yet.
        method: A registered method; ``swath methods`` lists them.
        encoder: ``scene_mixer`` or the name of any timm model; ``swath encoders`` lists them.
        size: Height and width in pixels to which images are resized once.
        epochs: Passes over the training scenes.
        batch_size: Scenes in a step.
        seed: The one seed; split, label draw, weights, order and augmentation follow from it.
        split_seed: Seed of the split alone, so that it stays while all else changes, or the reverse; if None, ``seed``.
        labelled: A table of the training scenes whose labels may be used, with the columns ``row`` and ``scene`` as
            ``swath active`` writes them; all others are unknown. A column ``class`` leaves each that one class.
        draw: How to lose labels of the training scenes, such as ``single-positive-random``; None keeps them.
        test_share: Share of the scenes for the test, if there is no ``split`` column.
        block_size: Edge of square blocks of ground, in CRS units, that stay on one side of the split.
        near_duplicates: ``apart`` keeps scenes that show nearly the same on one side of the split; so does a file that
            ``swath duplicates`` wrote, with the groups it lists.
        only: A selection that ``swath select`` wrote: of the training scenes, only those it keeps are trained on. Test
            and validation scenes stay as they are, and labels are lost as if all were trained on.
        validation_share: Share of the training scenes held back to choose the epoch to keep; 0 keeps the last.
        validation_labels: ``observed``: the choice sees only labels as incomplete as those of the training;
            ``clean``: it sees all labels there are, which the report then says.
        patience: Stop after so many epochs without a better validation score.
        learning_rate: Largest learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        schedule: ``cosine`` falls to zero, ``constant`` stays.
        warmup_epochs: Epochs of linear rise at the start.
        clip_norm: Largest gradient norm.
        augment: Comma-separated: ``flips``, ``turns``, ``shifts``, ``crops``, ``jitter``; empty for none.
        precision: ``no`` (float32), ``bf16`` or ``fp16``.
        pretrained: Start from published weights (timm encoders; downloaded once).
        encoder_from: A run with the same encoder and bands, whose encoder's weights are started from.
        method_options: Constants of the method, by name.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        domain_column: Column that says which sensor, season or city a scene is from; if None, ``domain``.
        context_column: Column with each scene's own class, beside the labels of what is in it; if None, ``context``.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        skip_unreadable: Leave out images that cannot be read, and list them, instead of stopping.
        tensorboard: Write TensorBoard files into the run (needs ``swath[tensorboard]``).
        record_dynamics: Record what the training shows of each scene in each epoch; ``swath select`` can choose by it.
        model: A model to train in place of a new one of ``encoder`` (Python only).

    Returns:
        The run; ``run.evaluation`` holds the figures, ``run.folder / "report.html"`` the report.

    Raises:
        InputError: An option or the data is not usable.
        OutputError: ``out`` exists or cannot be written.
        SceneError: An image cannot be read.

    Example:
        >>> import tempfile
        >>> run = train(
        ...     "earth:scenes=48,size=16",
        ...     out=tempfile.mkdtemp() + "/run",
        ...     method="assume-negative",
        ...     draw="single-positive-random",
        ...     size=16,
        ...     epochs=1,
        ... )
        >>> run.evaluation["kind"]
        'multi-label'
    """
    options = {name: value for name, value in locals().items() if name not in ("model", "data", "out")}
    from swath.tasks.job import remove_unstarted, run_job, start_folder

    source = None if isinstance(data, str | os.PathLike) else data
    where = source.name if source is not None else str(data)
    # The run must be repeatable from any folder.
    options = {"data": os.path.abspath(where) if os.path.exists(where) else where, **options}
    options["only"] = None if only is None else os.path.abspath(only)
    options["encoder_from"] = None if encoder_from is None else os.path.abspath(encoder_from)
    options["labelled"] = None if labelled is None else os.path.abspath(labelled)
    if near_duplicates not in ("ignore", "apart") and os.path.isfile(near_duplicates):
        options["near_duplicates"] = os.path.abspath(near_duplicates)
    if model is not None:
        options |= {"encoder": model.name, "size": model.size}
    start_folder(Path(out), options)
    try:
        return run_job(Path(out), options, source, model)
    except SwathError:
        remove_unstarted(Path(out))
        raise


def resume(run: str | os.PathLike[str], data: SceneSource | None = None) -> Run:
    """Go on with a run where it was interrupted, with the options it was started with.

    Args:
        run: The run's folder.
        data: The data set, if the run was started in Python on one that has no path.

    Returns:
        The finished run. Its weights are those of an uninterrupted run, bit for bit on the CPU.

    Raises:
        RunError: There is no run, or its files are damaged.
    """
    from swath.tasks.job import run_job
    from swath.training.run import load_run

    started = load_run(run)
    options = {name: value for name, value in started.config.items() if name != "out"}
    expected = {"data", *option_defaults()}
    if set(options) != expected:
        raise RunError(
            f"{started.folder / 'config.yaml'} does not hold the options of a run: missing "
            f"{sorted(expected - set(options))}, not expected {sorted(set(options) - expected)}."
        )
    return run_job(started.folder, options, data, None)


def option_defaults() -> dict[str, Any]:
    """Return the options of :func:`train` that can be repeated from a file, with their defaults."""
    parameters = inspect.signature(train).parameters
    return {name: entry.default for name, entry in parameters.items() if name not in ("data", "out", "model")}
