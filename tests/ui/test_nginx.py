"""The app behind a real nginx, with the configurations that docs/deploy.md has: below a path and left alone for a while; and
two processes, each person at the same one each time.
"""

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.visitor import KL, NOTATION, PERPLEXITY, Visitor
from surgery_ui.rooms.store import Rooms
from tests.browser.conftest import ROOT, Server, free_port, served

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


def documented() -> tuple[str, str]:
    """Return the configurations that the document has: for one process, and for two."""
    one, two = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"), re.DOTALL)
    for found in (one, two):
        assert "proxy_read_timeout 60s;" in found
    return one, two


def found_nginx() -> str:
    if NGINX is None:
        assert not os.environ.get("CI"), "no nginx found: apt-get install nginx-light"
        pytest.skip("no nginx found: apt-get install nginx-light")
    return NGINX


def configured(folder: Path, own: str, outside: int) -> list[str]:
    """Write a configuration that listens on a port, and return the command that starts nginx with it."""
    own = own.replace("listen 80;", f"listen 127.0.0.1:{outside};")
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, own=own), encoding="utf-8")
    return [found_nginx(), "-c", str(folder / "nginx.conf"), "-e", str(folder / "early.log")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the app as nginx serves it."""
    folder, outside = tmp_path_factory.mktemp("nginx"), free_port()
    found_nginx()
    proxy: list[str] = []

    def command(port: int) -> list[str]:
        proxy[:] = configured(folder, documented()[0].replace("8501", str(port)), outside)
        where = [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"]
        return [sys.executable, "-m", "streamlit", "run", "app.py", *where]

    environment = os.environ | {"STREAMLIT_SERVER_BASE_URL_PATH": "surgery"}
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


@pytest.fixture(scope="module")
def two(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Server]]]:
    """Return the address that nginx serves two processes at, which share their rooms, and both by their letters."""
    folder, outside = tmp_path_factory.mktemp("two"), free_port()
    servers = {}
    for letter in "ab":
        (folder / letter).mkdir()
        servers[letter] = Server(models_folder, folder / letter, MODEL_SURGERY_STATE=str(folder))
    own = documented()[1].replace("8501", str(servers["a"].port)).replace("8502", str(servers["b"].port))
    with ThreadPoolExecutor() as starting:
        list(starting.map(Server.start, servers.values()))
    with subprocess.Popen(configured(folder, own, outside)) as nginx:
        try:
            yield await_answer(f"http://127.0.0.1:{outside}"), servers
        finally:
            nginx.terminate()
            for server in servers.values():
                server.kill()


def place_of(address: str, cookie: str = "") -> str:
    """Open the page and return where a browser is sent from then on."""
    request = urllib.request.Request(f"{address}/", headers={"Cookie": cookie} if cookie else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        (found,) = re.findall(r"surgery_place=([ab]);", answer.headers["set-cookie"])
    return str(found)


def test_a_browser_comes_to_the_same_process_each_time_and_to_the_other_when_that_ends(
    two: tuple[str, dict[str, Server]],
) -> None:
    address, servers = two
    places = [place_of(address) for _ in range(40)]
    assert set(places) == {"a", "b"}
    assert {place_of(address, f"surgery_place={letter}") for letter in "a" * 5} == {"a"}
    code, _ = Rooms(Path(servers["a"].log).parents[1] / "rooms.sqlite").create()

    async def visit() -> None:
        people = {letter: Visitor(address, letter * 32, {"Cookie": f"surgery_place={letter}"}) for letter in "ab"}
        try:
            for letter, person in people.items():
                await person.open(f"room={code}")
                assert f"room={code}" in person.address_now, "both have the rooms"
                await person.type(NOTATION, {"a": "0-2", "b": "1-3"}[letter])
                assert await person.until(lambda person=person: {PERPLEXITY, KL} <= person.metrics.keys(), 60)
                await person.go("Lens")
                session = person.session
                person.cut()
                await person.come_back()
                assert person.session == session, "the session is where it was"
            servers["b"].kill()
            assert await people["b"].ended()
            await people["b"].come_back()
            assert people["b"].page == "Lens"
            assert "plan=1-3" in people["b"].address_now
            assert await people["a"].until(lambda: people["a"].idle)
            for person in people.values():
                assert not person.errors
        finally:
            await asyncio.gather(*(person.close() for person in people.values()))

    asyncio.run(visit())
