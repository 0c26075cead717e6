"""Sweeps on a local Ray cluster of two workers: the same rows, written in order, though a worker is killed halfway."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from surgery_core.cli.options import main
from surgery_core.errors import SettingsError
from surgery_core.sweeps.description import InOrder, OpenSweep, SweepJob
from surgery_core.sweeps.on_ray import RaySweeps
from surgery_core.text import Text

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = (Text("Fox", "The fox said: how do you do?"), Text("Door", "The wolf came to the door."))


def test_a_worker_that_is_killed_costs_no_row_and_what_one_refuses_comes_back_as_it_was_said(
    tiny_folder: Path, tmp_path: Path
) -> None:
    jobs = [SweepJob(str(tiny_folder), kind, TEXTS) for kind in ("replace", "skip-block")]
    with RaySweeps(jobs, workers=2) as cluster:
        about = cluster.describe()
        results = [InOrder(one, tmp_path / f"{number}.csv") for number, one in enumerate(about)]
        processes = cluster.processes()
        assert len(set(processes)) == 2
        killed = False
        for job, row in cluster.rows([result.missing for result in results]):
            results[job].put(row)
            if row.number >= 0 and not killed:
                os.kill(processes[0], signal.SIGKILL)
                killed = True
        assert processes[0] not in cluster.processes()
        cluster.jobs = (SweepJob(str(tiny_folder), "skip-block", TEXTS, start="0-9"),)
        with pytest.raises(ValueError, match="layer 9"):
            cluster.describe()
    for number, job in enumerate(jobs):
        expected = {row.number: row.nats for row in OpenSweep(job).rows(about[number].numbers)}
        frame = pd.read_csv(tmp_path / f"{number}.csv")
        assert list(frame["number"]) == sorted(expected)
        assert dict(zip(frame["number"], frame["nats"], strict=True)) == pytest.approx(expected, abs=1e-5)


def test_the_command_line_goes_on_with_a_file_on_ray(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, story = tmp_path / "rows.csv", tmp_path / "story.txt"
    story.write_text(TEXTS[0].text)
    arguments = ["sweep", "--model", str(tiny_folder), "--texts", str(story), "--out", str(path)]
    assert main(arguments) == 0
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:3]))
    assert main([*arguments, "--engine", "ray"]) == 0
    again = pd.read_csv(path)
    assert list(again["number"]) == [-1, 0, 1, 2, 3]
    capsys.readouterr()


def test_rows_are_written_in_order(tiny_folder: Path, tmp_path: Path) -> None:
    opened = OpenSweep(SweepJob(str(tiny_folder), "delete", TEXTS))
    rows = list(opened.rows(opened.description.numbers))
    result = InOrder(opened.description, tmp_path / "rows.csv")
    for row in (rows[3], rows[0], rows[1], rows[3]):
        result.put(row)
    assert list(pd.read_csv(tmp_path / "rows.csv")["number"]) == [-1, 0]
    assert result.missing == [1, 3]
    result.put(rows[2])
    assert list(pd.read_csv(tmp_path / "rows.csv")["number"]) == [-1, 0, 1, 2]


def test_numbers_of_workers_out_of_range_are_named(tiny_folder: Path) -> None:
    with pytest.raises(SettingsError, match="0 workers"):
        RaySweeps([SweepJob(str(tiny_folder), "delete", TEXTS)], workers=0)
