"""Results files: going on after a kill, never a row twice, other sweeps refused, a full disk survived."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import SweepFileError
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.file import SweepFile, SweepIdentity, SweepResult
from surgery_core.sweeps.kinds import sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import build

TEXTS = (Text('A "quoted", title', "The fox said: how do you do?"), Text("Two\nlines", "ab cd"))
MODEL = build("llama")


def make(kind: str = "delete", texts: tuple[Text, ...] = TEXTS, **measures: Any) -> tuple[Sweep, SweepIdentity]:
    run = Sweep(
        MODEL, byte_tokenizer(), texts, sweep_points(kind, LayerPlan.identity(4)), measures=SweepMeasures(**measures)
    )
    return run, SweepIdentity.of("tiny", kind, run)


def test_a_killed_sweep_goes_on_from_its_rows(tmp_path: Path) -> None:
    path, (run, identity) = tmp_path / "rows.csv", make()
    file = SweepFile(path, run, identity)
    rows = run.rows()
    for _ in range(3):
        file.append(next(rows))
    whole = path.read_text()
    path.write_text(
        whole + whole.splitlines()[-1][: len(whole.splitlines()[-1]) // 2]
    )  # killed in the middle of a line

    file = SweepFile(path, run, identity)
    assert file.done == {-1, 0, 1}
    assert path.read_text() == whole
    numbers = []
    for row in run.rows(file.done):
        numbers.append(row.number)
        file.append(row)
    assert numbers == [-1, 2, 3]
    frame = pd.read_csv(path)
    assert sorted(frame["number"]) == [-1, 0, 1, 2, 3]
    expected = {row.number: row.nats for row in make()[0].rows()}
    assert dict(zip(frame["number"], frame["nats"], strict=True)) == pytest.approx(expected, abs=1e-6)


@given(cut=st.integers(0, 4000))
def test_a_file_cut_anywhere_opens_with_whole_rows_only(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, (run, identity) = tmp_path_factory.mktemp("cut") / "rows.csv", make()
    file = SweepFile(path, run, identity)
    for row in ROWS:
        file.append(row)
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    again = SweepFile(path, run, identity)
    assert [row.nats for row in again.rows] == [row.nats for row in ROWS[: len(again.rows)]]
    for row in ROWS:
        again.append(row)
    assert path.read_bytes() == content


ROWS = list(make()[0].rows())


def test_a_row_is_never_counted_twice(tmp_path: Path) -> None:
    run, identity = make()
    file = SweepFile(tmp_path / "rows.csv", run, identity)
    for row in (*ROWS, *ROWS):
        file.append(row)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == len(ROWS)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda run, identity: (run, SweepIdentity.of("another model", "delete", run)), "model"),
        (lambda run, identity: make(texts=TEXTS[:1]), "texts"),
        (lambda run, identity: make("repeat"), "kind"),
        (lambda run, identity: make(agreement=False), "measures"),
        (lambda run, identity: (run, SweepIdentity.of("tiny", "delete", run, SweepOptions(seed=3))), "options"),
    ],
)
def test_rows_of_another_sweep_are_refused_and_left_alone(tmp_path: Path, other: Any, named: str) -> None:
    path, (run, identity) = tmp_path / "rows.csv", make()
    SweepFile(path, run, identity).append(ROWS[0])
    before = path.read_bytes()
    with pytest.raises(SweepFileError, match=f"its {named} is"):
        SweepFile(path, *other(run, identity))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "hello",
        "a,b\n1,2\n",
        '{"sweep": 3}',
        '{"rows": []}',
        "sweep_model\nx\n",
        "\x00\x01",
        '{"sweep": {}, "rows": [{}]}',
    ],
)
def test_what_is_no_results_file_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(SweepFileError):
        SweepResult.read(content)
    path = tmp_path / "rows.csv"
    path.write_text(content)
    if content.endswith("\n"):
        with pytest.raises(SweepFileError):
            SweepFile(path, *make())


def test_a_full_disk_leaves_what_is_written_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, (run, identity) = tmp_path / "rows.csv", make()
    file = SweepFile(path, run, identity)
    file.append(ROWS[0])
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SweepFileError, match="No space left"):
            file.append(ROWS[1])
    assert path.read_bytes() == before
    assert file.done == {-1}
    SweepFile(path, run, identity).append(ROWS[1])
    assert len(pd.read_csv(path)) == 2


def test_a_really_full_device_is_named() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(SweepFileError, match="No space left"):
        SweepFile("/dev/full", *make())


def test_csv_and_json_read_back_to_the_same_rows() -> None:
    result = SweepResult(make()[1], tuple(ROWS))
    for text in (result.to_csv(), result.to_json()):
        again = SweepResult.read(text)
        assert again.identity == result.identity
        pd.testing.assert_frame_equal(again.frame(), result.frame(), check_dtype=False)
    assert json.loads(result.to_json())["rows"][0]["number"] == -1
    assert result.first == ROWS[0]


def test_a_refused_row_and_text_coordinates_survive() -> None:
    identity = make()[1]
    rows = (SweepRow(0, 3, "skip", "0-1", refused='It says: no, "never".'), SweepRow(1, 0.25, "reverse", "", nats=1.5))
    again = SweepResult.read(SweepResult(identity, rows).to_csv())
    assert [(row.x, row.y, row.plan, row.refused) for row in again.rows] == [
        (3, "skip", "0-1", 'It says: no, "never".'),
        (0.25, "reverse", "", ""),
    ]
