"""The last stage of a scene's map: from its computed chunks to all of its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swath.mapping.bands import Reading
from swath.mapping.companions import write_companions
from swath.mapping.compute import SceneFiles
from swath.mapping.finished import FinishedRasters
from swath.mapping.grid import WindowGrid
from swath.mapping.naming import job_stamp
from swath.mapping.products import Place, write_products
from swath.mapping.raster import RasterScene
from swath.mapping.settings import MapSettings
from swath.mapping.work import WorkFolder
from swath.scenes.contract import BandContract

__all__ = ["finish_map"]


def finish_map(
    folder: Path,
    files: SceneFiles,
    reading: Reading,
    settings: MapSettings,
    contract: BandContract,
    size: int,
    work: WorkFolder,
    content: dict[str, Any],
) -> dict[str, float]:
    """Blend the windows and write every file of the map. What it needs is plain, so that another process can do it.

    Args:
        folder: Where to.
        files: The scene.
        reading: How it is read.
        settings: How it is mapped.
        contract: The model's bands and classes.
        size: The model's window.
        work: Holds every chunk.
        content: Everything the map depends on.

    Returns:
        Valid ground of each class in hectares, and of all under the empty name.

    Raises:
        OutputError: A file cannot be written.
    """
    scene = RasterScene(files.paths, contract, reading, files.bands)
    grid = WindowGrid(scene.height, scene.width, size, settings.stride, settings.edges)
    place = Place(grid, scene.transform, scene.crs)
    tags = {"SWATH_JOB": json.dumps(content)}
    areas = write_products(folder, files.name, place, work, contract, settings, tags)
    finished = FinishedRasters(
        folder, files.name, files.paths, place, contract, settings, areas, job_stamp(content)
    )
    write_companions(finished, work.folder)
    return areas
