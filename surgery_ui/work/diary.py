"""What happens on the server, a line of JSON each, for whoever runs it; and what went wrong last.

Lines go where `log` in `surgery.toml` says. A line never has what a person wrote: no prompts, texts or answers, and of
an error only its kind and where in the code it was, unless `log_texts` is on, which adds what it says. A person is eight
digits that mean nothing elsewhere. Nothing here imports Streamlit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from surgery_core.errors import Stopped, SurgeryError
from surgery_ui.work.limits import limits

EVENTS = {
    "model": "load", "sweep": "sweep", "search": "sweep", "importance": "sweep", "study": "sweep",
    "lens-training": "training", "lens-fetch": "fetch", "checkpoint": "export", "gguf": "export", "report": "export",
}  # fmt: skip
"""What lines call the end of a job, by its kind; the ends of others are no news."""
OUTPUT = "-"
"""As the value of `log`: the server's own output."""
MOST_FAULTS = 20
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_files: dict[str, TextIO] = {}
_faults: deque[Fault] = deque(maxlen=MOST_FAULTS)


@dataclass(frozen=True)
class Fault:
    """Something that went wrong and should not have.

    Attributes:
        id: by which the person's sentence, the log and the organiser's page name it.
        at: when it was.
        where: what was being done.
        kind: name of the error's class.
        place: file, line and function in the code.
    """

    id: str
    at: datetime
    where: str
    kind: str
    place: str


def note(event: str, owner: str = "", /, **facts: object) -> None:
    """Write a line.

    Args:
        event: what happened.
        owner: whose session it was in; empty for nobody's.
        facts: more about it; never anything that a person wrote, but for plans and names of models.
    """
    where = limits().log
    if not where:
        return
    line = {"at": _now().isoformat(timespec="milliseconds"), "event": event}
    if owner:
        line["session"] = person(owner)
    with _lock, suppress(OSError, ValueError):  # a full disk must not end the work
        file = _file(where)
        file.write(json.dumps(line | {name: fact for name, fact in facts.items() if fact is not None}) + "\n")
        file.flush()


def person(owner: str) -> str:
    """Return by which digits lines name a session."""
    return hashlib.sha256(f"diary {owner}".encode()).hexdigest()[:8]


def note_refusal(owner: str, control: str, error: SurgeryError) -> None:
    """Write that something was refused, and what; the sentence may have what a person wrote."""
    note("refusal", owner, control=control, kind=type(error).__name__, says=_said(error))


def note_end(
    key: Sequence[object], owners: Iterable[str], seconds: float | None, size: int, error: SurgeryError | None
) -> None:
    """Write how a job ended, where that is news.

    Args:
        key: of the job; its first part is the kind.
        owners: who wanted it.
        seconds: that it took, or None where it never ran.
        size: bytes that its result keeps.
        error: that it ended with.
    """
    kind = str(key[0])
    if kind not in EVENTS:
        return
    ended = "done" if error is None else "stopped" if isinstance(error, Stopped) else "refused"
    took = None if seconds is None else round(seconds, 3)
    facts = {"kind": kind, "model": _model(key), "seconds": took, "ended": ended, "memory_mb": round(size / 1e6, 1)}
    if ended == "refused":
        facts |= {"error": type(error).__name__, "says": _said(error)}
    note(EVENTS[kind], sessions=sorted(person(owner) for owner in owners), **facts)


def note_fault(error: BaseException, where: str) -> Fault:
    """Write that something went wrong, remember it for the organiser, and return it; its `id` is for the person."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    fault = Fault(secrets.token_hex(4), _now(), where, type(error).__name__, places[-1] if places else "")
    _faults.append(fault)
    note("error", id=fault.id, where=where, kind=fault.kind, frames=places, says=_said(error))
    said = f": {error}" if limits().log_texts else ""
    stack = "".join(traceback.format_tb(error.__traceback__))
    _log.error("Error %s in %s\nTraceback (most recent call last):\n%s%s%s", fault.id, where, stack, fault.kind, said)
    return fault


def note_elsewhere(fault: Fault) -> None:
    """Write and remember what went wrong in another process, whose own log has the stack."""
    _faults.append(fault)
    note("error", id=fault.id, where=fault.where, kind=fault.kind, frames=[fault.place])
    _log.error("Error %s in %s, in a worker: %s at %s", fault.id, fault.where, fault.kind, fault.place)


def fault_of(sentence: str) -> Fault | None:
    """Return what went wrong of which a sentence has the id, or None where that is not known."""
    return next((fault for fault in _faults if fault.id in sentence), None)


def faults() -> list[Fault]:
    """Return what went wrong last, the newest first."""
    return list(reversed(_faults))


def _said(error: BaseException | None) -> str | None:
    return str(error) if limits().log_texts else None


def _model(key: Sequence[object]) -> str | None:
    """Return the name of a job's model; its key has it, or the model's own key with it."""
    second = key[1] if len(key) > 1 else None
    if isinstance(second, tuple) and second:
        second = second[0]
    return second if isinstance(second, str) else None


def _file(where: str) -> TextIO:
    if where == OUTPUT:
        return sys.stdout
    if where not in _files:
        path = Path(where).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        _files[where] = path.open("a", encoding="utf-8")
    return _files[where]


def _now() -> datetime:
    return datetime.now(UTC)
