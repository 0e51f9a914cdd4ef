"""Scenes by URL: how GDAL reads an object, and how a replaced object is detected.

Only the object is read: GDAL does not list folders or look for files beside it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
import rasterio
from obstore.exceptions import PreconditionError
from rasterio.session import DummySession

from spectile.catalog.errors import SceneError, SpectileError
from spectile.catalog.urls import Location, locate
from spectile.pipeline.store.objects import connect, endpoint, told

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore

CACHE_BYTES = 128 * 2**20
"""Bytes of GDAL's cache of decoded blocks: one row of blocks of a large scene."""
PART = 64 * 2**20
"""Bytes per request when an object is read completely."""

_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # The shared cache is off for a scene's URL (see CPL_VSIL_CURL_NON_CACHED): closing one handle drops what
    # other handles of the scene have fetched, headers too. So each handle has a small cache of its own.
    "VSI_CACHE": "YES",
    "VSI_CACHE_SIZE": "1000000",
    "GDAL_HTTP_MAX_RETRY": "6",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}


@dataclass(frozen=True)
class RemoteFile:
    """The state of an object at the time of a request."""

    location: Location
    """Its location."""
    etag: str | None
    """The server's tag for this state; None if the server gives none."""
    size: int
    """Bytes."""

    def check_unchanged(self) -> None:
        """Ask the server again and check that the object is unchanged.

        Raises
        ------
        SpectileError : the object was replaced or removed.
        """
        now = ask(self.location)
        if now != self:
            raise SpectileError(
                "the scene changed while it was read", where=str(self.location),
                got=f"ETag {now.etag}, {now.size} bytes", expected=f"ETag {self.etag}, {self.size} bytes",
                remedy="begin again with --overwrite",
            )  # fmt: skip

    def digest(self) -> bytes:
        """The sha256 of all bytes.

        Raises
        ------
        SceneError : they cannot be read, or the object changes during the read.
        """
        digest = hashlib.sha256()
        client, key = _client(self.location)
        with told(str(self.location), SceneError):
            for start in range(0, self.size, PART):
                span = (start, min(start + PART, self.size))
                options: GetOptions = {"range": span}
                if self.etag:
                    options["if_match"] = self.etag
                try:
                    digest.update(obstore.get(client, key, options=options).bytes())
                except PreconditionError as err:
                    raise SceneError("the scene changed while it was read", where=str(self.location)) from err
        return digest.digest()


def ask(location: Location) -> RemoteFile:
    """The object at a location; makes one request for one byte.

    Raises
    ------
    SceneError : it is missing, forbidden, or its server gives no parts of files.
    """
    client, key = _client(location)
    with told(str(location), SceneError):
        # Signed URLs often allow GET only, so HEAD is not used.
        found = obstore.get(client, key, options={"range": (0, 1)}).meta
    return RemoteFile(location, found["e_tag"], found["size"])


def _client(location: Location) -> tuple[ObjectStore, str]:
    return connect(location), "" if location.scheme.startswith("http") else location.key


def gdal_path(place: str | Path) -> str:
    """The name of a scene for GDAL: a path, or its URL through GDAL's own clients."""
    where = locate(place)
    if isinstance(where, Path):
        return str(where)
    if where.scheme.startswith("http"):
        return f"/vsicurl/{where.url}"
    return f"/vsi{where.scheme}/{where.host}/{where.key}"


def reading(place: str | Path) -> rasterio.Env:
    """The GDAL options for opening and reading a scene.

    GDAL finds credentials and regions in the environment, as the clients for cubes do.
    """
    # GDAL's default is a twentieth of the machine's memory, which large scenes would fill. The unit is bytes,
    # because rasterio reads this option differently from GDAL.
    # It would also write a file beside an ENVI scene that is packed by gzip.
    options: dict[str, object] = {"GDAL_CACHEMAX": CACHE_BYTES, "CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO"}
    where = locate(place)
    if isinstance(where, Location):
        # GDAL would keep fetched bytes until the process ends, also when the object is replaced.
        options |= {**_GDAL, "CPL_VSIL_CURL_NON_CACHED": gdal_path(place)}
        if where.scheme == "s3" and (url := endpoint()):
            parts = urlsplit(url)
            options |= {
                "AWS_S3_ENDPOINT": parts.netloc + parts.path.rstrip("/"),
                "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
                "AWS_VIRTUAL_HOSTING": "FALSE",
            }
        if where.scheme == "gs" and os.environ.get("GOOGLE_SKIP_SIGNATURE", "").lower() in ("true", "1"):
            options["GS_NO_SIGN_REQUEST"] = "YES"
    # Otherwise rasterio uses boto3, if installed, for credentials that GDAL finds itself.
    return rasterio.Env(session=DummySession(), **options)
