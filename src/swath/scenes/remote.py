"""Rasters on a server, which are opened only if that is allowed by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from swath.errors import SceneError

__all__ = ["RemoteFile", "is_remote"]

_KNOWN: Final = {
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "/vsicurl/http://": "/vsicurl/http://",
    "/vsicurl/https://": "/vsicurl/https://",
    "/vsis3/": "/vsis3/",
}


def is_remote(name: str) -> bool:
    """Say whether GDAL would take a name for something else than a local file.

    Example:
        >>> is_remote("https://host/a.tif"), is_remote("/vsizip/a.zip"), is_remote("scenes/a.tif")
        (True, True, False)
    """
    return bool(re.match(r"\s*([A-Za-z][\w+.-]+:|/+vsi)", name))


@dataclass(frozen=True)
class RemoteFile:
    """A raster on a server; text shows its address without user, password and query, which may hold secrets.

    Args:
        address: ``http://``, ``https://`` or ``s3://``, or the same as GDAL's ``/vsicurl/`` or ``/vsis3/``.

    Raises:
        SceneError: It is none of these.

    Example:
        >>> file = RemoteFile("https://me:secret@host/2019/a.tif?token=1")
        >>> str(file), file.stem, file.parent.name
        ('https://host/2019/a.tif', 'a', '2019')
    """

    address: str

    def __post_init__(self) -> None:
        """Check the address."""
        prefix = next((known for known in _KNOWN if self.address.lower().startswith(known)), None)
        rest = self.address[len(prefix or "") :]
        if prefix is None or not re.match(r"[\w\[]", rest) or re.search(r"[\s\x00-\x1f\x7f]", self.address):
            raise SceneError(
                f"{self.shown(self.address)[:100]} is no address that swath opens. Give one that begins with "
                f"http://, https:// or s3://, or download the scene."
            )

    @property
    def gdal_name(self) -> str:
        """What GDAL calls it."""
        prefix = next(known for known in _KNOWN if self.address.lower().startswith(known))
        return _KNOWN[prefix] + self.address[len(prefix) :]

    @property
    def environment(self) -> dict[str, str]:
        """GDAL's options under which this file, and nothing else, may be asked for."""
        return {
            "CPL_VSIL_CURL_ALLOWED_FILENAME": self.gdal_name,
            "CPL_VSIL_CURL_NON_CACHED": self.gdal_name,  # it may change while this process lives
            "GDAL_HTTP_CONNECTTIMEOUT": "30",
            "GDAL_HTTP_LOW_SPEED_TIME": "60",
            "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
            "GDAL_HTTP_MAX_RETRY": "3",
            "GDAL_HTTP_RETRY_DELAY": "1",
            "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
        }

    def __str__(self) -> str:
        """Return the address without what may be secret."""
        return self.shown(self.address)

    @staticmethod
    def shown(address: str) -> str:
        """Return an address without user, password and query.

        Example:
            >>> RemoteFile.shown("/vsicurl/https://me:secret@host/a.tif?token=1")
            'https://host/a.tif'
        """
        try:
            parts = urlsplit(address.removeprefix("/vsicurl/"))
        except ValueError:
            return "the address"
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(urlsplit(str(self)).path)

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self._path.stem

    @property
    def parent(self) -> PurePosixPath:
        """The folder it is in."""
        return self._path.parent
