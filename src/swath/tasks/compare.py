"""Methods, seeds, label budgets, kinds of noise and splits on one data set, in one table with what it proves."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swath.errors import InputError, RunError

if TYPE_CHECKING:
    from swath.scenes.source import SceneSource
    from swath.tasks.cells import Cell

__all__ = ["Comparison", "compare", "compare_runs"]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        folder: Where it lies: ``summary.json``, the page ``comparison.html`` and one run for each cell.
        rows: One for each cell: ``method``, ``seed``, ``draw``, ``split_seed``, the figures, ``seconds``,
            ``seconds_per_epoch``, ``peak_memory_mb``, ``error`` (why the cell has no figures, or None) and ``run``.
        table: Means and spreads over the runs, as text.
        findings: What the tests say, what failed and why, in sentences.
    """

    folder: Path
    rows: list[dict[str, Any]]
    table: str
    findings: Sequence[str] = ()

    @property
    def report(self) -> Path:
        """The page with the bars."""
        return self.folder / "comparison.html"


def compare(
    data: str | os.PathLike[str] | SceneSource,
    *,
    out: str | os.PathLike[str],
    methods: str | Sequence[str] = "all-known,assume-negative,adagc",
    seeds: str | Sequence[int] = "0,1,2",
    draws: str | Sequence[str | None] = "single-positive-random",
    splits: str | Sequence[int] | None = None,
    workers: int = 1,
    encoder: str = "scene_mixer",
    size: int = 64,
    epochs: int = 30,
    batch_size: int = 64,
    test_share: float = 0.2,
    block_size: float | None = None,
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
    image_column: str | None = None,
    label_columns: str | None = None,
    domain_column: str | None = None,
    context_column: str | None = None,
    complete: bool = False,
    images: str | None = None,
    nodata: float | None = None,
    skip_unreadable: bool = False,
) -> Comparison:
    """Train every method with every seed, draw and split on the same scenes and say which differences are real.

    ``all-known`` is the ceiling: it is given every label, whatever a draw loses for the others. Each cell is a run
    of its own in ``out``; called again, finished cells are taken as they are, interrupted ones go on and failed ones
    are tried again. A cell that fails has its reason in the table and does not stop the others.

    Args:
        data: A folder, table, zip, name such as ``earth:...``, or an open source (with one worker).
        out: The comparison's folder.
        methods: Registered names, comma-separated; ``NAME:key=value;key=value`` gives a method options.
        seeds: Seeds, comma-separated; label draw, weights, order and (without ``splits``) the split follow from each.
        draws: Label budgets and kinds of noise, comma-separated: ways to lose labels of the training scenes, each as
            for ``--draw`` of ``swath train``; ``none`` keeps all.
        splits: Seeds of the split alone, comma-separated; each is combined with each seed.
        workers: Cells that are trained at the same time, in processes of their own.
        encoder: The encoder of all runs.
        size: Height and width in pixels to which images are resized.
        epochs: Passes over the training scenes.
        batch_size: Scenes in a step.
        test_share: Share of the scenes for the test, if the data has no ``split`` column.
        block_size: Edge of square blocks of ground, in CRS units, that stay on one side of the split.
        validation_share: Share of the training scenes held back to choose the epoch to keep; 0 keeps the last.
        validation_labels: ``observed`` or ``clean`` labels for that choice, as for :func:`swath.train`.
        patience: Stop after so many epochs without a better validation score.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay.
        schedule: ``cosine`` falls to zero, ``constant`` stays.
        warmup_epochs: Epochs of linear rise at the start.
        clip_norm: Largest gradient norm.
        augment: Comma-separated augmentations.
        precision: ``no`` (float32), ``bf16`` or ``fp16``.
        pretrained: Start from published weights (timm encoders).
        encoder_from: A run with the same encoder and bands, whose encoder's weights are started from.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        domain_column: Column that says which sensor, season or city a scene is from; if None, ``domain``.
        context_column: Column with each scene's own class; if None, ``context``.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        skip_unreadable: Leave out images that cannot be read.

    Returns:
        Folder, rows, table and findings. ``out/summary.json`` holds ``{"rows": [...]}``.

    Raises:
        InputError: There is no method or seed, an option is out of its range, or a finished run in ``out`` was made
            with other settings or data.
        UnknownNameError: There is no such method, or it has no such option.
        RunError: Every cell failed, or the processes cannot start.

    Example:
        >>> import tempfile
        >>> comparison = compare(
        ...     "earth:scenes=48,size=16",
        ...     out=tempfile.mkdtemp(),
        ...     methods="assume-negative",
        ...     seeds="0",
        ...     size=16,
        ...     epochs=1,
        ... )
        >>> [(row["method"], row["seed"]) for row in comparison.rows]
        [('assume-negative', 0)]
    """
    axes = {"data", "out", "methods", "seeds", "draws", "splits", "workers"}
    encoder_from = None if encoder_from is None else os.path.abspath(encoder_from)
    options = {name: value for name, value in locals().items() if name not in axes and name != "axes"}
    return compare_runs(data, Path(out), methods, seeds, options, draws=draws, splits=splits, workers=workers)


def compare_runs(
    data: str | os.PathLike[str] | SceneSource,
    folder: Path,
    methods: str | Sequence[str],
    seeds: str | Sequence[int],
    options: Mapping[str, Any],
    *,
    draws: str | Sequence[str | None] = "single-positive-random",
    splits: str | Sequence[int] | None = None,
    workers: int = 1,
) -> Comparison:
    """Do the work of :func:`compare` with any options of :func:`swath.train`."""
    from swath.evaluation.report import comparison_findings, comparison_table, write_comparison
    from swath.files import write_json
    from swath.tasks.cells import data_identity, plan, refuse_changed
    from swath.tasks.job import check_options
    from swath.tasks.prepare import open_source
    from swath.tasks.train import option_defaults

    source = None if isinstance(data, str | os.PathLike) else data
    where = str(data) if source is None else source.name
    if workers < 1 or (workers > 1 and source is not None):
        raise InputError(
            f"workers is {workers}; expected 1 or more, and 1 for a data set that was opened before: other processes "
            f"open it again, by its path or name."
        )
    # All that can be wrong is said before the first training, not after it.
    every = {
        **option_defaults(),
        **options,
        "data": os.path.abspath(where) if os.path.exists(where) else where,
    }
    cells = list(plan(*_axes(methods, seeds, draws, splits), every))
    runs = {cell.name: cell for cell in cells}
    for cell in runs.values():
        check_options(cell.options)
    source = open_source(every) if source is None else source
    identity = data_identity(source)
    for cell in runs.values():
        refuse_changed(folder / cell.name, cell.options, identity)
    found: dict[str, dict[str, Any]] = {}
    with contextlib.closing(_run(list(runs.values()), folder, identity, source, workers)) as finished:
        for number, (name, row) in enumerate(finished, 1):
            found[name] = row
            write_json(folder / "summary.json", {"rows": _rows(cells, folder, found)})
            _say(number, len(runs), runs[name], row)
    rows = _rows(cells, folder, found)
    if all(row["error"] for row in rows):
        raise RunError(f"None of the {len(rows)} cells could be trained. The first: {rows[0]['error']}")
    write_comparison(folder, rows, title=f"Comparison on {source.name}", curves=_curves(rows))
    return Comparison(folder, rows, comparison_table(rows), comparison_findings(rows))


def _axes(
    methods: str | Sequence[str],
    seeds: str | Sequence[int],
    draws: str | Sequence[str | None],
    splits: str | Sequence[int] | None,
) -> tuple[list[str], list[int], list[str | None], list[int | None]]:
    names = _listed(methods)
    numbers = _whole(seeds, "seeds")
    ways = [None if way in (None, "none") else way for way in _listed(draws)]
    if not names or not numbers or not ways:
        raise InputError(
            "compare needs at least one method, one seed and one draw, such as methods='adagc', seeds='0,1', "
            "draws='single-positive-random'; draws='none' keeps all labels."
        )
    # A trailing comma is no axis.
    parts: list[int | None] = [*_whole([] if splits is None else splits, "splits")]
    return names, numbers, list(dict.fromkeys(ways)), parts or [None]


def _listed(values: str | Sequence[Any]) -> list[Any]:
    parts = [part.strip() for part in values.split(",")] if isinstance(values, str) else list(values)
    return list(dict.fromkeys(part for part in parts if part != ""))


def _whole(values: str | Sequence[int], name: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(value) for value in _listed(values)))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} are {values!r}; expected whole numbers with commas between, such as 0,1,2."
        ) from error


def _run(
    cells: Sequence[Cell], folder: Path, identity: Mapping[str, str], source: SceneSource, workers: int
) -> Generator[tuple[str, dict[str, Any]]]:
    """Yield each cell's name and figures as it is finished."""
    from swath.tasks.cells import run_cell
    from swath.tasks.workers import Job, run_in_processes

    if workers == 1:
        for cell in cells:
            yield cell.name, run_cell(folder / cell.name, cell.options, identity, source)
        return
    jobs = [
        Job(folder / cell.name, folder / "logs" / f"{cell.name}.txt", cell.options, identity)
        for cell in cells
    ]
    with contextlib.closing(run_in_processes(jobs, workers)) as finished:
        for number, row in finished:
            yield cells[number].name, row


def _rows(
    cells: Sequence[Cell], folder: Path, found: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row for each cell that is done, in the order of the plan."""
    return [
        {**cell.axes, **found[cell.name], "run": str(folder / cell.name)}
        for cell in cells
        if cell.name in found
    ]


def _curves(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return by epoch what came back of the hidden labels, for the runs whose method remembers every scene."""
    from swath.training.run import load_run

    curves = []
    for row in rows:
        run = load_run(row["run"]) if row["error"] is None else None
        records = [record for record in run.progress if "recovery_map" in record] if run else []
        if run and records:
            recovered = [record["recovery_map"] for record in records]
            place = {name: row[name] for name in ("method", "draw", "seed")}
            moment = run.card["method"].get("calibrating_from")
            epochs = [record["epoch"] for record in records]
            curves.append({**place, "epochs": epochs, "recovered": recovered, "moment": moment})
    return curves


def _say(number: int, total: int, cell: Cell, row: Mapping[str, Any]) -> None:
    from swath.evaluation.evaluate import chief_figures

    where = f"{cell.method}, {cell.draw or 'all labels'}, seed {cell.seed}"
    where += "" if cell.split_seed is None else f", split {cell.split_seed}"
    said = ", ".join(f"{name} {value:.4f}" for name, value in list(chief_figures(row).items())[:2])
    print(f"{number}/{total}  {where}: {row['error'] or said}", file=sys.stderr, flush=True)
