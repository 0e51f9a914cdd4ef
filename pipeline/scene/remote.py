"""Scenes by URL: what tells one state of an object from another, and how GDAL reads it.

The object alone is read: GDAL lists no folder and looks for no file beside it.
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
"""What GDAL may keep of what it has decoded: a row of blocks of a large scene."""
PART = 64 * 2**20
"""Bytes that are asked for at once where an object is read whole."""

_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # What is fetched uncached (below) goes with the first handle of a scene that is closed, its header too,
    # whoever else has it open; so each keeps some for itself.
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
    """An object as it was when it was asked for."""

    location: Location
    """Where it is."""
    etag: str | None
    """What its server calls this state of it; None where the server does not say."""
    size: int
    """Bytes."""

    def check_unchanged(self) -> None:
        """Ask again.

        Raises
        ------
        SpectileError : it is another one now, or is gone.
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
        SceneError : they cannot be read, or change meanwhile.
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
    """The object at a location, with one request of one byte.

    Raises
    ------
    SceneError : it is missing, not allowed, or cannot be read in parts.
    """
    client, key = _client(location)
    with told(str(location), SceneError):
        # Signed URLs are often good for GET alone, so there is no HEAD.
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
    """What GDAL needs to know while it opens and reads a scene.

    Credentials and regions it finds in the environment, as the clients for cubes do.
    """
    # By default GDAL keeps a twentieth of the machine's memory, which large scenes would fill. In bytes:
    # rasterio does not read this option as GDAL does.
    options: dict[str, object] = {"GDAL_CACHEMAX": CACHE_BYTES}
    where = locate(place)
    if isinstance(where, Location):
        # GDAL would keep what it has fetched for as long as the process lives, whatever becomes of it.
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
    # Otherwise rasterio asks boto3, where it is installed, for what GDAL finds itself.
    return rasterio.Env(session=DummySession(), **options)
