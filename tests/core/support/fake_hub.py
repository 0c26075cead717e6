"""A local HTTP server that answers like the Hugging Face hub, for as much of its interface as a download needs.

It serves folders as repositories and records every path that was asked for, so that a test can say what was fetched.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Hub = TypeVar("Hub", bound=Any)


def _going() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class FakeHub:
    """What the server offers and what was asked of it; it answers nothing while `pause` is cleared."""

    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: int = 0
    cut: bool = False
    pause: threading.Event = field(default_factory=_going)
    branches: bool = False
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def fetched(self) -> set[str]:
        """Return the names of the files whose content was sent."""
        return {path.rpartition("/")[2] for path in self.asked if path.startswith("GET") and "/resolve/" in path}


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        self.hub.pause.wait(30)
        if self.hub.broken:
            self._send(self.hub.broken, b"")
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        else:
            # a space has a word before its name
            end = 3 if parts[0] == "spaces" else 2
            self._file("/".join(parts[:end]), parts[end + 1], "/".join(parts[end + 2 :]))

    do_HEAD = do_GET

    def _api(self, name: str, rest: list[str]) -> None:
        folder = self.hub.repositories.get(name)
        if folder is None:
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif rest[1:2] and rest[1] not in ("main", COMMIT):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        elif rest[:1] == ["tree"]:
            self._send_json([_entry(folder, path) for path in _files(folder)])
        else:
            siblings = [{"rfilename": path, "size": (folder / path).stat().st_size} for path in _files(folder)]
            self._send_json({"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "siblings": siblings})

    def _file(self, name: str, revision: str, path: str) -> None:
        if name not in self.hub.repositories:
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        file = self.hub.repositories[name] / path
        known = (COMMIT, "main") if self.hub.branches else (COMMIT,)
        if name in self.hub.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif revision not in known or not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        else:
            self._send(200, file.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(file)}"'})

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if self.hub.cut and "safetensors" in self.path else body)
            self.close_connection = self.hub.cut

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, path: str) -> dict[str, object]:
    return {"type": "file", "path": path, "size": (folder / path).stat().st_size, "oid": _etag(folder / path)}


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def serve() -> Iterator[FakeHub]:
    """Run a fake hub on a free port for as long as the block runs."""
    with played(_Handler, FakeHub()) as hub:
        yield hub


@contextmanager
def played(handler: type[BaseHTTPRequestHandler], hub: Hub) -> Iterator[Hub]:
    """Run a server with this handler, which has the hub as an attribute, and tell the hub its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
