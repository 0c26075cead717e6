"""The app behind a real nginx, with the configuration that docs/deploy.md has: below a path, and left alone for a while."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.visitor import KL, NOTATION, PERPLEXITY, Visitor
from tests.browser.conftest import ROOT, free_port, served

NGINX = shutil.which("nginx") or next((path for path in ("/usr/sbin/nginx",) if Path(path).exists()), None)
IDLE = 63.0
"""Seconds without a word from the person: more than nginx waits for either side."""
MAIN = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {own}
}}
"""


def documented() -> str:
    """Return the configuration that the document has."""
    (found,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "proxy_read_timeout 60s;" in found
    return str(found)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the app as nginx serves it."""
    if NGINX is None:
        assert not os.environ.get("CI"), "no nginx found: apt-get install nginx-light"
        pytest.skip("no nginx found: apt-get install nginx-light")
    folder, outside = tmp_path_factory.mktemp("nginx"), free_port()

    def command(port: int) -> list[str]:
        own = documented().replace("8501", str(port)).replace("listen 80;", f"listen 127.0.0.1:{outside};")
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, own=own), encoding="utf-8")
        where = [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"]
        return [sys.executable, "-m", "streamlit", "run", "app.py", *where]

    environment = os.environ | {"STREAMLIT_SERVER_BASE_URL_PATH": "surgery"}
    proxy = [NGINX, "-c", str(folder / "nginx.conf"), "-e", str(folder / "early.log")]
    with (
        served(command, folder / "app.txt", cwd=ROOT, env=environment, base="/surgery"),
        subprocess.Popen(proxy) as nginx,
    ):
        try:
            yield await_answer(f"http://127.0.0.1:{outside}/surgery")
        finally:
            nginx.terminate()


def await_answer(address: str) -> str:
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return address
        except OSError:
            time.sleep(0.1)
    pytest.fail("nginx does not answer")


def test_a_page_that_was_left_alone_goes_on(address: str) -> None:
    async def visit() -> Visitor:
        person = Visitor(address)
        try:
            await person.open()
            await asyncio.sleep(IDLE)
            for plan in ("0-4,6-11", "0-5,7-11"):
                turn = max(person.first_words, default=0)
                await person.type(NOTATION, plan)
                assert await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys())
                # by the second websocket
                assert await person.until(lambda turn=turn: max(person.first_words, default=0) > turn)
        finally:
            await person.close()
        return person

    person = asyncio.run(visit())
    assert "plan=0-5%2C7-11" in person.address_now
    assert not person.errors


def test_headers_come_through_and_what_is_closed_stays_closed(address: str) -> None:
    with urllib.request.urlopen(f"{address}/") as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}/_stcore/metrics")
