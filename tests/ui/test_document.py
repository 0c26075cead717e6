"""The document that browsers get first: Streamlit's own with one addition, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from surgery_ui.components.early import FILES
from surgery_ui.document import Document, addition

INDEX = Path(st.__file__).parent / "static" / "index.html"
ASKS = {"accept": "text/html,application/xhtml+xml"}


def index(_: object) -> Response:
    return FileResponse(INDEX)


def text(_: object) -> Response:
    return PlainTextResponse("<head></head>")


@pytest.fixture
def client() -> Iterator[TestClient]:
    routes = [Route("/", index), Route("/text", text)]
    middleware = [Middleware(Document), Middleware(GZipMiddleware, minimum_size=1)]
    with TestClient(Starlette(routes=routes, middleware=middleware)) as client:
        yield client


def test_the_document_is_streamlits_with_the_addition_at_the_end_of_its_head(client: TestClient) -> None:
    got = client.get("/", headers=ASKS)
    own = INDEX.read_bytes()
    assert got.content == own.replace(b"</head>", addition() + b"</head>")
    assert len(got.content) == int(got.headers["content-length"]) > len(own)


def test_a_browser_that_has_streamlits_own_document_gets_this_one(client: TestClient) -> None:
    tag = client.get("/").headers["etag"]
    got = client.get("/", headers=ASKS | {"if-none-match": tag})
    assert got.status_code == 200
    assert addition() in got.content
    assert "etag" not in got.headers


def test_what_is_no_document_or_not_asked_for_as_one_stays_as_it_is(client: TestClient) -> None:
    assert client.get("/text", headers=ASKS).text == "<head></head>"
    assert client.get("/").content == INDEX.read_bytes()


def test_streamlit_has_a_file_for_each_kind_of_element() -> None:
    added = addition().decode()
    for name in FILES:
        assert added.count(f"/{name}.") == 1, name
