"""What rooms are made of, in one SQLite file: people, answers, scores. It outlives the server, however that ends.

Every change is committed before it is shown to anybody (write-ahead log). Nothing here imports Streamlit.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surgery_core.errors import RecipeError
from surgery_core.workshops.workshop import Workshop
from surgery_ui.rooms.names import clean_name, new_code, new_key, opens, sealed
from surgery_ui.rooms.records import Progress, Room, RoomError, Standing
from surgery_ui.words.labels import free

MAX_PEOPLE = 1_000
"""Most people in a room."""
MAX_ANSWER = 2_000
"""Longest answer to a question, in characters."""
MAX_SCORES = 2_000
"""Most plans of one person that a board remembers."""
HERE = 30.0
"""Seconds for which somebody counts as being there who was not heard of."""
_WAIT = 5.0
"""Seconds that a change waits for another one."""
_TABLES = """
CREATE TABLE IF NOT EXISTS rooms (
    code TEXT PRIMARY KEY, key TEXT NOT NULL, made REAL NOT NULL, ended REAL, workshop TEXT NOT NULL, model TEXT,
    pages TEXT NOT NULL, texts TEXT, pushed INTEGER NOT NULL DEFAULT 0, plan TEXT);
CREATE TABLE IF NOT EXISTS people (
    room TEXT NOT NULL, person TEXT NOT NULL, name TEXT NOT NULL, joined REAL NOT NULL, seen REAL NOT NULL,
    page TEXT NOT NULL DEFAULT '', PRIMARY KEY (room, person));
CREATE TABLE IF NOT EXISTS steps (
    room TEXT NOT NULL, person TEXT NOT NULL, step INTEGER NOT NULL, hints INTEGER NOT NULL DEFAULT 0,
    answer TEXT NOT NULL DEFAULT '', done REAL, PRIMARY KEY (room, person, step));
CREATE TABLE IF NOT EXISTS scores (
    room TEXT NOT NULL, person TEXT NOT NULL, plan TEXT NOT NULL, layers INTEGER NOT NULL, ratio REAL NOT NULL,
    kept REAL NOT NULL, at REAL NOT NULL, PRIMARY KEY (room, person, plan));
"""


class Rooms:
    """The rooms in one file.

    Args:
        path: of the file; it and its folder are made with the first room.
        clock: what time it is, in seconds since 1970.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = Path(path), clock
        self._made = False
        self._lock = threading.Lock()

    def create(
        self, workshop: str = "", *, model: str | None = None, pages: Sequence[str] = (), texts: str | None = None
    ) -> tuple[str, str]:
        """Make a room and return its code and the organiser's key, which is kept nowhere.

        Args:
            workshop: the text of a workshop's file, or nothing.
            model: what everybody works on; by default the workshop's model.
            pages: what is shown; nothing for all pages.
            texts: name of the set of texts that everybody scores.

        Raises:
            RecipeError: when that is no workshop.
            RoomError: when the file cannot be written.
        """
        if workshop:
            model = model or Workshop.read(workshop).model
        key = new_key()
        with self._writing() as base:
            taken = {code for (code,) in base.execute("SELECT code FROM rooms")}
            code = next(code for code in iter(new_code, None) if code not in taken)
            base.execute(
                "INSERT INTO rooms (code, key, made, workshop, model, pages, texts) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (code, sealed(key), self._clock(), workshop, model, json.dumps(list(pages)), texts),
            )
        return code, key

    def room(self, code: str | None) -> Room | None:
        """Return a room, or None where there is none of this code."""
        if code is None or not self._path.exists():
            return None
        with self._reading() as base:
            row = base.execute("SELECT * FROM rooms WHERE code = ?", (code,)).fetchone()
        return None if row is None else _room(row)

    def newest(self) -> Room | None:
        """Return the room that was made last and has not been ended, or None."""
        if not self._path.exists():
            return None
        with self._reading() as base:
            row = base.execute("SELECT * FROM rooms WHERE ended IS NULL ORDER BY made DESC, rowid DESC").fetchone()
        return None if row is None else _room(row)

    def is_organiser(self, code: str, key: str) -> bool:
        """Return whether a key is that of a room."""
        if not self._path.exists():
            return False
        with self._reading() as base:
            row = base.execute("SELECT key FROM rooms WHERE code = ?", (code,)).fetchone()
        return row is not None and opens(key, row["key"])

    def join(self, code: str, person: str, name: object = "") -> str:
        """Let somebody in, or take them back, and return their name: a free one, cleaned; `Guest 3` where they give none.

        Raises:
            RoomError: when there is no such room, it is over, or full.
        """
        with self._writing() as base:
            self._open(base, code)
            people = base.execute("SELECT person, name FROM people WHERE room = ?", (code,)).fetchall()
            others = {row["name"] for row in people if row["person"] != person}
            before = next((row["name"] for row in people if row["person"] == person), "")
            if not before and len(people) >= MAX_PEOPLE:
                raise RoomError(f"The room {code} is full: {MAX_PEOPLE:,} people are in it.")
            wanted = clean_name(name) or before
            found = free(wanted, others) if wanted else free(f"Guest {len(people) + 1}", others)
            now = self._clock()
            base.execute(
                "INSERT INTO people (room, person, name, joined, seen) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (room, person) DO UPDATE SET name = excluded.name, seen = excluded.seen",
                (code, person, found, now, now),
            )
        return found

    def name(self, code: str, person: str) -> str | None:
        """Return what somebody is called in a room, or None where they are not in it."""
        if not self._path.exists():
            return None
        with self._reading() as base:
            row = base.execute("SELECT name FROM people WHERE room = ? AND person = ?", (code, person)).fetchone()
        return None if row is None else str(row["name"])

    def see(self, code: str, person: str, page: str) -> None:
        """Note that somebody is on a page now."""
        with self._writing() as base:
            base.execute(
                "UPDATE people SET seen = ?, page = ? WHERE room = ? AND person = ?",
                (self._clock(), page, code, person),
            )

    def where(self, code: str) -> dict[str, int]:
        """Return how many people are on each page now; who they are is nobody's business."""
        with self._reading() as base:
            rows = base.execute(
                "SELECT page, COUNT(*) AS n FROM people WHERE room = ? AND seen > ? GROUP BY page ORDER BY page",
                (code, self._clock() - HERE),
            ).fetchall()
        return {row["page"]: row["n"] for row in rows}

    def count(self, code: str) -> int:
        """Return how many people have joined a room."""
        with self._reading() as base:
            return int(base.execute("SELECT COUNT(*) FROM people WHERE room = ?", (code,)).fetchone()[0])

    def push(self, code: str, key: str, plan: str) -> None:
        """Offer a plan to everybody in a room. Errors as `_organised`."""
        with self._organised(code, key) as base:
            base.execute("UPDATE rooms SET pushed = pushed + 1, plan = ? WHERE code = ?", (plan, code))

    def pin(
        self, code: str, key: str, *, model: str | None = None, pages: Sequence[str] = (), texts: str | None = None
    ) -> None:
        """Set what everybody works on: model, pages and texts, none of them where nothing is given."""
        with self._organised(code, key) as base:
            base.execute(
                "UPDATE rooms SET model = ?, pages = ?, texts = ? WHERE code = ?", (model, json.dumps(list(pages)), texts, code)
            )  # fmt: skip

    def end(self, code: str, key: str) -> None:
        """End a room: nobody joins it any more, and nothing in it changes."""
        with self._organised(code, key) as base:
            base.execute("UPDATE rooms SET ended = ? WHERE code = ? AND ended IS NULL", (self._clock(), code))

    def open_hint(self, code: str, person: str, step: int, number: int) -> None:
        """Note that somebody has opened the first `number` hints of a step."""
        self._change(code, person, step, "hints = MAX(hints, excluded.hints)", hints=number)

    def answer(self, code: str, person: str, step: int, text: str) -> None:
        """Keep somebody's answer to a step's question.

        Raises:
            RoomError: when it is longer than `MAX_ANSWER`.
        """
        if len(text) > MAX_ANSWER:
            raise RoomError(f"The answer has {len(text):,} characters; at most {MAX_ANSWER:,} are kept. Shorten it.")
        self._change(code, person, step, "answer = excluded.answer", answer=text)

    def finish(self, code: str, person: str, step: int) -> None:
        """Note that somebody has reached a step's goal; the first time counts."""
        self._change(code, person, step, "done = COALESCE(steps.done, excluded.done)", done=self._clock())

    def progress(self, code: str, person: str) -> dict[int, Progress]:
        """Return how far somebody is, by the number of the step."""
        with self._reading() as base:
            rows = base.execute("SELECT * FROM steps WHERE room = ? AND person = ?", (code, person)).fetchall()
        return {row["step"]: Progress(row["hints"], row["answer"], row["done"]) for row in rows}

    def overview(self, code: str) -> dict[int, tuple[int, int]]:
        """Return, by the number of the step, how many people have done it and how many have opened hints of it."""
        with self._reading() as base:
            rows = base.execute(
                "SELECT step, SUM(done IS NOT NULL) AS done, SUM(hints > 0) AS helped FROM steps WHERE room = ? GROUP BY step",
                (code,),
            ).fetchall()
        return {row["step"]: (int(row["done"]), int(row["helped"])) for row in rows}

    def score(self, code: str, person: str, plan: str, layers: int, ratio: float, kept: float) -> bool:
        """Put a plan on the board and return whether it is new there: the same plan of the same person counts once.

        The caller has computed its figures; they are never a browser's.

        Raises:
            RoomError: when the room is over, or the board has too many plans of this person.
        """
        with self._writing() as base:
            self._open(base, code)
            mine = base.execute("SELECT plan FROM scores WHERE room = ? AND person = ?", (code, person)).fetchall()
            if plan in {row["plan"] for row in mine}:
                return False
            if len(mine) >= MAX_SCORES:
                raise RoomError(f"The board has {MAX_SCORES:,} plans of yours, which are the most.")
            base.execute(
                "INSERT INTO scores (room, person, plan, layers, ratio, kept, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (code, person, plan, layers, ratio, kept, self._clock()),
            )
        return True

    def board(self, code: str) -> list[Standing]:
        """Return everybody's best plan, the best first."""
        with self._reading() as base:
            rows = base.execute(
                "SELECT scores.person, name, plan, layers, ratio, kept, at FROM scores JOIN people "
                "ON people.room = scores.room AND people.person = scores.person WHERE scores.room = ? "
                "ORDER BY layers, ratio, at, scores.rowid",
                (code,),
            ).fetchall()
        best: dict[str, Standing] = {}
        for row in rows:
            best.setdefault(row["person"], Standing(*row))
        return list(best.values())

    def clear_board(self, code: str, key: str) -> None:
        """Take all plans off the board."""
        with self._organised(code, key) as base:
            base.execute("DELETE FROM scores WHERE room = ?", (code,))

    def table(self, code: str, key: str) -> list[dict[str, object]]:
        """Return what everybody did: a row for each person and step, with the hints, the answer, and the minutes it took.

        Raises:
            RoomError: when the key is not the room's.
        """
        if not self.is_organiser(code, key):
            raise _no_key(code)
        with self._reading() as base:
            rows = base.execute(
                "SELECT name, step, hints, answer, done, joined FROM steps JOIN people ON people.room = steps.room "
                "AND people.person = steps.person WHERE steps.room = ? ORDER BY people.joined, name, step",
                (code,),
            ).fetchall()
        return [
            {
                "name": row["name"], "step": row["step"] + 1, "done": row["done"] is not None, "hints": row["hints"],
                "minutes": None if row["done"] is None else round((row["done"] - row["joined"]) / 60, 1),
                "answer": row["answer"],
            }
            for row in rows
        ]  # fmt: skip

    def _change(self, code: str, person: str, step: int, update: str, **values: Any) -> None:
        names = ", ".join(values)
        with self._writing() as base:
            self._open(base, code)
            base.execute(
                f"INSERT INTO steps (room, person, step, {names}) VALUES (?, ?, ?, {', '.join('?' * len(values))}) "
                f"ON CONFLICT (room, person, step) DO UPDATE SET {update}",
                (code, person, step, *values.values()),
            )

    def _open(self, base: sqlite3.Connection, code: str) -> None:
        row = base.execute("SELECT ended FROM rooms WHERE code = ?", (code,)).fetchone()
        if row is None:
            raise RoomError(f"There is no room {code}; ask the organiser for its four letters.")
        if row["ended"] is not None:
            raise RoomError(f"The room {code} is over; nothing in it changes any more.")

    @contextmanager
    def _organised(self, code: str, key: str) -> Iterator[sqlite3.Connection]:
        """Give a connection for a change that only the organiser may make.

        Raises:
            RoomError: when the key is not the room's.
        """
        if not self.is_organiser(code, key):
            raise _no_key(code)
        with self._writing() as base:
            yield base

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._prepare()
            with self._connection() as base:
                base.execute("BEGIN IMMEDIATE")
                try:
                    yield base
                except BaseException:
                    if base.in_transaction:  # on a full disk SQLite has rolled it back itself
                        base.execute("ROLLBACK")
                    raise
                base.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise RoomError(f"The rooms cannot be kept in {self._path} ({error}); tell the organiser.") from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connection() as base:
                yield base
        except sqlite3.Error as error:
            raise RoomError(f"The rooms in {self._path} cannot be read ({error}); tell the organiser.") from error

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        base = sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)
        try:
            base.row_factory = sqlite3.Row
            base.execute("PRAGMA synchronous = FULL")
            yield base
        finally:
            base.close()

    def _prepare(self) -> None:
        with self._lock:
            if self._made and self._path.exists():
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as base:
                base.execute("PRAGMA journal_mode = WAL")
                base.executescript(_TABLES)
            self._made = True


def _no_key(code: str) -> RoomError:
    return RoomError(f"This key does not open the room {code}; the one that was printed when it was made does.")


def _room(row: Mapping[str, Any] | sqlite3.Row) -> Room:
    try:
        workshop = Workshop.read(row["workshop"]) if row["workshop"] else None
    except RecipeError as error:
        raise RoomError(f"The tasks of the room {row['code']} cannot be read any more: {error}") from None
    return Room(
        row["code"], workshop, row["model"], tuple(json.loads(row["pages"])), row["texts"], row["made"], row["ended"],
        row["pushed"], row["plan"],
    )  # fmt: skip
