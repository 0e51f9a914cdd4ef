"""Which servers are asked for scenes: those that a URL names, and none that it leads to by a detour."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import IPv6Address, ip_address
from typing import Literal
from urllib.parse import urljoin, urlsplit

from spectile.catalog.errors import SceneError
from spectile.catalog.urls import Location, locate

MOST_REDIRECTS = 5
SECONDS = 10.0
"""To connect, and to begin an answer."""

Kind = Literal["public", "private", "loopback", "link-local", "no server's"]


def resolve(location: Location, *, listed: bool = False, allow_private: bool = False) -> Location:
    """Where an object is in the end: its URL, or the one that its server sends us to.

    Buckets are taken as they are; the environment says where they are asked for.

    Parameters
    ----------
    listed : a catalogue named it, and not the user: it leads to public addresses only.
    allow_private : let it lead to addresses of any kind.

    Raises
    ------
    SceneError : it leads to an address that is not asked, to another scheme, or nowhere.
    """
    if not location.scheme.startswith("http"):
        return location
    first = kind = _kind(location)
    for _ in range(MOST_REDIRECTS):
        if not allow_private:
            _check(location, kind, first, listed=listed)
        target = None if kind is None else _redirect(location)
        if target is None:
            return location
        following = locate(urljoin(location.url, target))
        if not isinstance(following, Location) or following.scheme != location.scheme:
            raise SceneError(
                "the server sends us to another scheme", where=str(location), got=urlsplit(target).scheme,
                expected=location.scheme,
            )  # fmt: skip
        location, kind = following, _kind(following)
    raise SceneError("too many redirects", where=str(location), expected=f"up to {MOST_REDIRECTS}")


def _check(location: Location, kind: Kind | None, first: Kind | None, *, listed: bool) -> None:
    refused = {"link-local", "no server's"} | ({"private", "loopback"} if listed else set())
    if kind in refused or kind != first:
        raise SceneError(
            "the URL leads to an address that is not asked", where=str(location), got=f"a {kind} address",
            remedy="say --allow-private if that is meant",
        )  # fmt: skip


def _kind(location: Location) -> Kind | None:
    """What kind of address a host has, the most private of several; None of a name that is not known."""
    parts = urlsplit(str(location))
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError:
        return None  # whoever asks for it will say so
    kinds = {_kind_of(str(each[4][0]).partition("%")[0]) for each in found}
    order: tuple[Kind, ...] = ("no server's", "link-local", "loopback", "private", "public")
    return next(kind for kind in order if kind in kinds)


def _kind_of(text: str) -> Kind:
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast or address.is_unspecified:
        return "no server's"
    return "public" if address.is_global else "private"


def _redirect(location: Location) -> str | None:
    """Where a server sends those who ask for an object; None where it does not, or fails."""
    make = HTTPSConnection if location.scheme == "https" else HTTPConnection
    connection = make(location.host, timeout=SECONDS)
    path = "/" + location.key + (f"?{location.query}" if location.query else "")
    try:
        # Signed URLs are often good for GET alone, so there is no HEAD.
        connection.request("GET", path, headers={"Range": "bytes=0-0"})
        answer = connection.getresponse()
        return answer.getheader("Location") if 300 <= answer.status < 400 else None
    except (OSError, HTTPException):
        return None  # the client tries again, and says what is wrong
    finally:
        connection.close()
