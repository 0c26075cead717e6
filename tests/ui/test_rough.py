"""A real server among rough visitors: connections that break, clicks without end, bytes that are no messages, and SIGKILL.

Each time others go on, nothing that was accepted is lost, and whoever did it reads one plain sentence where there is
anybody to read it. Small random models, so that what is measured is the server.
"""

from __future__ import annotations

import asyncio
import random
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from streamlit import config
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.asyncio.client import connect

from benchmarks.visitor import KL, NOTATION, PERPLEXITY, Visitor
from surgery_ui.rooms.store import Rooms
from surgery_ui.work.channel import PATH
from tests.browser.conftest import Server

TTL = 1
"""Seconds for which this server keeps a session without a connection; Streamlit's default is two minutes."""
SOON = 15.0
"""Seconds after which something counts as hanging, on a machine that does other things too."""
BACK = 15.0
"""Seconds within which everybody is back after the server was started again."""
TABS = ("a" * 32, "b" * 32, "c" * 32)
ODDS: dict[str, bytes] = {
    "nothing": b"",
    "no protobuf": b"\xff" * 1_000,
    "random": random.Random(5).randbytes(4_096),
    "cut short": BackMsg(rerun_script={"query_string": "plan=0-2"}).SerializeToString()[:-3],
    "another message": BackMsg(app_heartbeat=True).SerializeToString() * 50,
    "a page that is none": BackMsg(rerun_script={"page_script_hash": "0" * 32}).SerializeToString(),
    "a widget that is none": BackMsg(
        rerun_script={"widget_states": {"widgets": [{"id": "$$ID-x-strip", "json_value": "[" * 50_000}]}}
    ).SerializeToString(),
    "a fragment that is none": BackMsg(rerun_script={"fragment_id": "x" * 1_000}).SerializeToString(),
    "a name of half a character": BackMsg(rerun_script={"query_string": "%ED%A0%80=%00&plan=%FF"}).SerializeToString(),
}


@pytest.fixture(scope="module")
def server(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("rough")
    server = Server(models_folder, folder, STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL=str(TTL))
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def visiting(*people: Visitor, query: str = "") -> Any:
    """Have people's pages open for as long as the block runs."""
    try:
        await asyncio.gather(*(person.open(query) for person in people))
        yield
    finally:
        await asyncio.gather(*(person.close() for person in people))


async def edit(person: Visitor, plan: str) -> float:
    """Have somebody type a plan, and return after how many seconds its figures are there."""
    began = await person.type(NOTATION, plan)
    assert await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys(), 30), "no figures"
    return max(when for _, when in person.metrics.values()) - began


def plan_of(person: Visitor) -> str:
    return next((part[5:] for part in person.address_now.split("&") if part.startswith("plan=")), "").replace(
        "%2C", ","
    )


def others_go_on(server: Server, do: Callable[[], Awaitable[object]]) -> None:
    """Have something done while another person's page is open, who has the figures of an edit afterwards."""

    async def both() -> None:
        bystander = Visitor(server.address)
        async with visiting(bystander):
            before = await edit(bystander, "0,1,3")
            await do()
            assert await edit(bystander, "0,2,3") < SOON + before
            assert not bystander.errors
            newcomer = Visitor(server.address)
            async with visiting(newcomer, query="plan=3,2,1,0"):
                assert plan_of(newcomer) == "3-0"

    asyncio.run(both())


def test_a_cut_connection_brings_plan_and_page_back(server: Server) -> None:
    assert int(config.get_option("server.disconnectedSessionTTL")) >= 30

    async def cut() -> None:
        person = Visitor(server.address, TABS[0])
        async with visiting(person):
            await edit(person, "0-2")
            await edit(person, "0,2")
            await person.go("Lens")
            session = person.session
            for seconds, same in ((0.2, True), (TTL + 1.0, False)):
                person.cut()
                await asyncio.sleep(seconds)
                await person.come_back()
                assert (person.session == session) is same
                assert (plan_of(person), person.page) == ("0,2", "Lens")
            # the steps that led there belong to the tab, not to the session that is gone
            assert await person.until(lambda: person.idle)
            for before in ("0-2", "0-3"):
                await person.press("undo")
                assert plan_of(person) == before
            assert not person.errors

    others_go_on(server, cut)


def test_two_hundred_quick_clicks_come_to_the_last_one(server: Server) -> None:
    async def click() -> None:
        person = Visitor(server.address)
        async with visiting(person):
            chance = random.Random(3)
            plans = [",".join(map(str, chance.sample(range(4), 3))) for _ in range(200)]
            for plan in plans:
                await person.type(NOTATION, plan)
            last = "0,3x2,1"
            took = await edit(person, last)
            assert plan_of(person) == last
            assert took < 2 * SOON
            assert await person.until(lambda: person.idle)
            assert not person.errors

    others_go_on(server, click)


@pytest.mark.parametrize("data", ODDS.values(), ids=ODDS)
def test_bytes_that_are_no_message_harm_nobody(server: Server, data: bytes) -> None:
    async def send() -> None:
        person = Visitor(server.address)
        async with visiting(person):
            await person.send(data)
            if data and not _parses(data):
                assert await person.ended()

    others_go_on(server, send)


def test_neither_words_nor_anything_else_is_understood_elsewhere(server: Server) -> None:
    async def send() -> None:
        person = Visitor(server.address)
        async with visiting(person):
            await person.send("a line of text")
            assert await person.ended()
        for said in ("x" * 100_000, random.Random(1).randbytes(1_000), ""):
            async with connect(f"{server.address.replace('http', 'ws')}/{PATH}") as socket:
                await socket.send(said)
                await asyncio.wait_for(socket.wait_closed(), 10)
                assert socket.close_code == 4404

    others_go_on(server, send)


PARAMETERS = (
    "model", "plan", "prompt", "own", "length", "temperature", "top_k", "top_p", "seed", "texts", "cut", "same", "present",
    "room", "key", "text", "text_z", "chat", "tray",
)  # fmt: skip


@pytest.mark.parametrize("letter", ["x", "%28", "9", "%3Cb%3E", "%F0%9F%8D%80", "%00"])
def test_a_parameter_of_a_hundred_kilobytes_is_a_sentence(server: Server, letter: str) -> None:
    async def visit() -> None:
        for name in PARAMETERS:
            person = Visitor(server.address)
            began = time.monotonic()
            long = f"{name}={letter * (100_000 // len(letter))}"
            async with visiting(person, query=long if name == "plan" else f"{long}&plan=0-2"):
                took = time.monotonic() - began
                assert person.said, name
                assert len(person.said) < 1_000, name
                assert took < SOON, name
                assert not person.errors
                assert len(person.address_now) < 10_000
                assert plan_of(person) == "0-2" or name in ("model", "plan")

    others_go_on(server, visit)


def test_an_address_of_two_megabytes_is_not_read(server: Server) -> None:
    async def visit() -> None:
        person = Visitor(server.address)
        async with visiting(person, query="&".join(f"{name}={'x' * 100_000}" for name in PARAMETERS)):
            assert person.address_now == "model=fable&plan=0-3"

    others_go_on(server, visit)


def test_a_hundred_thousand_brackets_are_a_sentence_within_a_second(server: Server) -> None:
    async def type_them() -> None:
        person = Visitor(server.address)
        async with visiting(person, query="plan=0-2"):
            for text in ("(" * 100_000, "0," * 50_000, "[" * 100_000, "~" * 100_000, "0x9" * 30_000):
                began = await person.type(NOTATION, text)
                assert await person.until(lambda: "(((" in person.said or "At " in person.said or person.said, 10)
                assert time.monotonic() - began < SOON
                assert len(person.said) < 2_000
                assert plan_of(person) == "0-2"
                assert await person.until(lambda: person.idle)
            assert not person.errors

    others_go_on(server, type_them)


def test_a_long_request_is_answered(server: Server) -> None:
    for address in (f"/?plan={'x' * 100_000}", "/" + "a/" * 40_000 + "a", "/media/" + "%00" * 30_000):
        began = time.monotonic()
        try:
            with urllib.request.urlopen(server.address + address, timeout=10) as answer:
                assert b"<title>" in answer.read(), "the page itself, which then says what is wrong"
        except urllib.error.HTTPError as refused:
            assert 400 <= refused.code < 500
        assert time.monotonic() - began < SOON
    with urllib.request.urlopen(f"{server.address}/_stcore/health") as answer:
        assert answer.status == 200


def test_a_killed_server_has_everybody_back_with_plan_page_and_board(server: Server) -> None:
    rooms = Rooms(Path(server.log).parent / "rooms.sqlite")
    code, _ = rooms.create(
        'version = 1\ntitle = "T"\nminutes = 1\nmodel = "fable"\n[[steps]]\ntitle = "A"\ntext = "B"\n'
    )
    plans = ("0-2", "1-3", "0,2-3")

    async def everybody() -> list[Visitor]:
        people = [Visitor(server.address, tab) for tab in TABS]
        async with visiting(*people, query=f"room={code}"):
            await asyncio.gather(*(edit(person, plan) for person, plan in zip(people, plans, strict=True)))
            for person, page in zip(people, ("Lens", "Sweep", "Room"), strict=True):
                await person.go(page)
            for at in range(3):
                rooms.join(code, TABS[at], f"Person {at}")
                assert rooms.score(code, TABS[at], plans[at], 3, 1.5, 0.5)
            server.kill()
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            began = time.monotonic()
            await asyncio.gather(*(person.come_back() for person in people))
            took = time.monotonic() - began
            assert took < BACK
            for person, plan, page in zip(people, plans, ("Lens", "Sweep", "Room"), strict=True):
                assert (plan_of(person), person.page) == (plan, page)
                assert f"room={code}" in person.address_now
                assert not person.errors
        return people

    asyncio.run(everybody())
    assert [(one.name, one.plan) for one in rooms.board(code)] == [
        (f"Person {at}", plan) for at, plan in enumerate(plans)
    ]


def _parses(data: bytes) -> bool:
    try:
        BackMsg.FromString(data)
    except Exception:  # noqa: BLE001 - protobuf has a class for it that it does not name
        return False
    return True
