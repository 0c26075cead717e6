"""A local HTTP server that takes pushes as the Hugging Face hub does: a repository, what goes how, large files, a commit."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.core.support.fake_hub import COMMIT, played

STEPS = {
    "/api/repos/create": "create", "/api/validate-yaml": "card", "/preupload/main": "preupload",
    "/info/lfs/objects/batch": "batch", "/commit/main": "commit",
}  # fmt: skip
"""What a request is for, by the end of its path; a file that is put is `put`, a question after a repository `ask`."""


@dataclass
class PushHub:
    """What was pushed, and how the server behaves.

    Attributes:
        lfs: whether weights go as large files.
        failing: the status with which a step is answered, or 0 where the connection is closed without a word.
        wait: seconds before a step is answered.
        created: what repositories were made of.
        files: what commits hold, by path.
        tokens: what came as authorization, by step.
    """

    lfs: bool = False
    failing: dict[str, int] = field(default_factory=dict)
    wait: dict[str, float] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, str | None] = field(default_factory=dict)
    endpoint: str = ""
    large: dict[str, bytes] = field(default_factory=dict)

    def unpack(self, folder: Path) -> Path:
        """Write what was committed into a folder."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


class _Handler(BaseHTTPRequestHandler):
    hub: PushHub

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        step = next((step for end, step in STEPS.items() if path.endswith(end)), "ask")
        body = self._begin(step)
        if body is not None:
            self._send(200, getattr(self, f"_{step}")(body))

    def do_PUT(self) -> None:
        body = self._begin("put")
        if body is not None:
            self.hub.large[self.path.rpartition("/")[2]] = body
            self._send(200, {})

    def do_GET(self) -> None:
        if self._begin("ask") is not None:
            self._send(404, {})

    def _begin(self, step: str) -> bytes | None:
        """Read a request; None where it was answered already."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.tokens[step] = self.headers.get("Authorization")
        threading.Event().wait(self.hub.wait.get(step, 0))
        status = self.hub.failing.get(step)
        if status is None:
            return body
        if status:
            # as bad as it gets: a server that says the token aloud
            said = {"error": f"no, {self.headers.get('Authorization')}", "url": f"{self.hub.endpoint}/me/small"}
            self._send(status, said)
        self.close_connection = True
        return None

    def _create(self, body: bytes) -> Any:
        self.hub.created.append(json.loads(body))
        return {"url": f"{self.hub.endpoint}/me/small"}

    def _card(self, body: bytes) -> Any:
        return {"errors": [], "warnings": []}

    def _preupload(self, body: bytes) -> Any:
        paths = [file["path"] for file in json.loads(body)["files"]]
        mode = {path: "lfs" if self.hub.lfs and path.endswith(".safetensors") else "regular" for path in paths}
        return {"files": [{"path": path, "uploadMode": mode[path], "shouldIgnore": False} for path in paths]}

    def _batch(self, body: bytes) -> Any:
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.endpoint}/storage/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _commit(self, body: bytes) -> Any:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[value["path"]] = self.hub.large[value["oid"]]
        return {"commitUrl": f"{self.hub.endpoint}/me/small/commit/{COMMIT}", "commitOid": COMMIT}

    def _send(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def serve_pushes() -> Iterator[PushHub]:
    """Run such a server on a free port for as long as the block runs."""
    with played(_Handler, PushHub()) as hub:
        yield hub
