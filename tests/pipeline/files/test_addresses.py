"""Redirects and links of real servers are in tests/hostile; here is what an address is."""

import socket

import pytest

from spectile.catalog.errors import SceneError
from spectile.catalog.urls import locate
from spectile.pipeline.files import addresses
from spectile.pipeline.files.addresses import resolve


def answer(monkeypatch, *found: str) -> None:
    """Let every name have these addresses, and no server send us on."""
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 443)) for address in found]
    )
    monkeypatch.setattr(addresses, "_redirect", lambda location: None)


URL = locate("https://host/a.tif")


def test_a_bucket_is_taken_as_it_is():
    assert resolve(locate("s3://bucket/a.tif"), listed=True) == locate("s3://bucket/a.tif")


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_a_public_address_is_asked_for_anybody(monkeypatch, address):
    answer(monkeypatch, address)
    assert resolve(URL, listed=True) == URL


def test_a_private_address_is_asked_for_the_user_alone(monkeypatch):
    answer(monkeypatch, "10.0.0.1")
    assert resolve(URL) == URL
    assert resolve(URL, listed=True, allow_private=True) == URL
    with pytest.raises(SceneError, match="a private address"):
        resolve(URL, listed=True)


def test_a_name_is_as_private_as_the_most_private_of_its_addresses(monkeypatch):
    answer(monkeypatch, "8.8.8.8", "127.0.0.1")
    with pytest.raises(SceneError, match="a loopback address"):
        resolve(URL, listed=True)
    answer(monkeypatch, "8.8.8.8", "fe80::1%eth0")
    with pytest.raises(SceneError, match="a link-local address"):
        resolve(URL)


def test_a_name_that_nobody_knows_is_left_to_whoever_asks(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert resolve(URL, listed=True) == URL


def test_a_circle_of_redirects_ends(monkeypatch):
    answer(monkeypatch, "8.8.8.8")
    monkeypatch.setattr(addresses, "_redirect", lambda location: "/a.tif")
    with pytest.raises(SceneError, match="too many redirects"):
        resolve(URL)
