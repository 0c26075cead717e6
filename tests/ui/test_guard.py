"""The headers of every answer, and the address that is closed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import streamlit as st
from starlette.testclient import TestClient

from surgery_ui.document.guard import headers
from tests.browser.conftest import ROOT


class Scripts(HTMLParser):
    """What stands in the scripts of a document that have no address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self._inside = list[str](), False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        self._inside = tag == "script" and "src" not in dict(attrs)

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)
            self._inside = False


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    from starlette.middleware import Middleware

    from surgery_ui.document import Document
    from surgery_ui.document.guard import Guard

    app = st.App(ROOT / "surgery_ui" / "main.py", middleware=[Middleware(Guard), Middleware(Document)])
    with TestClient(app) as client:
        yield client


def policy(answer: Any) -> dict[str, str]:
    parts = answer.headers["content-security-policy"].split("; ")
    return {name: rest for name, _, rest in (part.partition(" ") for part in parts)}


@pytest.mark.parametrize("path", ["/", "/lens", "/_stcore/health", "/static/js/none.js", "/media/none.zip"])
def test_every_answer_has_them(client: TestClient, path: str) -> None:
    got = client.get(path, headers={"accept": "text/html"}).headers
    assert {name.decode(): value.decode() for name, value in headers()}.items() <= dict(got).items()
    assert got["x-content-type-options"] == "nosniff"
    assert got["x-frame-options"] == "SAMEORIGIN"


def test_the_scripts_of_the_document_and_no_others_may_run(client: TestClient) -> None:
    answer = client.get("/", headers={"accept": "text/html"})
    scripts = Scripts(answer.text).found
    assert len(scripts) == 2
    digests = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts}
    allowed = policy(answer)["script-src"].split()
    assert set(allowed) == {"'self'", "blob:"} | digests
    assert policy(answer)["default-src"] == "'self'"
    assert policy(answer)["frame-ancestors"] == "'self'"


def test_named_sites_may_frame_it() -> None:
    named = dict(headers(("https://a.org", "https://b.org")))
    assert named[b"content-security-policy"].endswith(b"; frame-ancestors 'self' https://a.org https://b.org")
    assert b"x-frame-options" not in named


@pytest.mark.parametrize("path", ["/_stcore/metrics", "/_stcore/metrics/", "/deep/down/_stcore/metrics"])
def test_what_sessions_do_is_told_to_nobody(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content) == (404, b"")


def test_both_doors_of_the_app_are_guarded() -> None:
    assert re.search(r"middleware=\[Middleware\(Guard\), Middleware\(Document\)\]", (ROOT / "app.py").read_text())
