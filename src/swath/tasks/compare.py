"""Several methods and seeds on one data set, in one table with means and spreads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.errors import InputError
from swath.tasks.train import train

if TYPE_CHECKING:
    from swath.scenes.source import SceneSource

__all__ = ["Comparison", "compare"]

FIGURES = (
    "map_macro",
    "map_micro",
    "f1_macro",
    "f1_micro",
    "overall_accuracy",
    "average_accuracy",
    "kappa",
    "positive_recall",
    "positive_rank",
)


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        folder: Where it lies: ``summary.json``, the page ``comparison.html`` and one run for each row.
        rows: One for each method and seed: ``method``, ``seed``, the headline figures, ``seconds``, ``run``.
        table: Means and spreads over the seeds, as text.
    """

    folder: Path
    rows: list[dict[str, Any]]
    table: str

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
    encoder: str = "scene_mixer",
    size: int = 64,
    epochs: int = 30,
    batch_size: int = 64,
    draw: str | None = "single-positive-random",
    test_share: float = 0.2,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    augment: str = "flips,turns",
) -> Comparison:
    """Train several methods with several seeds on the same scenes and put them into one table.

    ``all-known`` is the ceiling: it is given every label, whatever ``draw`` loses for the others. Every run is kept
    in ``out/METHOD-SEED``; when the command is called again, finished runs are taken as they are and an interrupted
    one goes on.

    Args:
        data: A folder, table, zip, name such as ``earth:...``, or an open source.
        out: The comparison's folder.
        methods: Registered names, comma-separated.
        seeds: Seeds, comma-separated; split, label draw, weights and order follow from each.
        encoder: The encoder of all runs.
        size: Height and width in pixels to which images are resized.
        epochs: Passes over the training scenes.
        batch_size: Scenes in a step.
        draw: How to lose labels of the training scenes; None keeps them.
        test_share: Share of the scenes for the test, if the data has no ``split`` column.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay.
        augment: Comma-separated augmentations.

    Returns:
        Folder, rows and table. ``out/summary.json`` holds ``{"rows": [...]}``.

    Raises:
        InputError: There is no method or seed, or a finished run in ``out`` had other options.
        UnknownNameError: There is no such method.

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
    names = [name.strip() for name in methods.split(",")] if isinstance(methods, str) else list(methods)
    numbers = _seeds(seeds)
    names = [name for name in names if name]
    if not names or not numbers:
        raise InputError(
            "compare needs at least one method and one seed, such as methods='adagc', seeds='0,1'."
        )
    options = {
        "encoder": encoder,
        "size": size,
        "epochs": epochs,
        "batch_size": batch_size,
        "test_share": test_share,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "augment": augment,
    }
    return compare_runs(data, Path(out), names, numbers, options, draw)


def compare_runs(
    data: str | os.PathLike[str] | SceneSource,
    folder: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    options: dict[str, Any],
    draw: str | None,
) -> Comparison:
    """Do the work of :func:`compare` with any options of :func:`swath.train`."""
    from swath.evaluation.report import comparison_table, write_comparison
    from swath.files import write_json
    from swath.methods import METHODS
    from swath.scenes import open_scenes

    for name in methods:
        METHODS[name]  # an unknown name is said before the first training, not after it
    source = open_scenes(data) if isinstance(data, str | os.PathLike) else data
    rows = []
    for seed in seeds:
        for name in methods:
            own = {**options, "method": name, "seed": seed, "draw": None if name == "all-known" else draw}
            rows.append(_row(source, data, folder / f"{name}-{seed}", own))
            write_json(folder / "summary.json", {"rows": rows})
    write_comparison(folder, rows)
    return Comparison(folder, rows, comparison_table(rows))


def _row(source: SceneSource, data: Any, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    from swath.tasks.train import resume
    from swath.training.run import load_run

    if (folder / "config.yaml").exists():
        before = load_run(folder).config
        differing = [name for name, value in options.items() if before.get(name) != value]
        if differing:
            name = differing[0]
            raise InputError(
                f"{folder} was made with {name} = {before.get(name)!r}; this comparison asks for {options[name]!r}. "
                f"Name another --out."
            )
        run = load_run(folder) if (folder / "report.html").exists() else resume(folder, source)
    else:
        run = train(source, out=folder, **options)
    evaluation = run.evaluation
    seconds = sum(record["seconds"] for record in run.progress)
    return {
        "method": options["method"],
        "seed": options["seed"],
        **{name: evaluation.get(name) for name in FIGURES},
        "seconds": round(seconds, 1),
        "run": str(folder),
    }


def _seeds(seeds: str | Sequence[int]) -> list[int]:
    try:
        parts = [part for part in seeds.split(",") if part.strip()] if isinstance(seeds, str) else seeds
        return [int(part) for part in parts]
    except ValueError as error:
        raise InputError(
            f"seeds are {seeds!r}; expected whole numbers with commas between, such as 0,1,2."
        ) from error
