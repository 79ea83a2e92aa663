"""Judging a run on its test scenes or on other data."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swath.scenes.source import SceneSource
    from swath.training.run import Run

__all__ = ["evaluate"]


def evaluate(
    run: str | os.PathLike[str] | Run,
    data: str | os.PathLike[str] | SceneSource | None = None,
    *,
    threshold: float = 0.5,
    draws: int = 1000,
    skip_unreadable: bool = False,
) -> Run:
    """Judge a run and write ``evaluation.json`` and ``report.html`` into its folder.

    Args:
        run: The run or its folder.
        data: Other data with the same bands and classes (bands and classes are found by name), of which the scenes
            of the ``split`` test are used if there is such a column, else all. None: the run's own test scenes.
        threshold: Probability from which a class counts as predicted, where classes may hold together.
        draws: Bootstrap draws for the intervals.
        skip_unreadable: Leave out images of ``data`` that cannot be read, and list them, instead of stopping.

    Returns:
        The run, with its new figures.

    Raises:
        RunError: The run is not finished, or its data has changed since.
        ContractError: The data has other bands, units or classes.

    Example:
        >>> import tempfile, swath
        >>> options = {"method": "all-known", "size": 16, "epochs": 1}
        >>> run = swath.train("earth:scenes=48,size=16", out=tempfile.mkdtemp() + "/run", **options)
        >>> evaluate(run, "earth:scenes=16,size=16,seed=1", draws=20).evaluation["scenes"]
        16
    """
    from swath.tasks.evidence import write_evidence
    from swath.tasks.prepare import prepare_other, prepare_run
    from swath.training.run import Run, load_run

    opened = run if isinstance(run, Run) else load_run(run)
    prepared = (
        prepare_run(opened) if data is None else prepare_other(opened, data, skip_unreadable=skip_unreadable)
    )
    write_evidence(opened, prepared, threshold=threshold, draws=draws)
    return opened
