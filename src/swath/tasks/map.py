"""From a run and whole scenes to georeferenced maps."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swath.errors import ContractError, InputError, RunError, SceneError

if TYPE_CHECKING:
    import pandas as pd

    from swath.encoders import SceneModel
    from swath.mapping.cluster import Cluster
    from swath.mapping.compute import Machinery, SceneFiles
    from swath.mapping.grid import Chunk
    from swath.mapping.job import MapJob
    from swath.mapping.progress import MapBar
    from swath.scenes.contract import BandContract
    from swath.tasks.change import ChangeMap

__all__ = ["MapSummary", "SceneMap", "map_scenes"]

FORMAT = 1
"""Changes when the same scene, model and settings would give another map."""


@dataclass(frozen=True)
class SceneMap:
    """What came of one scene.

    Args:
        name: The scene.
        files: Its files by kind: ``probability``, ``labels``, ``uncertainty``, ...; empty if it was skipped.
        area_ha: Valid ground of each class in hectares; of classes that may hold together, ground counts for each.
        ground_ha: All valid ground of the map.
        seconds: How long it took; 0 if its map was there already.
        windows: Windows computed now.
        skipped: Why there is no map; empty if there is one.
        notes: What was decided on the way: approximation, resampling, unknown ground sampling distance, bands as told.
    """

    name: str
    files: dict[str, Path]
    area_ha: dict[str, float]
    ground_ha: float
    seconds: float
    windows: int
    skipped: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapSummary:
    """What came of all scenes.

    Args:
        folder: Where the maps are.
        maps: One entry for each scene, in the order given.
        change: What changed between two dates, if that was asked for.
    """

    folder: Path
    maps: list[SceneMap]
    change: ChangeMap | None = None

    @property
    def table(self) -> pd.DataFrame:
        """One row for each scene: hectares of each class, all mapped ground, seconds, and why it was skipped."""
        import pandas as pd

        rows = [
            {
                "scene": entry.name,
                **{f"{name} (ha)": area for name, area in entry.area_ha.items()},
                "ground (ha)": entry.ground_ha,
                "seconds": round(entry.seconds, 1),
                "skipped": entry.skipped,
            }
            for entry in sorted(self.maps, key=lambda entry: bool(entry.skipped))
        ]
        order = {entry.name: position for position, entry in enumerate(self.maps)}
        table = pd.DataFrame(rows)
        last = [name for name in ("ground (ha)", "seconds", "skipped") if name in table]
        table = table[[name for name in table if name not in last] + last]
        return table.sort_values("scene", key=lambda names: names.map(order), ignore_index=True)

    def __str__(self) -> str:
        """Return the table, why scenes were skipped, the notes, the files and the folder as text."""
        table = self.table
        reasons = table.pop("skipped")
        lines = [
            table[reasons == ""].to_string(index=False, float_format=lambda value: f"{value:,.1f}", na_rep="")
        ]
        lines += [f"skipped {entry.name}: {entry.skipped}" for entry in self.maps if entry.skipped]
        said: dict[str, list[str]] = {}
        for entry in self.maps:
            for note in entry.notes:
                said.setdefault(note, []).append(entry.name)
        # A thousand scenes of one sensor have the same note.
        lines += [
            f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {note}"
            for note, names in said.items()
        ]
        mapped = next((entry for entry in self.maps if entry.files), None)
        if mapped:
            names = [path.name.removeprefix(mapped.name) for path in mapped.files.values()]
            lines.append(f"files of each scene: SCENE{', '.join(names)}")
        lines += [str(self.change)] if self.change else []
        return "\n".join([*lines, f"folder: {self.folder}"])


def map_scenes(
    run: str | os.PathLike[str],
    scenes: Sequence[str | os.PathLike[str]] = (),
    *,
    out: str | os.PathLike[str],
    stride: int | None = None,
    bands: str | None = None,
    scale: str | None = None,
    offset: str | None = None,
    nodata: str | None = None,
    blend: Literal["flat", "hann"] = "hann",
    edges: Literal["shift", "reflect"] = "shift",
    min_valid: float = 0.5,
    threshold: float = 0.5,
    shared_features: bool = False,
    crs: str | None = None,
    before: str | os.PathLike[str] | None = None,
    after: str | os.PathLike[str] | None = None,
    change_confidence: float = 0.95,
    allow_remote: bool = False,
    allow_vrt: bool = False,
    batch_size: int = 64,
    tile: int = 1024,
    workers: int = 1,
    ray: str | None = None,
    restart: bool = False,
) -> MapSummary:
    """Map whole scenes of any size with a trained run.

    The model sees windows of its own size, ``stride`` pixels apart; windows that overlap are blended. A killed map
    goes on where it was when the same call is made again, and its files are the same bytes. How much goes through
    the model at a time (``batch_size``, ``tile``) and who computes (``workers``, ``ray``) change memory and speed, not
    the map.

    The name is ``map_scenes`` because ``map`` is Python's; on the command line it is ``swath map``.

    Args:
        run: The run's folder.
        scenes: GeoTIFF or JPEG 2000 files, folders, or patterns such as ``"scenes/*.tif"``. One-band files whose
            names differ only in the band's name are one scene.
        out: Folder for ``SCENE.probability.tif``, ``SCENE.labels.tif``, ``SCENE.uncertainty.tif`` and what is made
            from them.
        stride: Pixels from window to window, and of a cell of the map; half the model's window if None.
        bands: Comma-separated names of the scene's bands in their order, if the files do not name them; or, if they
            do and the model's names are others, the scene's bands that take the place of the model's, in its order.
        scale: Factor from stored numbers to the model's unit, instead of what the files say; one, or one for each
            of the model's bands, comma-separated.
        offset: Added after scaling, in the same way.
        nodata: Stored number that marks pixels without data, instead of what the files say; ``nan`` is allowed,
            ``none`` if nothing does.
        blend: ``hann`` weighs windows most whose centre is near, ``flat`` all the same.
        edges: ``shift`` moves the last window back to the border, ``reflect`` mirrors the scene there.
        min_valid: Share of a window's pixels that must be valid for it to count, in [0, 1].
        threshold: Probability from which a class is in the label map, where classes may hold together.
        shared_features: Run the convolutions once over all the ground instead of once for each window: several times
            faster where windows overlap much, and an approximation. For convolutional encoders with global pooling.
        crs: Coordinate system to map in, such as ``EPSG:32632``; the scene's own if None.
        before: Instead of ``scenes``: a scene of the same ground as ``after``. Both are mapped on its pixels, and then
            what changed between them.
        after: The later scene.
        change_confidence: Confidence from which a change counts, above 0 and up to 1.
        allow_remote: Open scenes on servers (``https://``, ``http://``, ``s3://``), too.
        allow_vrt: Open virtual rasters (VRT), too, if they are plain ones of GeoTIFF and JPEG 2000 files in their own
            folder or below.
        batch_size: Windows at a time on a GPU; a CPU takes as many as suit its cache.
        tile: Pixels along a side of what is read at a time.
        workers: Processes on this machine.
        ray: ``HOST:PORT`` of a Ray cluster that computes instead, or ``auto`` for the one this machine belongs to;
            its machines have to see the scenes under the same paths. Only for clusters that you trust.
        restart: Throw away work and maps of another run, scene or setting instead of refusing.

    Returns:
        What came of each scene; ``print`` shows areas, seconds and what was skipped and why.

    Raises:
        InputError: An option is not usable, or nothing is found.
        SceneError: The only scene cannot be mapped. (Of several, those that cannot are skipped, with the reason.)
        RunError: The run is not finished; or work of another job is there and ``restart`` is False.
        OutputError: ``out`` cannot be written, or the disk is too small.
        MissingExtraError: ``ray`` is given and Ray is not installed.
        SwathError: The cluster cannot be joined, or one of its machines lacks a scene or has other versions.

    Example:
        >>> import tempfile, swath
        >>> from swath.scenes.earth import SyntheticEarth
        >>> folder = tempfile.mkdtemp()
        >>> options = {"method": "all-known", "size": 16, "epochs": 1}
        >>> run = swath.train("earth:scenes=48,size=16", out=folder + "/run", **options)
        >>> _ = SyntheticEarth.scene(40, 56).write_scene(folder + "/scene.tif")
        >>> summary = swath.map_scenes(run.folder, [folder + "/scene.tif"], out=folder + "/maps", stride=8)
        >>> [path.name for path in summary.maps[0].files.values()]
        ['scene.probability.tif', 'scene.labels.tif', 'scene.uncertainty.tif', 'scene.png',
         'scene.labels.qml', 'scene.parquet', 'scene.html', 'scene.json']
    """
    from swath.mapping.bands import Reading
    from swath.mapping.gather import Allowed, gather_pair, gather_scenes
    from swath.mapping.job import MapJob
    from swath.mapping.progress import MapBar
    from swath.mapping.raster import bounded_cache
    from swath.mapping.settings import MapSettings
    from swath.mapping.shared import SharedFeatures
    from swath.tasks.change import DateComparison
    from swath.training.run import load_run

    for option, value in (("batch_size", batch_size), ("tile", tile), ("workers", workers)):
        if value < 1:
            raise InputError(f"{option} is {value}; expected 1 or more.")
    opened = load_run(run)
    model = opened.model
    stride = max(1, model.size // 2) if stride is None else stride
    shared = SharedFeatures.of(model) if shared_features else None
    settings = MapSettings(stride, blend, edges, min_valid, threshold, shared)
    if shared is not None:
        shared.check(stride)
    reading = Reading.of_words(bands, scale, offset, nodata, crs)
    names = reading.bands or model.contract.names
    paired = before is not None or after is not None
    allowed = Allowed(allow_remote, allow_vrt)
    found = (
        gather_pair(scenes, before, after, names, allowed)
        if paired
        else gather_scenes(scenes, names, allowed)
    )
    folder = Path(out)
    job = MapJob(
        folder,
        {
            "format": FORMAT,
            "model": hashlib.blake2b(
                (opened.folder / "model.safetensors").read_bytes(), digest_size=16
            ).hexdigest(),
            "stride": settings.stride,
            "blend": blend,
            "edges": edges,
            "min_valid": min_valid,
            "threshold": threshold,
            "shared_features": shared_features,
            "bands": list(reading.bands),
            "scale": list(reading.scale),
            "offset": list(reading.offset),
            "nodata": None if reading.nodata is None else str(reading.nodata),
            "crs": reading.crs,
        },
        settings,
        reading,
        tile,
        restart,
    )
    dates = DateComparison(found, model.contract, model.size, job, change_confidence) if paired else None
    jobs = dates.jobs if dates else [job] * len(found)
    machinery = _machinery(opened.folder, model, ray, workers, batch_size)
    with closing(machinery), bounded_cache(), MapBar(len(found)) as bar:

        def one(scene: tuple[SceneFiles, MapJob]) -> SceneMap:
            files, its_job = scene
            try:
                entry = _map_scene(files, model.contract, model.size, its_job, machinery, bar)
            except (SceneError, ContractError, RunError, InputError) as error:
                if len(found) == 1 or dates:
                    raise
                entry = SceneMap(files.name, {}, {}, math.nan, 0.0, 0, str(error))
            bar.end(files.name, f"skipped: {entry.skipped}" if entry.skipped else f"{entry.seconds:.1f} s")
            return entry

        maps = machinery.each(one, list(zip(found, jobs, strict=True)))
    if all(entry.skipped for entry in maps):
        reasons = "\n".join(f"{entry.name}: {entry.skipped}" for entry in maps)
        raise SceneError(f"None of the {len(maps)} scenes could be mapped.\n{reasons}")
    return MapSummary(folder, maps, dates.compare() if dates else None)


def _machinery(
    run: Path, model: SceneModel, ray: str | None, workers: int, batch_size: int
) -> Machinery | Cluster:
    """Return what computes: this process, several, or a cluster."""
    if ray is None:
        from swath.mapping.compute import Machinery

        return Machinery(run, model, workers=workers, batch_size=batch_size)
    if workers != 1:
        raise InputError(
            "workers are processes on this machine, and ray computes on a cluster; give one of them."
        )
    from swath.mapping.cluster import Cluster

    return Cluster(ray, run, batch_size=batch_size)


def _map_scene(
    files: SceneFiles,
    contract: BandContract,
    size: int,
    job: MapJob,
    machinery: Machinery | Cluster,
    bar: MapBar,
) -> SceneMap:
    from swath.mapping.companions import companion_bytes
    from swath.mapping.existing import existing
    from swath.mapping.fingerprint import file_fingerprint
    from swath.mapping.finish import finish_map
    from swath.mapping.grid import WindowGrid
    from swath.mapping.naming import product_paths
    from swath.mapping.products import bytes_needed, check_space
    from swath.mapping.raster import RasterScene
    from swath.mapping.windows import tile_pixels
    from swath.mapping.work import WorkFolder

    started = time.perf_counter()
    scene = RasterScene(files.paths, contract, job.reading, files.bands)
    settings = job.settings
    shared = settings.shared
    grid = WindowGrid(scene.height, scene.width, size, settings.stride, settings.edges)
    content = {**job.content, "scene": file_fingerprint(files.paths)}
    tile = tile_pixels(job.tile, len(contract.names), shared)
    work = WorkFolder(job.folder / f".{files.name}.work", content, tile)
    products = product_paths(job.folder, files.name)
    areas, windows = None if job.restart else existing(products, content, work, "AREA_HA"), 0
    if areas is None:
        many = len(contract.classes), contract.exclusive
        needed = bytes_needed(grid, *many) + companion_bytes(grid.cells, *many) + job.reserve
        check_space(job.folder, work.folder, needed)
        with work.held(restart=job.restart):
            chunks = grid.chunks(work.tile, *((shared.context, shared.stride) if shared else ()))
            missing = [chunk for chunk in chunks if not work.has(chunk)]
            bar.start(files.name, len(chunks), len(chunks) - len(missing))
            machinery.compute(
                files,
                scene,
                grid,
                missing,
                settings,
                job.reading,
                work,
                functools.partial(bar.step, files.name),
            )
            areas = machinery.finish(
                finish_map, job.folder, files, job.reading, settings, contract, size, work, content
            )
            work.remove()
        windows = sum(_windows(chunk) for chunk in missing)
    ground = areas.pop("", math.nan)
    seconds = time.perf_counter() - started if windows else 0.0
    notes = (
        *scene.notes,
        *(["Windows share feature maps, which is an approximation."] if shared else []),
    )
    return SceneMap(files.name, products, areas, ground, seconds, windows, "", notes)


def _windows(chunk: Chunk) -> int:
    return math.prod(piece.windows.stop - piece.windows.start for piece in chunk)
