"""A server on loopback in a process of its own, that notes what it is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

# GDAL holds Python's lock while it waits for an answer, so that a thread of ours could not give it.
_PROGRAM = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
files, moved, log = Path(sys.argv[1]), json.loads(sys.argv[2]), open(sys.argv[3], "a", buffering=1)

class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        log.write(self.path + "\\n")
        if self.path in moved:
            self.send_response(302)
            self.send_header("Location", moved[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = files / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        body = whole = path.read_bytes()
        span = self.headers.get("Range")
        if span:
            first, last = span.removeprefix("bytes=").split("-")
            body = whole[int(first) : int(last or len(whole) - 1) + 1]
        self.send_response(206 if span else 200)
        if span:
            end = int(first) + len(body) - 1
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(whole)}")
        self.send_header("ETag", f'"{hash(whole)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str
    """Where it listens."""
    log: Path
    """What it was asked, a path a line."""

    @property
    def requests(self) -> list[str]:
        """The paths that it was asked for."""
        return self.log.read_text().splitlines()


@contextmanager
def listening(files: Path | None = None, moved: str = "{}") -> Iterator[Server]:
    """A server of the files of a folder.

    Parameters
    ----------
    moved : JSON, where it sends those who ask for a path.
    """
    with TemporaryDirectory() as folder:
        log = Path(folder, "log")
        log.touch()
        arguments = [sys.executable, "-c", _PROGRAM, files or folder, moved, log]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}", log)
            finally:
                process.kill()
