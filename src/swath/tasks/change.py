"""From the maps of two dates to a map of what changed; the part of ``swath map`` behind --before and --after."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swath.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from swath.mapping.change import ChangeSummary
    from swath.mapping.compute import SceneFiles
    from swath.mapping.job import MapJob
    from swath.scenes.contract import BandContract

__all__ = ["ChangeMap", "DateComparison"]

FORMAT: Final = 1
"""Changes when the same maps and confidence would give another change."""

_SHOWN: Final = 10


@dataclass(frozen=True)
class ChangeMap:
    """What changed between two dates.

    Args:
        name: The scenes' names, ``BEFORE--AFTER``.
        files: Its files by kind: ``change``, ``changed``, ``table`` and ``picture``.
        classes: Class names.
        summary: Cells, ground and kinds of change.
        confidence: From which a change counts.
        seconds: How long the comparison took; 0 if it was there already.
        notes: What was decided and measured on the way: common pixels, offset.
    """

    name: str
    files: dict[str, Path]
    classes: tuple[str, ...]
    summary: ChangeSummary
    confidence: float
    seconds: float
    notes: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """Hectares that each class gained and lost."""
        import pandas as pd

        rows = [
            {"class": name, "gained (ha)": gained, "lost (ha)": lost}
            for name, (gained, lost) in self.summary.of_classes(self.classes).items()
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        """Return the table, the largest changes and the notes as text."""
        changes = self.summary.changes
        cells, false_cells = sum(one.cells for one in changes), sum(one.false_cells for one in changes)
        lines = [
            "",
            f"{self.name}: {cells} changes with a confidence of at least {self.confidence:g} among "
            f"{self.summary.cells} cells ({self.summary.ground_ha:,.1f} ha) with data on both dates; at most "
            f"{false_cells:.2g} of them are expected to be false if the probabilities are calibrated.",
            self.table.to_string(index=False, float_format=lambda value: f"{value:,.1f}"),
            *(f"{one}: {one.hectares:,.1f} ha" for one in changes[:_SHOWN]),
        ]
        if len(changes) > _SHOWN:
            lines.append(f"... and {len(changes) - _SHOWN} kinds of change more")
        lines += [f"{self.name}: {note}" for note in self.notes]
        return "\n".join([*lines, f"files: {', '.join(path.name for path in self.files.values())}"])


class DateComparison:
    """Two scenes that are mapped on the same pixels, to be compared.

    Args:
        found: The first and the second.
        contract: The model's band contract.
        size: Pixels of the model's window.
        job: How both are mapped.
        confidence: From which a change counts.

    Attributes:
        jobs: How each is mapped.

    Raises:
        InputError: The confidence is out of its range.
        SceneError: The scenes do not overlap or cannot be brought onto the same pixels.
    """

    def __init__(
        self, found: Sequence[SceneFiles], contract: BandContract, size: int, job: MapJob, confidence: float
    ) -> None:
        from swath.mapping.change_products import change_bytes
        from swath.mapping.companions import companion_bytes
        from swath.mapping.grid import WindowGrid
        from swath.mapping.products import Place, bytes_needed
        from swath.mapping.registration import register

        if not 0 < confidence <= 1:
            raise InputError(
                f"change_confidence is {confidence}; expected a probability above 0 and up to 1."
            )
        stride = job.settings.stride
        placed = register(found[0], found[1], contract, job.reading, stride)
        if placed.shifted:
            warnings.warn(placed.notes[-1].removeprefix("Warning: "), stacklevel=3)
        pixels = placed.pixels
        grid = WindowGrid(pixels.height, pixels.width, size, stride, job.settings.edges)
        self._names, self._notes, self._contract = [one.name for one in found], placed.notes, contract
        self._job, self._confidence = job, confidence
        self._place = Place(grid, pixels.transform, pixels.crs)
        many = len(contract.classes), contract.exclusive
        for_change = change_bytes(grid.cells, *many)
        for_one = bytes_needed(grid, *many) + companion_bytes(grid.cells, *many)
        second = job
        if placed.brought:
            where = [*pixels.transform][:6], pixels.height, pixels.width, pixels.crs.to_wkt()
            second = replace(
                job,
                reading=replace(job.reading, grid=pixels),
                content={**job.content, "pixels": [*where[0], *where[1:]]},
            )
        self.jobs = [replace(job, reserve=for_one + for_change), replace(second, reserve=for_change)]

    def compare(self) -> ChangeMap:
        """Compare the finished maps.

        Returns:
            What changed.

        Raises:
            SceneError: No cell has data on both dates.
            RunError: Another comparison, or something else, is in the way.
            OutputError: A file cannot be written.
        """
        from swath.mapping.change import ChangeSummary, DatePair
        from swath.mapping.change_products import change_bytes, write_change
        from swath.mapping.existing import existing
        from swath.mapping.naming import job_stamp, product_paths
        from swath.mapping.products import check_space, read_tags
        from swath.mapping.work import WorkFolder

        started = time.perf_counter()
        job, contract = self._job, self._contract
        pair = DatePair(
            job.folder,
            self._names[0],
            self._names[1],
            self._place,
            contract.classes,
            contract.exclusive,
            self._confidence,
        )
        stamps = [
            job_stamp(json.loads(read_tags(product_paths(job.folder, name)["probability"])["SWATH_JOB"]))
            for name in self._names
        ]
        content = {
            "format": FORMAT,
            "before": stamps[0],
            "after": stamps[1],
            "change_confidence": self._confidence,
        }
        name = f"{pair.before}--{pair.after}"
        work = WorkFolder(job.folder / f".{name}.work", content, job.tile)
        remedy = f"Name another --out, or delete {job.folder / name}.* to compare anew; the maps of both dates are kept"
        stored = None if job.restart else existing(pair.paths, content, work, "CHANGES", remedy)
        if stored is not None:
            summary, seconds = ChangeSummary.restored(stored), 0.0
        else:
            check_space(
                job.folder,
                work.folder,
                change_bytes(self._place.grid.cells, len(contract.classes), contract.exclusive),
            )
            # Nothing of an interrupted comparison is taken up: it takes little beside the maps.
            with work.held(restart=True):
                try:
                    tags = {"SWATH_JOB": json.dumps(content)}
                    summary = write_change(pair, work.folder, tags, job_stamp(content))
                finally:
                    work.remove()
            seconds = time.perf_counter() - started
        return ChangeMap(name, pair.paths, contract.classes, summary, self._confidence, seconds, self._notes)
