"""Whom the Prefect server on loopback lets ask: no page of another site in the same browser."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from email.message import Message

import pytest

from spectile.flows.deployed.server import LocalServer

pytestmark = pytest.mark.slow  # on a Prefect server, which takes seconds to start


def ask(
    server: LocalServer, path: str, origin: str, *, method: str, kind: str = "application/json"
) -> tuple[int, Message]:
    """Status and headers of what the API answers to a page of this origin."""
    headers = {
        "Origin": origin, "Content-Type": kind, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }  # fmt: skip
    data = b"{}" if method == "POST" else None
    request = urllib.request.Request(f"{server.url}/{path}", data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as err:
        return err.code, err.headers


def test_only_its_own_page_may_read_what_it_answers(prefect_server: LocalServer) -> None:
    port = prefect_server.url.rpartition(":")[2].partition("/")[0]
    for method, path in (("OPTIONS", "flows/filter"), ("GET", "version")):
        for own in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
            status, headers = ask(prefect_server, path, own, method=method)
            assert (status, headers["Access-Control-Allow-Origin"]) == (200, own)
        for other in (f"http://evil.example:{port}", "http://127.0.0.1:1", "null"):
            status, headers = ask(prefect_server, path, other, method=method)
            assert headers["Access-Control-Allow-Origin"] is None
            assert status == (400 if method == "OPTIONS" else 200)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
def test_what_a_page_sends_without_the_servers_token_is_not_taken(
    prefect_server: LocalServer, kind: str
) -> None:
    for path in ("flows/filter", "admin/database/clear"):
        assert ask(prefect_server, path, "http://evil.example", method="POST", kind=kind)[0] == 403


def test_it_listens_on_loopback_only(prefect_server: LocalServer) -> None:
    port = int(prefect_server.url.rpartition(":")[2].partition("/")[0])
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", port))
