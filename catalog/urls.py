"""Places of scenes and cubes: a local path, or a checked URL of an object."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from spectile.catalog.errors import UsageError
from spectile.catalog.redaction import redact_url

_SCHEMES = ("s3", "gs", "https", "http")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SECRETS_BELONG = "set credentials in the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, …)"


@dataclass(frozen=True)
class Location:
    """An object, or a prefix of objects, in a store with a URL. Its text holds no secret."""

    scheme: str
    """s3, gs or https; http only for servers on this machine."""
    host: str
    """The bucket, or the host with its port."""
    key: str
    """The object's key, unquoted, or the path of an https URL, quoted; without a leading slash."""
    query: str = field(default="", repr=False)
    """The query with the signature of an https URL; never recorded."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.key}".rstrip("/")

    @property
    def url(self) -> str:
        """The URL to request, with its signature."""
        return f"{self}?{self.query}" if self.query else str(self)

    @property
    def name(self) -> str:
        """The last part, to show."""
        last = self.key.rpartition("/")[2]
        return unquote(last) if self.scheme.startswith("http") else last

    @property
    def is_here(self) -> bool:
        """Whether the server is on this machine."""
        return self.scheme.startswith("http") and urlsplit(str(self)).hostname in _LOOPBACK

    @property
    def parent(self) -> Location:
        """The prefix that contains it."""
        return replace(self, key=self.key.rpartition("/")[0], query="")


def is_url(place: str | Path) -> bool:
    """Whether a place is written as a URL, of any scheme."""
    return isinstance(place, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def locate(place: str | Path) -> Path | Location:
    """The place of a path, a ``file://`` URL, or the URL of an object.

    Raises
    ------
    UsageError : the URL has another scheme, contains credentials, or names no object.
    """
    if not is_url(place):
        return Path(place)
    shown = redact_url(str(place))
    if re.search(r"[\x00-\x1f\x7f\\]", str(place)):
        raise UsageError("the URL holds control characters or backslashes")
    scheme, _, rest = str(place).partition("://")
    scheme = scheme.lower()
    if scheme != "file" and scheme not in _SCHEMES:
        raise UsageError(
            "a URL of this kind cannot be used", where=shown, expected="s3://, gs://, https:// or file://"
        )
    if shown.endswith("://…") or "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        raise UsageError("the URL holds credentials", where=shown, remedy=_SECRETS_BELONG)
    if scheme == "file":
        return _file(str(place), shown)
    location = _web(str(place), scheme, shown) if scheme.startswith("http") else _object(rest, scheme, shown)
    if {".", ".."} & set(unquote(location.key).split("/")):
        raise UsageError("the URL leads out of its folder", where=shown, expected="no . or .. in it")
    return location


def _file(url: str, shown: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        raise UsageError("not the URL of a file here", where=shown, expected="file:///PATH")
    return Path(unquote(parts.path))


def _object(rest: str, scheme: str, shown: str) -> Location:
    bucket, _, key = rest.partition("/")
    key = key.rstrip("/")
    if "?" in rest or "#" in rest:
        raise UsageError("the URL of an object has no query", where=shown, remedy=_SECRETS_BELONG)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket) or not key or "" in key.split("/"):
        raise UsageError("the URL names no object", where=shown, expected=f"{scheme}://BUCKET/NAME")
    return Location(scheme, bucket, key)


def _web(url: str, scheme: str, shown: str) -> Location:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not parts.path.strip("/") or parts.fragment or re.search(r"\s", url):
        raise UsageError("the URL names no file", where=shown, expected=f"{scheme}://HOST/PATH")
    if scheme == "http" and host not in _LOOPBACK:
        raise UsageError("http is for this machine only", where=shown, remedy="use https://")
    return Location(scheme, parts.netloc, parts.path[1:], parts.query)


def nested(one: Path | Location, other: Path | Location) -> bool:
    """Whether two places are the same, or one contains the other."""
    first, second = _parts(one), _parts(other)
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _parts(place: Path | Location) -> tuple[str, ...]:
    if isinstance(place, Path):
        # Path.resolve() fails at a loop of links.
        return ("file", *Path(os.path.realpath(place)).parts)
    return (place.scheme, place.host, *place.key.split("/"))
