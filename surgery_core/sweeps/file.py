"""Sweeps as files: tables that say in every line which sweep it belongs to, so that one can be gone on with.

A results file is plain CSV. Its first columns (`sweep_model`, `sweep_texts`, ...) are the same in every line and name
the model, the texts, the kind and all options; rows are appended and never changed. A line that was cut off when the
process died is taken off when the file is opened again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from surgery_core.bounded import read_json
from surgery_core.errors import SweepFileError
from surgery_core.measure.encoding import Encoded
from surgery_core.models.opening import ModelInfo
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.rows import ANSWERS, LATER, RIGHT, SweepRow, frame
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import texts_digest as given_digest

MAX_FILE_BYTES = 64 * 2**20
"""Largest results file that is read."""


@dataclass(frozen=True)
class SweepIdentity:
    """What two sweeps must share for their rows to belong together; all as text.

    Attributes:
        model: name, revision and number format.
        kind: key of the kind.
        start: the plan that is changed, in notation.
        options: as JSON.
        measures: as JSON: agreement, skills, prompt, new_tokens.
        texts: how many, and a digest of titles and tokens.
    """

    model: str
    kind: str
    start: str
    options: str
    measures: str
    texts: str

    @classmethod
    def of(cls, model: str, kind: str, sweep: Sweep, options: SweepOptions | None = None) -> SweepIdentity:
        """Return the identity of a sweep of the model that is called `model`."""
        given = asdict(options or SweepOptions())
        # files of earlier releases know nothing of these
        given = {name: value for name, value in given.items() if value is not None or name not in ("length", "damping")}
        stitcher = sweep.setup.stitcher
        given |= {} if stitcher is None else {"calibration": given_digest(stitcher.texts)}
        return cls.named(model, kind, sweep.start, sweep.setup.encoded, given, sweep.setup.measures)

    @classmethod
    def named(
        cls, model: str, kind: str, start: LayerPlan, encoded: Encoded, options: Mapping[str, Any] | None = None,
        measures: SweepMeasures | None = None,
    ) -> SweepIdentity:  # fmt: skip
        """Return the identity of whatever begins with a plan and is measured over texts."""
        measured = "{}" if measures is None else _measures(measures)
        return cls(
            model, kind, str(start), json.dumps(dict(options or {}), sort_keys=True), measured, texts_digest(encoded)
        )

    def columns(self) -> dict[str, str]:
        """Return the identity as columns of a results file."""
        return {f"sweep_{name}": value for name, value in asdict(self).items()}

    def check(self, other: Mapping[str, str], where: str) -> None:
        """Refuse rows of another sweep.

        Raises:
            SweepFileError: naming the first column that differs, with both values.
        """
        for name, value in self.columns().items():
            if other.get(name) != value:
                raise SweepFileError(
                    f"{where} holds another sweep: its {name.removeprefix('sweep_')} is {other.get(name)!r}, "
                    f"not {value!r}. Choose another file, or the same settings as before."
                )


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The rows of a sweep, complete or not, and which sweep it is."""

    identity: SweepIdentity
    rows: tuple[SweepRow, ...]

    @property
    def first(self) -> SweepRow | None:
        """Return the row of the plan that the sweep starts from, where it is there."""
        return next((row for row in self.rows if row.number < 0), None)

    def frame(self) -> pd.DataFrame:
        """Return one line a row, in order; columns as in `SweepRow.record`."""
        return frame(self.rows)

    def to_csv(self) -> str:
        """Return the results file."""
        return csv_of(self.identity, [row.record() for row in sorted(self.rows, key=lambda row: row.number)])

    def to_json(self) -> str:
        """Return the sweep as JSON; a figure that there is not (NaN) is null."""
        return json_of(self.identity, [row.record() for row in self.rows])

    @classmethod
    def read(cls, text: str, where: str = "The file") -> SweepResult:
        """Read a sweep from the text of a results file or of its JSON.

        Raises:
            SweepFileError: when it is neither; it says what is wrong.
        """
        return cls(*_parsed(records_of(text, where), where))


def csv_of(identity: SweepIdentity, records: Sequence[Mapping[str, Any]]) -> str:
    """Return flat records as CSV that says in every line what they belong to."""
    whole = [identity.columns() | dict(record) for record in records]
    columns = list(dict.fromkeys(name for record in whole for name in record))
    return "".join(map(_line, [columns, *([_cell(record.get(name)) for name in columns] for record in whole)]))


def json_of(identity: SweepIdentity, records: Sequence[Mapping[str, Any]]) -> str:
    """Return flat records as JSON; a figure that there is not (NaN) is null."""
    rows = [{name: _plain(value) for name, value in record.items()} for record in records]
    return json.dumps({"sweep": asdict(identity), "rows": rows}, indent=1, ensure_ascii=False)


def records_of(text: str, where: str) -> list[dict[str, Any]]:
    """Return the records of a results file or of its JSON, each with the columns that say what it belongs to.

    Raises:
        SweepFileError: when it is neither, or has none; it says what is wrong.
    """
    found: Any = _json_records(text, where) if text.lstrip().startswith("{") else _csv_records(text, where)
    if not found:
        raise SweepFileError(f"{where} has no rows.")
    return list(found)


def identity_of(records: Sequence[Mapping[str, Any]], where: str) -> SweepIdentity:
    """Return what all of some records belong to.

    Raises:
        SweepFileError: when they belong to several things.
        KeyError: when a column is missing.
    """
    names = [str(name) for name in SweepIdentity.__dataclass_fields__]
    identity = SweepIdentity(**{name: str(records[0][f"sweep_{name}"]) for name in names})
    for record in records:
        identity.check({key: str(value) for key, value in record.items()}, where)
    return identity


class SweepFile:
    """A results file that grows by a row at a time.

    Args:
        path: the file; made when it is not there.
        sweep: the sweep whose rows go in, or `columns_of` it.
        identity: of that sweep.

    Raises:
        SweepFileError: when the file holds another sweep, is broken, or cannot be written.
    """

    def __init__(self, path: str | Path, sweep: Sweep | list[str], identity: SweepIdentity) -> None:
        self.path, self.identity = Path(path), identity
        self.columns = [*identity.columns(), *(sweep if isinstance(sweep, list) else columns_of(sweep))]
        self.rows: tuple[SweepRow, ...] = ()
        if self.path.exists() and self.path.stat().st_size:
            self._open()
        else:
            self._write(_line(self.columns))

    @property
    def done(self) -> frozenset[int]:
        """Return the numbers of the rows that are there."""
        return frozenset(row.number for row in self.rows)

    def append(self, row: SweepRow) -> None:
        """Add a row at the end, unless it is there already.

        Raises:
            SweepFileError: when it cannot be written; what was there is as it was.
        """
        if row.number in self.done:
            return
        record = self.identity.columns() | row.record()
        self._write(_line([_cell(record.get(name)) for name in self.columns]))
        self.rows = (*self.rows, row)

    def _open(self) -> None:
        content = _read(self.path)
        whole = _without_cut_line(content)
        records = _csv_records(whole, str(self.path))
        if records and _first_columns(self.columns) != _first_columns(records[0]):
            self.identity.check(records[0], str(self.path))
            raise SweepFileError(f"{self.path} has other columns than this sweep writes; choose another file.")
        for record in records:
            self.identity.check(record, str(self.path))
        if records:
            self.rows = _parsed(records, str(self.path))[1]
            self.columns = list(records[0])
        if len(whole) < len(content):
            self._truncate(len(whole.encode("utf-8")))
        if not whole:
            self._write(_line(self.columns))

    def _write(self, line: str) -> None:
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as stream:
                stream.write(line.encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            self._truncate(before)
            raise SweepFileError(
                f"{self.path} could not be written ({error.strerror}); the {len(self.rows)} rows before are intact. "
                "Make room and start the same sweep again to go on."
            ) from error

    def _truncate(self, size: int) -> None:
        # what is no ordinary file has no size to go back to
        if self.path.is_file():
            os.truncate(self.path, size)


def columns_of(sweep: Sweep) -> list[str]:
    """Return the columns of a sweep's rows, whatever becomes of them."""
    skills = {skill.title: 0.0 for skill in sweep.setup.measures.skills}
    answers = {skill.title: RIGHT * len(skill.items) for skill in sweep.setup.measures.skills}
    texts = {text.title: 0.0 for text in sweep.setup.encoded.texts}
    distinct = (0.0, 0.0, 0.0) if sweep.setup.measures.prompt is not None else ()
    return list(SweepRow(0, 0, None, "", texts=texts, skills=skills, answers=answers, distinct=distinct).record())


def _first_columns(columns: Iterable[str]) -> set[str]:
    """Return the columns that results files of every release have."""
    return {name for name in columns if name not in LATER and not name.startswith(ANSWERS)}


def model_name(info: ModelInfo) -> str:
    """Return what a sweep's file calls a model: name, revision and number format."""
    return " ".join(part for part in (info.name, info.revision, info.dtype) if part)


def texts_digest(encoded: Encoded) -> str:
    """Return how many texts there are and a digest of their titles, tokens and windows."""
    content = [[text.title, list(ids)] for text, ids in zip(encoded.texts, encoded.ids, strict=True)]
    packed = json.dumps([content, encoded.context, encoded.stride]).encode("utf-8")
    cut = encoded.cut
    what = "texts" if cut is None else f"windows of {cut.window} tokens of joined texts"
    return f"{len(encoded.texts)} {what}, {hashlib.sha256(packed).hexdigest()[:16]}"


def _measures(measures: SweepMeasures) -> str:
    plain = asdict(measures) | {"skills": [skill.title for skill in measures.skills]}
    if measures.best is None:
        # as files of version 0.1 have it
        del plain["best"]
    return json.dumps(plain, sort_keys=True)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SweepFileError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MB; that is no results file.")
        return path.read_bytes().decode("utf-8", errors="ignore")
    except OSError as error:
        raise SweepFileError(f"{path} could not be read ({error.strerror}).") from error


def _without_cut_line(content: str) -> str:
    """Return the content up to its last complete record; a quoted cell may hold line breaks."""
    end = at = 0
    for line in content.splitlines(keepends=True):
        at += len(line)
        if line.endswith("\n") and content[:at].count('"') % 2 == 0:
            end = at
    return content[:end]


def _csv_records(text: str, where: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        records = list(reader)
    except csv.Error as error:
        raise SweepFileError(f"{where} is no results file: line {reader.line_num} is broken ({error}).") from error
    names = set(SweepIdentity.__dataclass_fields__)
    missing = sorted(f"sweep_{name}" for name in names if f"sweep_{name}" not in (reader.fieldnames or ()))
    if text and missing:
        raise SweepFileError(f"{where} is no results file of a sweep: it has no column {missing[0]}.")
    for number, record in enumerate(records, 2):
        if None in record or None in record.values():
            raise SweepFileError(f"{where} is broken: row {number} has another number of columns than the first.")
    return records


def _json_records(text: str, where: str) -> list[dict[str, Any]]:
    try:
        content = read_json(text)
        identity = {f"sweep_{name}": value for name, value in content["sweep"].items()}
        return [identity | row for row in content["rows"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SweepFileError(f"{where} is no sweep: its JSON is not what a sweep writes ({error}).") from error


def _parsed(records: Sequence[Mapping[str, Any]], where: str) -> tuple[SweepIdentity, tuple[SweepRow, ...]]:
    try:
        identity = identity_of(records, where)
        rows: dict[int, SweepRow] = {}
        for record in records:
            row = SweepRow.of({key: value for key, value in record.items() if not key.startswith("sweep_")})
            rows.setdefault(row.number, row)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, SweepFileError):
            raise
        raise SweepFileError(f"{where} is no results file of a sweep: {error!s}.") from error
    return identity, tuple(rows.values())


def _line(cells: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue()


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value
