"""A real S3 server on loopback, that can be told to fail: moto behind one lock, so that conditions hold."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

Request = tuple[str, str, str]
"""Method, path and query of a request."""
Fault = Callable[[Request], str | None]
"""The status line that a request gets instead of its answer, e.g. ``503 Slow Down``; None lets it through."""


@dataclass
class ObjectServer:
    """An S3 server and what it was asked."""

    requests: list[Request] = field(default_factory=list)
    """Every request since the last ``watch``."""
    fault: Fault | None = None
    """What goes wrong."""
    code: str = "InternalError"
    """The error's code in the XML of a failure."""
    lose_answers: bool = False
    """Whether a request that meets the fault is done nevertheless, and only its answer lost."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: BaseWSGIServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[ObjectServer]:
        """Listen on a free port."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        application = DomainDispatcherApplication(create_backend_app)  # type: ignore[no-untyped-call]
        self._server = make_server("127.0.0.1", 0, self._answering(application), threaded=True)
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    @contextmanager
    def failing(
        self, fault: Fault, *, code: str = "InternalError", lose_answers: bool = False
    ) -> Iterator[None]:
        """Let requests fail."""
        self.fault, self.code, self.lose_answers = fault, code, lose_answers
        try:
            yield
        finally:
            self.fault, self.lose_answers = None, False

    def _answering(self, application: Any) -> Any:
        def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            path = environ["PATH_INFO"].encode("latin-1").decode()
            request = environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", "")
            with self._lock:
                self.requests.append(request)
                status = self.fault(request) if self.fault else None
                if status is None or self.lose_answers:
                    body = list(application(environ, start if status is None else lambda *_: None))
                if status is None:
                    return body
                start(status, [("Content-Type", "application/xml")])
                return [f"<Error><Code>{self.code}</Code><Message>told to</Message></Error>".encode()]

        return answer
