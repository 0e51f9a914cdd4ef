"""Who is answered by the page, and what the browser is told it may do: the real server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.flows.conftest import chromium
from tests.flows.view.test_page import served
from tests.pipeline.cubes import make

STATIC = "/static/js/bokeh.min.js"
UPGRADE = (
    ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="), ("Sec-WebSocket-Protocol", "bokeh, token"),
)  # fmt: skip
Headers = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """That of a page which shows a cube."""
    cube = make(tmp_path_factory.mktemp("guarded"), shape=(60, 80))
    with served(str(cube.storage)) as number:
        yield number


def ask(port: int, path: str, headers: Headers, *, version: str = "1.1", method: str = "GET") -> str:
    """The head of the answer to a request that is sent as it is written."""
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        head = b""
        while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
            head += part
    return head.partition(b"\r\n\r\n")[0].decode("latin-1")


def status(port: int, path: str, headers: Headers, **more: Any) -> int:
    return int(ask(port, path, headers, **more).split()[1])


def web_socket(port: int, *headers: tuple[str, str]) -> int:
    return status(port, "/ws", (*headers, *UPGRADE))


OWN: tuple[Callable[[int], str], ...] = (
    lambda port: f"127.0.0.1:{port}",
    lambda port: f"localhost:{port}",
    lambda port: f"LocalHost:{port}",
    lambda port: f"[::1]:{port}",
)
FOREIGN: tuple[Callable[[int], str], ...] = (
    lambda port: f"evil.example:{port}",
    lambda port: "evil.example",
    lambda port: "127.0.0.1",
    lambda port: "localhost",
    lambda port: f"127.0.0.1:{port + 1}",
    lambda port: "127.0.0.1:80",
    lambda port: f"localhost.:{port}",
    lambda port: f"127.0.0.1.evil.example:{port}",
    lambda port: f"127.1:{port}",
    lambda port: f"0.0.0.0:{port}",
    lambda port: f"[::]:{port}",
    lambda port: f"[::ffff:127.0.0.1]:{port}",
    lambda port: f"[0:0:0:0:0:0:0:1]:{port}",
    lambda port: f"127.0.0.1:0{port}",
)


@pytest.mark.parametrize("host", OWN)
def test_the_pages_own_names_are_answered(port: int, host: Callable[[int], str]) -> None:
    own = ("Host", host(port))
    for path in ("/", STATIC):
        assert status(port, path, (own,)) == 200
        assert status(port, path, (own, ("Origin", f"http://{host(port).lower()}"))) == 200
    assert web_socket(port, own, ("Origin", f"http://{host(port).lower()}")) == 101


@pytest.mark.parametrize("host", FOREIGN)
def test_any_other_name_is_refused(port: int, host: Callable[[int], str]) -> None:
    other = ("Host", host(port))
    for path in ("/", STATIC, "/?id=1", "/nowhere"):
        assert status(port, path, (other,)) == 421
    # The page of a site that has its name point to this machine: both agree, and neither is ours.
    assert web_socket(port, other, ("Origin", f"http://{host(port)}")) == 421
    assert web_socket(port, other, ("Origin", f"http://127.0.0.1:{port}")) == 421


def test_a_request_with_no_host_or_two_is_refused(port: int) -> None:
    own, evil = ("Host", f"127.0.0.1:{port}"), ("Host", f"evil.example:{port}")
    for path in ("/", STATIC):
        assert status(port, path, ()) == 400
        assert status(port, path, (), version="1.0") == 421
        assert status(port, path, (own, evil)) == 400
        assert status(port, path, (evil, own)) == 400
        assert status(port, path, (own, own)) == 400
    # A whole address in place of a path does not change whose page is asked for.
    assert status(port, f"http://evil.example:{port}/", (own,)) in (400, 404, 421)
    assert status(port, f"//evil.example:{port}/", (own,)) == 404


def test_another_sites_origin_is_refused(port: int) -> None:
    host = f"127.0.0.1:{port}"
    for origin in (
        f"http://evil.example:{port}", f"https://{host}", f"http://127.0.0.1:{port + 1}", "http://127.0.0.1",
        f"http://localhost:{port}", "null", "", f"http://{host}/", f"http://{host}@evil.example", host,
    ):  # fmt: skip
        sent = (("Host", host), ("Origin", origin))
        assert status(port, "/", sent) == 403
        assert status(port, STATIC, sent) == 403
        assert web_socket(port, *sent) == 403
    own = ("Origin", f"http://{host}")
    assert status(port, "/", (("Host", host), own, ("Origin", f"http://evil.example:{port}"))) == 403
    assert web_socket(port, ("Host", host), own, own) == 403


def test_a_web_socket_must_say_where_it_comes_from(port: int) -> None:
    host = ("Host", f"127.0.0.1:{port}")
    assert web_socket(port, host) == 403
    assert web_socket(port, host, ("Sec-WebSocket-Origin", f"http://127.0.0.1:{port}")) == 403


def test_what_another_site_embeds_is_refused_and_a_link_is_followed(port: int) -> None:
    host = ("Host", f"127.0.0.1:{port}")
    for site in ("cross-site", "same-site"):
        assert status(port, "/", (host, ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "no-cors"))) == 403
        assert status(port, "/", (host, ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate"))) == 200
    for site in ("none", "same-origin"):
        assert status(port, "/", (host, ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "no-cors"))) == 200


def test_only_what_the_page_needs_is_served(port: int) -> None:
    host = ("Host", f"127.0.0.1:{port}")
    for path in (
        "/autoload.js?bokeh-autoload-element=x", "/metadata", "/favicon.ico", "/static/js/bokeh-api.min.js",
        "/static/../view.py", "/page/view.py", "/page/../view.py", "/zarr.json",
    ):  # fmt: skip
        assert status(port, path, (host,)) == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert status(port, "/", (host, ("Content-Length", "0")), method=method) == 405


def test_the_browser_is_told_to_trust_nothing_else(port: int) -> None:
    host = f"localhost:{port}"
    for path, code in (("/", 200), (STATIC, 200), ("/page/view.js", 200), ("/nowhere", 404)):
        head, *lines = ask(port, path, (("Host", host),)).split("\r\n")
        assert int(head.split()[1]) == code
        told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert told["x-content-type-options"] == "nosniff"
        assert told["referrer-policy"] == "no-referrer"
        assert told["cross-origin-resource-policy"] == "same-origin"
        assert told["cross-origin-opener-policy"] == "same-origin"
        assert told["cache-control"] == ("no-cache" if code == 200 and path != "/" else "no-store")
        assert "access-control-allow-origin" not in told
        policy = dict(part.split(maxsplit=1) for part in told["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self' 'unsafe-inline'",
            "img-src": "data:", "connect-src": f"ws://{host}", "base-uri": "'none'", "form-action": "'none'",
            "frame-ancestors": "'none'",
        }  # fmt: skip
    assert "421" in ask(port, "/", (("Host", "evil.example"),)).split("\r\n")[0]


ATTACK = """async (port) => {
  const said = {};
  const tried = async (name, url, mode) => {
    try {
      const answer = await fetch(url, { mode });
      said[name] = [answer.status, await answer.text()];
    } catch { said[name] = [0, ""]; }
  };
  const opened = (url) => new Promise((done) => {
    const socket = new WebSocket(url, ["bokeh", "token"]);
    socket.onopen = () => done(true);
    socket.onerror = () => done(false);
  });
  await tried("rebound", `http://evil.example:${port}/`, "cors");
  await tried("file", `http://evil.example:${port}/static/js/bokeh.min.js`, "cors");
  await tried("cross", `http://127.0.0.1:${port}/`, "cors");
  await tried("blind", `http://127.0.0.1:${port}/`, "no-cors");
  said.sockets = [await opened(`ws://evil.example:${port}/ws`), await opened(`ws://127.0.0.1:${port}/ws`)];
  return said;
}"""
"""What the page of a site would do whose name is first its own address and then 127.0.0.1."""


def test_a_site_whose_name_leads_to_this_machine_reads_nothing(port: int) -> None:
    leads = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    # This browser has a guard of its own by now, which asks its user; others have none.
    unguarded = "--disable-features=LocalNetworkAccessChecks"
    with chromium(leads, unguarded) as browser:
        tab = browser.new_page()
        # The site's own page, from its own server; everything else goes to where the name leads now.
        site = f"http://evil.example:{port}/attack"
        tab.route(site, lambda route: route.fulfill(body="<title>harmless</title>", content_type="text/html"))
        tab.goto(site)
        said = tab.evaluate(ATTACK, port)
        assert said["rebound"] == [
            421,
            f"spectile: this page is at http://127.0.0.1:{port}/ and has no other name\n",
        ]
        assert said["file"][0] == 421
        assert said["cross"] == said["blind"] == [0, ""]
        assert said["sockets"] == [False, False]
        assert tab.goto(f"http://evil.example:{port}/").status == 421
        assert tab.goto(f"http://localhost:{port}/").status == 200
        tab.close()
