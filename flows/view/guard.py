"""Which requests ``spectile view`` answers, and what a browser may do with the answer.

Pages of other sites cannot use this server, even if their name resolves to 127.0.0.1. A request states the
site that it is for (``Host``) and the page that it comes from (``Origin``); only our own are accepted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bokeh.server.tornado import BokehTornado
from bokeh.server.views.doc_handler import DocHandler
from bokeh.settings import settings
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.web import RequestHandler, StaticFileHandler

NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Accepted names of the page's host; ``[::1]`` is for forwarded ports."""
PAGE, WEB_SOCKET = "/", "/ws"
SCRIPTS = ("bokeh", "bokeh-widgets")
"""The scripts of Bokeh that the page loads."""
_HERE = Path(__file__).parent
_FILES: dict[str, Path] = {
    **{f"/static/js/{name}.min.js": Path(settings.bokehjs_path(), f"js/{name}.min.js") for name in SCRIPTS},
    "/page/view.js": _HERE / "page.js",
    "/page/view.css": _HERE / "page.css",
}
"""Every file that is served, by its path in the address."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    # Bokeh puts a <style> into each of its parts, and our HTML has style="…".
    "style-src": "'self' 'unsafe-inline'",
    # Icons and cursors in Bokeh's own styles, and the page's empty icon.
    "img-src": "data:",
    # In some browsers 'self' does not include WebSockets.
    "connect-src": "ws://{host}",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


def refusal(request: HTTPServerRequest, port: int) -> tuple[int, str] | None:
    """Status and reason for refusing a request; None if it is answered.

    Parameters
    ----------
    port : the port of the server.
    """
    own = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())
    hosts, origins = (request.headers.get_list(name) for name in ("Host", "Origin"))
    host = hosts[0].lower() if len(hosts) == 1 else ""
    if host not in own:
        return 421, f"this page is at http://{NAMES[0]}:{port}/ and has no other name"
    if request.path not in (PAGE, WEB_SOCKET, *_FILES):
        return 404, "there is no such page"
    if (origins or request.path == WEB_SOCKET) and origins != [f"http://{host}"]:
        return 403, "only this page may connect"
    site, mode = (request.headers.get(f"Sec-Fetch-{name}", "none") for name in ("Site", "Mode"))
    if site not in ("none", "same-origin") and mode != "navigate":
        return 403, "this page cannot be embedded in another"
    if any(name.startswith("bokeh-") for name in request.arguments):
        return 400, "a page begins its own session"
    return None


class GuardedApplication(BokehTornado):  # type: ignore[misc]
    """Bokeh's application behind ``refusal``; it serves one page, its WebSocket and their files.

    Parameters
    ----------
    page : fills the document, as in Bokeh's applications.
    port : the port of the server.
    """

    def __init__(self, page: Any, port: int) -> None:
        # Bokeh's own check of origins comes after ours and is weaker.
        super().__init__({PAGE: page}, extra_websocket_origins=[f"{name}:{port}" for name in NAMES])
        self._port = port

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate:
        """The handler of a request."""
        path = request.path
        if refused := refusal(request, self._port):
            handler, arguments = _Refusal, {"refused": refused}
            return self.get_handler_delegate(request, handler, arguments)  # type: ignore[no-any-return]
        if path == PAGE:
            context = {"application_context": self.applications[PAGE], "bokeh_websocket_path": WEB_SOCKET}
            return self.get_handler_delegate(request, _Page, context)  # type: ignore[no-any-return]
        if path in _FILES:
            file = _FILES[path]
            return self.get_handler_delegate(  # type: ignore[no-any-return]
                request, _File, {"path": str(file.parent)}, [file.name.encode()]
            )
        return super().find_handler(request, **kwargs)  # type: ignore[no-any-return]


class _Guarded(RequestHandler):
    """Answers with the headers that keep other sites out."""

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)
        policy = "; ".join(f"{directive} {sources}" for directive, sources in _POLICY.items())
        self.set_header("Content-Security-Policy", policy.format(host=self.request.headers.get("Host")))


class _Page(_Guarded, DocHandler):  # type: ignore[misc]
    pass


class _File(_Guarded, StaticFileHandler):
    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")  # the browser caches it and asks whether it has changed


class _Refusal(_Guarded):
    def initialize(self, refused: tuple[int, str]) -> None:
        self._refused = refused

    def prepare(self) -> None:
        status, reason = self._refused
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"spectile: {reason}\n")
