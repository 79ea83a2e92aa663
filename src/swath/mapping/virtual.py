"""Virtual rasters (VRT), which are opened only if that is allowed by name, and then only plain ones.

A VRT names other files, servers and even code. GDAL never sees the file itself: it is read here, everything that is not
known to be harmless is refused, and GDAL opens what is written anew from the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn
from xml.etree import ElementTree

from rasterio.crs import CRS

from swath.errors import SceneError
from swath.scenes.geotiff import RASTER_ERRORS, opened
from swath.scenes.images import BAND_LIMIT, file_kind
from swath.scenes.remote import is_remote

__all__ = ["VirtualFile", "is_virtual"]

SIZE_LIMIT: Final = 2**24
"""Largest VRT that is read, in bytes."""
ELEMENT_LIMIT: Final = 200_000
DEPTH_LIMIT: Final = 12

_SOURCE: Final = ({"resampling"}, {"SourceFilename", "SourceBand", "SrcRect", "DstRect"})
_RECTANGLE: Final[tuple[set[str], set[str]]] = ({"xOff", "yOff", "xSize", "ySize"}, set())
_PLAIN: Final[tuple[set[str], set[str]]] = (set(), set())
# Each element that is known: its attributes and the elements in it.
_KNOWN: Final[dict[str, tuple[set[str], set[str]]]] = {
    "VRTDataset": (
        {"rasterXSize", "rasterYSize"},
        {"SRS", "GeoTransform", "Metadata", "VRTRasterBand", "MaskBand", "BlockXSize", "BlockYSize"},
    ),
    "SRS": ({"dataAxisToSRSAxisMapping"}, set()),
    "Metadata": (set(), {"MDI"}),
    "MDI": ({"key"}, set()),
    "MaskBand": (set(), {"VRTRasterBand"}),
    "VRTRasterBand": (
        {"dataType", "band", "blockXSize", "blockYSize"},
        {
            "Description",
            "UnitType",
            "Offset",
            "Scale",
            "NoDataValue",
            "ColorInterp",
            "ColorTable",
            "CategoryNames",
            "Metadata",
            "SimpleSource",
            "ComplexSource",
        },
    ),
    "ColorTable": (set(), {"Entry"}),
    "Entry": ({"c1", "c2", "c3", "c4"}, set()),
    "CategoryNames": (set(), {"Category"}),
    "SimpleSource": _SOURCE,
    "ComplexSource": (_SOURCE[0], _SOURCE[1] | {"NODATA", "ScaleOffset", "ScaleRatio"}),
    "SourceFilename": ({"relativeToVRT", "shared"}, set()),
    "SrcRect": _RECTANGLE,
    "DstRect": _RECTANGLE,
    **dict.fromkeys(
        ("GeoTransform", "BlockXSize", "BlockYSize", "Description", "UnitType", "Offset", "Scale"), _PLAIN
    ),
    **dict.fromkeys(
        ("NoDataValue", "ColorInterp", "Category", "SourceBand", "NODATA", "ScaleOffset", "ScaleRatio"),
        _PLAIN,
    ),
}
# They change no pixel at full resolution; what GDAL would believe about the sources, it sees for itself.
_LEFT_OUT: Final = {"OverviewList", "Overview", "Histograms", "SourceProperties"}


def is_virtual(path: Path) -> bool:
    """Say whether a file begins like a virtual raster, whatever it is called."""
    try:
        with path.open("rb") as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return start.startswith(b"<") and b"<VRTDataset" in start


@dataclass(frozen=True)
class VirtualFile:
    """A virtual raster that may be opened.

    Args:
        path: Where it is.
    """

    path: Path

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def parent(self) -> Path:
        """The folder it is in."""
        return self.path.parent

    def checked(self) -> tuple[bytes, tuple[Path, ...]]:
        """Return what GDAL may open in its place, and the files it is made of.

        Raises:
            SceneError: It is no plain virtual raster of GeoTIFF and JPEG 2000 files in its folder or below.
        """
        root = self._parsed()
        sources: dict[Path, None] = {}
        self._check(root, sources)
        if root.tag != "VRTDataset":
            self._refuse(f"begins with <{root.tag[:40]}>; expected <VRTDataset>")
        bands = len(root.findall("VRTRasterBand"))
        if not 1 <= bands <= BAND_LIMIT:
            self._refuse(f"has {bands} bands; from 1 to {BAND_LIMIT} are read")
        return ElementTree.tostring(root, encoding="utf-8"), tuple(sources)

    def _parsed(self) -> ElementTree.Element:
        try:
            with self.path.open("rb") as file:
                content = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise SceneError(f"{self} cannot be opened: {error.strerror or error}.") from error
        if len(content) > SIZE_LIMIT:
            self._refuse(f"has more than {SIZE_LIMIT // 2**20} MiB")
        try:
            return ElementTree.fromstring(content, ElementTree.XMLParser(target=_Limited()))
        except _ForbiddenError as error:
            self._refuse(str(error))
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            self._refuse(f"cannot be parsed: {error}")

    def _check(self, element: ElementTree.Element, sources: dict[Path, None]) -> None:
        attributes, inside = _KNOWN.get(element.tag, _PLAIN)
        for child in list(element):
            # Metadata of other domains says nothing that is used, but GDAL acts on some.
            if child.tag in _LEFT_OUT or (child.tag == "Metadata" and child.attrib):
                element.remove(child)
            elif child.tag not in inside:
                self._refuse(f"holds <{child.tag[:60]}> in <{element.tag[:60]}>")
            else:
                self._check(child, sources)
        unknown = sorted(set(element.attrib) - attributes)
        if unknown:
            said = f"{unknown[0]}={element.attrib[unknown[0]]!r}"
            self._refuse(f"holds <{element.tag[:60]} {said[:60]}>")
        element.tail = None
        if element.tag == "SRS":
            element.text = self._crs(element.text or "")
        elif element.tag == "SourceFilename":
            source = self._source(
                (element.text or "").strip(), element.get("relativeToVRT", "0").strip() == "1"
            )
            sources[source] = None
            element.attrib = {"relativeToVRT": "0"}
            element.text = str(source)
        elif element.tag in ("SimpleSource", "ComplexSource") and len(element.findall("SourceFilename")) != 1:
            self._refuse(f"holds a <{element.tag}> without exactly one <SourceFilename>")

    def _source(self, name: str, relative: bool) -> Path:
        if is_remote(name) or not name:
            self._refuse(f"points to {name[:100]!r}, which is no local file")
        folder = self.path.absolute().parent
        try:
            source = (folder / name if relative else Path(name).absolute()).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            self._refuse(f"points to {name[:200]!r}, which is not there")
        # Symbolic links are followed first.
        if not source.is_relative_to(folder.resolve()):
            self._refuse(f"points to {name[:200]!r}, which is not in its folder {folder} or below")
        if not source.is_file():
            self._refuse(f"points to {name[:200]!r}, which is no file")
        with source.open("rb") as file:
            kind = file_kind(file, f"{source}, to which {self} points,")
            raw = file.read(2) == b"\xff\x4f"  # a bare codestream may be followed by anything
        if kind not in ("GTiff", "JP2OpenJPEG") or raw:
            self._refuse(f"points to {name[:200]!r}, which is neither GeoTIFF nor JPEG 2000")
        with opened(source, kind, str(source), whole=False):
            return source

    def _crs(self, text: str) -> str:
        """Return a coordinate system as WKT; GDAL would look up names, files and addresses."""
        text = text.strip()
        code = re.fullmatch(r"EPSG:(\d{1,9})", text, re.IGNORECASE)
        try:
            return str((CRS.from_epsg(int(code[1])) if code else CRS.from_wkt(text)).to_wkt()) if text else ""
        except RASTER_ERRORS:
            self._refuse(f"has a coordinate system that is neither WKT nor EPSG:NUMBER: {text[:60]!r}")

    def _refuse(self, what: str) -> NoReturn:
        raise SceneError(
            f"{self} {what}. Of virtual rasters (VRT), plain ones of GeoTIFF and JPEG 2000 files in the same folder or "
            f"below are read. Write it as GeoTIFF if you trust it: gdal_translate {self.name} {self.stem}.tif"
        )


class _ForbiddenError(Exception):
    """What no VRT needs."""


class _Limited(ElementTree.TreeBuilder):
    """Builds no tree that is large, deep, or that declares entities."""

    def __init__(self) -> None:
        super().__init__()
        self._elements = self._depth = 0

    def doctype(self, *_: Any) -> None:
        raise _ForbiddenError("has a document type declaration")

    def start(self, tag: Any, attrs: Any) -> Any:
        self._elements, self._depth = self._elements + 1, self._depth + 1
        if self._elements > ELEMENT_LIMIT or self._depth > DEPTH_LIMIT:
            raise _ForbiddenError(
                f"has more than {ELEMENT_LIMIT} elements, or some deeper than {DEPTH_LIMIT}"
            )
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Any:
        self._depth -= 1
        return super().end(tag)
