"""From what a user names (files, folders, patterns) to scenes, one-band files of one scene joined."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from swath.errors import InputError, SceneError, SwathError
from swath.mapping.compute import SceneFiles
from swath.mapping.header import Source, look
from swath.mapping.products import is_map
from swath.mapping.virtual import VirtualFile, is_virtual
from swath.scenes.folder import Folder, is_image
from swath.scenes.remote import RemoteFile, is_remote

__all__ = ["Allowed", "gather_pair", "gather_scenes"]

_RESOLUTION = re.compile(r"\d+m", re.IGNORECASE)


@dataclass(frozen=True)
class Allowed:
    """What may be opened beside local GeoTIFF and JPEG 2000 files.

    Args:
        remote: Files on servers.
        virtual: Virtual rasters (VRT).
    """

    remote: bool = False
    virtual: bool = False


def gather_scenes(
    where: Sequence[str | os.PathLike[str]], bands: Sequence[str], allowed: Allowed | None = None
) -> list[SceneFiles]:
    """Find the scenes among files.

    A file with several bands is a scene. Files with one band whose names differ only in a band's name (and a
    resolution such as ``20m``), as in ``T33TVM_B04_10m.jp2``, are one scene.

    Args:
        where: Files, folders (all rasters below them, but no maps that swath made) and patterns with ``*`` and ``?``.
        bands: Names of bands to look for in file names.
        allowed: What else may be opened.

    Returns:
        The scenes in the order given. Nothing is opened but the headers of files whose names hold a band's name.

    Raises:
        SceneError: A file or folder does not exist.
        InputError: Nothing is found, or two scenes have the same name.
    """
    allowed = allowed or Allowed()
    paths = list(dict.fromkeys(path for item in where for path in _files(os.fspath(item), allowed)))
    if not paths:
        raise InputError("No scene is given. Name GeoTIFF files, folders or patterns: swath map RUN SCENE...")
    groups: dict[str, list[tuple[Source, str]]] = {}
    for path in paths:
        name, band = _parts(path, bands)
        if band and _has_one_band(path):
            groups.setdefault(f"\0{name}", []).append((path, band))
        else:
            groups.setdefault(str(path), []).append((path, ""))
    scenes = []
    for files in groups.values():
        if files[0][1]:
            chosen = _finest(files)
            name = _parts(files[0][0], bands)[0] or files[0][0].parent.name
            scenes.append(
                SceneFiles(name, tuple(path for path, _ in chosen), tuple(band for _, band in chosen))
            )
        else:
            scenes.append(SceneFiles(files[0][0].stem, (files[0][0],)))
    seen: dict[str, SceneFiles] = {}
    for scene in scenes:
        if scene.name in seen:
            raise InputError(
                f"{seen[scene.name].paths[0]} and {scene.paths[0]} would both be mapped as {scene.name}. Rename one, "
                f"or map them into different folders."
            )
        seen[scene.name] = scene
    return scenes


def gather_pair(
    scenes: Sequence[str | os.PathLike[str]],
    before: str | os.PathLike[str] | None,
    after: str | os.PathLike[str] | None,
    bands: Sequence[str],
    allowed: Allowed | None = None,
) -> list[SceneFiles]:
    """Find the two scenes to compare.

    Args:
        scenes: Other scenes; there must be none.
        before: A file, or a folder or pattern with the one-band files of one scene.
        after: The same.
        bands: Names of bands to look for in file names.
        allowed: What else may be opened.

    Returns:
        Both, with different names: of the same name, each with its folder's name before it.

    Raises:
        SceneError: A file or folder does not exist.
        InputError: One is missing, is not one scene, or is the same as the other.
    """
    if before is None or after is None or scenes:
        raise InputError(
            "To map what changed, name two scenes and no others: swath map RUN --before A.tif --after B.tif "
            "--out FOLDER."
        )
    pair = []
    for option, where in (("before", before), ("after", after)):
        found = gather_scenes([where], bands, allowed)
        if len(found) > 1:
            raise InputError(
                f"--{option} {os.fspath(where)} holds {len(found)} scenes ({found[0].name}, {found[1].name}, ...); "
                f"name one."
            )
        pair += found
    if pair[0].paths == pair[1].paths:
        raise InputError(f"--before and --after are both {pair[0].paths[0]}; name scenes of two dates.")
    if pair[0].name == pair[1].name:
        pair = [replace(one, name=f"{one.paths[0].parent.name}-{one.name}") for one in pair]
        if pair[0].name == pair[1].name:
            raise InputError(f"{pair[0].paths[0]} and {pair[1].paths[0]} have the same name; rename one.")
    return pair


def _files(item: str, allowed: Allowed) -> list[Source]:
    if is_remote(item):
        if allowed.remote:
            return [RemoteFile(item)]
        raise SceneError(
            f"{RemoteFile.shown(item)} is not a local file. No server is asked unless --allow-remote is "
            f"given; or download the scene."
        )
    path = Path(item).expanduser().absolute()
    if path.is_dir():
        found = [path / name for name in Folder(path).names() if is_image(name)]
    elif path.is_file():
        found = [path]
    elif glob.has_magic(item):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    else:
        raise SceneError(f"There is no file or folder {path}. Check the path.")
    if found != [path]:
        # A folder may hold maps of its own scenes.
        found = [name for name in found if not is_map(name)]
    if not found:
        raise InputError(f"{item} holds no raster. Give GeoTIFF files or a folder that holds some.")
    return [VirtualFile(name) if allowed.virtual and is_virtual(name) else name for name in found]


def _parts(path: Source, bands: Sequence[str]) -> tuple[str, str]:
    """Return a file's name without band and resolution, and the band in it."""
    words = re.split(r"([_.\- ]+)", path.stem)
    named = [word for word in words if word in bands]
    if len(named) != 1:
        return path.stem, ""
    kept = [word for word in words[::2] if word not in bands and not _RESOLUTION.fullmatch(word)]
    return "_".join(filter(None, kept)), named[0]


def _has_one_band(path: Source) -> bool:
    try:
        return len(look(path, "none").names) == 1
    except SwathError:
        return False  # what is wrong with it is said when the scene is opened


def _finest(files: Sequence[tuple[Source, str]]) -> list[tuple[Source, str]]:
    """Keep the finest file of each band: Sentinel-2 holds some at several resolutions."""
    best: dict[str, tuple[float, Source]] = {}
    for path, band in files:
        gsd_m = look(path, "none").gsd_m
        if band not in best or gsd_m < best[band][0]:
            best[band] = gsd_m, path
    return [(path, band) for band, (_, path) in best.items()]
