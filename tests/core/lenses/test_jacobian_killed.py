"""A fit in a process of its own, killed with SIGKILL wherever it stands, and gone on with."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_fit import JacobianFit, fit_jacobians
from surgery_core.lenses.jacobian_state import FitState
from surgery_core.text import Text
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import build

ROOT = Path(__file__).resolve().parents[3]
TEXTS = [
    Text(str(at), f"Number {at} of the foxes ran over {at * 37} hills and {at * 11} fields, far away.")
    for at in range(40)
]
SETTINGS = JacobianFit(tokens=64, skip=8, tolerance=0.0)

CHILD = """
import sys, time
import torch
torch.set_num_threads(1)
from surgery_core.lenses import jacobian_state
from surgery_core.lenses.jacobian_fit import fit_jacobians
from tests.core.lenses import test_jacobian_killed as here

folder, slowly = sys.argv[1], sys.argv[2] == "slowly"
from surgery_core import whole_files
own = whole_files.finish

def finish(part, target, content):
    # the file on its way is written in small steps, so that a kill meets it half written
    print("writing", flush=True)
    with part.open("wb") as stream:
        for at in range(0, len(content), 1024):
            stream.write(content[at : at + 1024])
            stream.flush()
            time.sleep(0.003)
    return own(part, target, content)

if slowly:
    whole_files.finish = finish
print("begins", flush=True)
found = fit_jacobians(
    here.build("llama"), here.byte_tokenizer(), here.TEXTS, here.SETTINGS, state=folder + "/state",
    on_progress=lambda progress: print("text", progress.text, flush=True),
)
torch.save(dict(found.matrices), folder + "/matrices")
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def whole() -> Jacobians:
    """Return the lens of a fit that nobody killed."""
    return fit_jacobians(build("llama"), byte_tokenizer(), TEXTS, SETTINGS)


def begin(folder: Path, how: str) -> subprocess.Popen[str]:
    """Start a fit in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), how], env=env, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def read_until(child: subprocess.Popen[str], wanted: str) -> list[str]:
    """Return what a process said up to a line that begins so, or to its end."""
    said: list[str] = []
    assert child.stdout is not None
    for line in child.stdout:
        said.append(line.strip())
        if line.startswith(wanted):
            break
    return said


def kill(child: subprocess.Popen[str]) -> list[str]:
    """Kill a process with SIGKILL; return what it had said and nobody had read."""
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL
    assert child.stdout is not None
    with child.stdout as rest:
        return [line.strip() for line in rest]


def texts_of(said: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in said if line.startswith("text ")]


@pytest.mark.parametrize("how", ["as it is", "slowly"])
def test_a_fit_killed_at_any_moment_loses_one_text_at_most_and_ends_the_same(
    how: str, tmp_path: Path, whole: Jacobians
) -> None:
    """Every process after the first begins behind what the last one had said; the last is let end."""
    chance, done, half, part = random.Random(7), 0, 0, tmp_path / ".state.part"
    for _ in range(3):
        child = begin(tmp_path, how)
        said = read_until(child, f"text {done + 2}")
        said += read_until(child, "writing") if how == "slowly" else []
        time.sleep(chance.uniform(0.0, 0.03))
        said += kill(child)
        half += part.exists()
        texts = texts_of(said)
        # of the last process nothing is done again but the one text that it had not told of
        assert not texts or texts[0] in (done + 1, done + 2), (done, texts)
        done = max([done, *texts])
    assert done < len(TEXTS)
    assert how == "as it is" or half, "no kill met the file half written"
    child = begin(tmp_path, "as it is")
    texts = texts_of(read_until(child, "done"))
    child.communicate()
    assert child.returncode == 0
    # at most one text was kept and not told of, and none is missing
    assert texts[0] in (done + 1, done + 2)
    assert texts == list(range(texts[0], len(TEXTS) + 1))
    found = torch.load(tmp_path / "matrices", weights_only=True)
    assert tuple(found) == whole.layers
    for layer in whole.layers:
        assert torch.equal(found[layer], whole.matrices[layer])
    assert not part.exists()


def test_a_mean_is_the_same_to_the_bit_from_its_file_as_from_memory() -> None:
    """What the two fits above have in common rests on this: the running mean depends on nothing but state and text."""
    drawn = torch.randn((3, 2, 4, 4), generator=torch.Generator().manual_seed(1))
    one = FitState.empty()
    for found in drawn:
        one = one.with_one_more(found)
    other = FitState(one.mean.clone(), one.texts, one.changes)
    more = torch.ones((2, 4, 4))
    assert torch.equal(one.with_one_more(more).mean, other.with_one_more(more).mean)
