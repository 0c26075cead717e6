"""What other packages add is there; what is broken is left out, and the log says why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgery_core import LayerPlan, all_kinds, all_presets, load_skills, sweep_points
from surgery_core.errors import PlanError, SettingsError
from surgery_core.measure.skills import items
from surgery_core.plans.presets import PRESETS, preset
from surgery_core.sweeps.kinds import KINDS
from tests.core.support.packages import declare

ROOT = Path(__file__).resolve().parents[2]
CACHED = (all_presets, all_kinds, items.all_skills)


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    for found in CACHED:
        found.cache_clear()
    yield
    for found in CACHED:
        found.cache_clear()


SOURCE = """
from surgery_core import LayerPlan, Preset, SweepKind

def first(n_layers, layer, seed):
    return LayerPlan.identity(n_layers).permute([0])

ONE = Preset("one", "One layer", "Only the first.", (), first)
TAKEN = Preset("drop-one", "Another", "Of a name that is taken.", (), first)
KIND = SweepKind("firsts", "Firsts", "Growing.", "bars", "Layers", "", (), 1,
    lambda start, options: ((n, None, start.permute(range(n))) for n in range(1, 3)))
FOLDER = {folder!r}
NUMBER = 5
"""


def test_presets_skills_and_sweeps_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "skills"
    folder.mkdir()
    shutil.copy(items.FOLDER / "counting.toml", folder / "mine.toml")
    (folder / "mine.toml").write_text((folder / "mine.toml").read_text().replace('name = "', 'name = "my-', 1))
    points = {
        "presets": "one = adding_things:ONE\ntaken = adding_things:TAKEN\nnumber = adding_things:NUMBER",
        "sweeps": "kind = adding_things:KIND\ngone = adding_things:GONE",
        "skills": "mine = adding_things:FOLDER\nmodule = adding_things\nmissing = nobody_has_this.skills",
    }
    declare(tmp_path, "adding_things", points, SOURCE.format(folder=str(folder)))
    monkeypatch.syspath_prepend(tmp_path)
    assert [one.key for one in all_presets()] == [*(one.key for one in PRESETS), "one"]
    assert str(preset("one").apply(12)) == "0"
    assert preset("drop-one") is PRESETS[0]
    assert [kind.key for kind in all_kinds()] == [*(kind.key for kind in KINDS), "firsts"]
    assert [str(point.plan) for point in sweep_points("firsts", LayerPlan.identity(4))] == ["0", "0-1"]
    bundled = load_skills(items.FOLDER)
    assert [skill.name for skill in load_skills()] == [*(skill.name for skill in bundled), "my-counting"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5
    assert all("of the package adding_things is left out: " in message for message in said)
    reasons = (
        "The name 'drop-one' is taken already", "It is int, not Preset.", "no attribute 'GONE'",
        "adding_things is no folder with skill files", "No module named 'nobody_has_this'",
    )  # fmt: skip
    assert all(sum(reason in message for message in said) == 1 for reason in reasons)


def test_without_packages_there_is_what_comes_with_this_one() -> None:
    assert all_presets() == PRESETS
    assert all_kinds() == KINDS
    with pytest.raises(PlanError, match="no preset 'x'"):
        preset("x")
    with pytest.raises(SettingsError, match="no sweep 'x'"):
        sweep_points("x", LayerPlan.identity(4))


USE = """
import json, sys
import surgery_core as sc
from surgery_core.plans.presets import preset

loaded = sc.load_model("fable")
exp = sc.Bench(loaded)

@exp.use_tools("stream_norms", "sweep", "skills")
def use(text, stream_norms, sweep, skills):
    ids = loaded.tokenizer(text, return_tensors="pt").input_ids
    days = next(result for result in skills() if result.skill.name == "days")
    rows = list(sweep([text], "delete-two", start="0-3"))
    states = loaded.model.model.embed_tokens(ids)
    return {
        "preset": str(preset("every-second").apply(12)),
        "norms": len(stream_norms(ids)),
        "entering": [stream_norms(ids)["length"][0], states.norm(dim=-1).mean().item()],
        "items": len(days.items),
        "plans": [row.plan for row in rows],
    }

print(json.dumps(use("The king had three sons.")))
"""


def test_the_example_package_is_installed_and_used(tmp_path: Path) -> None:
    source = shutil.copytree(ROOT / "examples" / "plugin", tmp_path / "source")
    install = [
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
        str(tmp_path / "site"),
    ]
    subprocess.run([sys.executable, "-m", "pip", *install, str(source)], check=True, cwd=tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}
    command = [sys.executable, "-W", "ignore", "-c", USE]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["preset"] == "0,2,4,6,8,10"
    assert found["norms"] == 12
    assert found["entering"][0] == pytest.approx(found["entering"][1], rel=1e-6)
    assert found["items"] == 2
    assert found["plans"] == ["0-3", "2-3", "1,3", "1-2", "0,3", "0,2", "0-1"]
    listed = [sys.executable, "-m", "surgery_core", "sweep", "--kinds", "--json"]
    kinds = json.loads(subprocess.run(listed, env=environment, capture_output=True, text=True, check=True).stdout)
    assert "delete-two" in [kind["kind"] for kind in kinds]
