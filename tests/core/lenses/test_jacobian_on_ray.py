"""A Jacobian fit whose texts are read on a local Ray cluster: the same mean to the bit, though a worker is killed halfway."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from surgery_core.cli.options import main
from surgery_core.errors import PlanError
from surgery_core.lenses.jacobian_files import load_jacobians
from surgery_core.lenses.jacobian_fit import FitProgress, JacobianFit, fit_jacobians
from surgery_core.lenses.jacobian_on_ray import FitJob, FitWorker, RayTexts
from surgery_core.models.cluster import Cluster
from surgery_core.models.opening import load_model
from surgery_core.surgery.view import operate
from surgery_core.text import Text

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = [Text(str(at), f"Number {at} of the foxes ran over {at * 37} hills, far away.") for at in range(9)]
SETTINGS = JacobianFit(tokens=24, skip=4, least=6, tolerance=0.9)


def test_the_mean_is_that_of_one_process_though_a_worker_is_killed(tiny_folder: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_folder), device="cpu")
    view, seen = operate(loaded.model, "0,2-3"), list[FitProgress]()
    alone = fit_jacobians(view, loaded.tokenizer, TEXTS, SETTINGS)
    with Cluster(FitWorker, workers=2) as cluster:
        processes = cluster.processes()
        assert len(set(processes)) == 2

        def report(progress: FitProgress) -> None:
            seen.append(progress)
            if len(seen) == 2:
                os.kill(processes[0], signal.SIGKILL)

        job = FitJob(str(tiny_folder), "0,2-3", device="cpu")
        found = fit_jacobians(
            view,
            loaded.tokenizer,
            TEXTS,
            SETTINGS,
            on_progress=report,
            state=tmp_path / "state",
            read=RayTexts(cluster, job),
        )
        assert processes[0] not in cluster.processes()
        with pytest.raises(PlanError, match="layer 9"):
            next(RayTexts(cluster, FitJob(str(tiny_folder), "0-9", device="cpu"))([[5] * 9], (0,), 3, 4))
    assert (alone.n_texts, alone.plan) == (6, "0,2-3")
    assert (found.n_texts, found.change, found.plan) == (alone.n_texts, alone.change, alone.plan)
    assert [one.text for one in seen] == list(range(1, 7))
    for layer in alone.layers:
        assert torch.equal(found.matrices[layer], alone.matrices[layer])
    # what was read on the cluster is gone on with here
    more = JacobianFit(tokens=24, skip=4, least=9, tolerance=0.9)
    whole = fit_jacobians(view, loaded.tokenizer, TEXTS, more)
    again = fit_jacobians(view, loaded.tokenizer, TEXTS, more, state=tmp_path / "state")
    assert all(torch.equal(again.matrices[layer], whole.matrices[layer]) for layer in whole.layers)


def test_the_command_line_fits_on_ray_and_says_what_it_cannot(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = tmp_path / "story.txt"
    story.write_text(" ".join(text.text for text in TEXTS[:3]))
    given = [
        "fit-lens",
        "--model",
        str(tiny_folder),
        "--text",
        str(story),
        "--tokens",
        "24",
        "--skip",
        "4",
        "--tolerance",
        "0",
    ]
    assert main([*given, "--to", str(tmp_path / "here")]) == 0
    assert main([*given, "--to", str(tmp_path / "there"), "--engine", "ray"]) == 0
    here, there = load_jacobians(tmp_path / "here"), load_jacobians(tmp_path / "there")
    assert here.n_texts == there.n_texts > 3
    assert all(torch.equal(here.matrices[layer], there.matrices[layer]) for layer in here.layers)
    capsys.readouterr()
    refused = [*given, "--to", str(tmp_path / "no"), "--engine", "ray", "--plan", "0,mean(1),2-3"]
    assert main(refused) != 0
    assert "needs more; leave --engine out" in capsys.readouterr().err
    assert main([*given, "--to", str(tmp_path / "no"), "--engine", "ray", "--workers", "0"]) != 0
    assert "0 workers cannot be started; give 1 to 256" in capsys.readouterr().err
