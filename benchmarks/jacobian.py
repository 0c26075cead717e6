"""The Jacobian lens: its fit beside the reference's estimator, how near each lens is to the output, and how long maps take.

The fit and the reference (`tests/jacobian_reference.py`, in plain torch, eight components a pass as its package has by
default) read the same texts of 128 tokens in one process, in turns. With one thread, seconds are those of the processor, so
that what else the machine does counts as little as it can; with two they are the clock's, which mean something only where
the machine does nothing else. The divergences are means over evenly spread pieces of the
held-out books. The maps are both sides of an edit on a text of 200 tokens, as the Lens page reads them.

python -m benchmarks.jacobian HELDOUT.txt.gz [fit]     with `fit`, the fits alone
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import surgery_core as sc
from benchmarks.record import Result, keep
from surgery_core.lenses.fitted import Fitted, lens_for
from surgery_core.lenses.jacobian_fit import JacobianFit, fit_jacobians
from tests.jacobian_reference import reference_jacobians
from training.lens import pieces, read

FOLDER = Path(__file__).resolve().parents[1] / "models" / "fable"
TEXTS, ROUNDS, MAP_TOKENS = 1, 3, 200
PLAN = "0-4,7-11"
Clock = Callable[[], float]


def main(held_out: str, only: str = "") -> None:
    """Measure, print and keep."""
    torch.set_num_threads(1)
    loaded = sc.load_model("fable")
    held = pieces(read(held_out))
    keep(*_fits(loaded, held[:TEXTS], time.process_time, "processor time, one thread"))
    torch.set_num_threads(2)
    keep(*_fits(loaded, held[:TEXTS], time.perf_counter, "by the clock, two threads"))
    torch.set_num_threads(1)
    if only == "fit":
        return
    tuned, jacobian = sc.load_lens(FOLDER / "lens"), sc.load_jacobians(FOLDER / "jacobian-lens")
    keep(*_maps(loaded, held[0].text, {"tuned": tuned, "Jacobian": jacobian}))
    _divergences(loaded, held, tuned, jacobian)


def _fits(loaded: Any, texts: list[sc.Text], clock: Clock, how: str) -> list[Result]:
    """Time both fits in turns; what they find has to be the same."""
    ids = [loaded.tokenizer(text.text)["input_ids"][:128] for text in texts]
    layers, found = loaded.model.model.layers, {}

    def ours() -> None:
        found["ours"] = fit_jacobians(loaded.model, loaded.tokenizer, texts, JacobianFit(tolerance=0.0)).matrices

    def theirs() -> None:
        found["theirs"] = torch.stack([reference_jacobians(loaded.model, layers, one) for one in ids]).mean(0)

    times = _in_turns({"ours": ours, "theirs": theirs}, clock)
    apart = max(float((found["ours"][at] - one).norm() / one.norm()) for at, one in enumerate(found["theirs"]))
    what = f"fit fable's Jacobian lens on {len(texts)} x 128 tokens, {how}"
    return [
        Result(what, f"`fit_jacobian_lens`, at most {apart:.1e} from the reference", times["ours"], 0),
        Result(what, "the reference's estimator, 8 components a pass", times["theirs"], 0),
    ]


def _maps(loaded: Any, text: str, lenses: dict[str, Fitted]) -> list[Result]:
    view = sc.operate(loaded.model, PLAN)

    def reading(fitted: Fitted) -> Callable[[], None]:
        made = [lens_for(model, fitted) for model in (loaded.model, view)]

        def both() -> None:
            for lens, model in zip(made, (loaded.model, view), strict=True):
                sc.read_lens(lens, model, loaded.tokenizer, text, max_tokens=MAP_TOKENS)

        return both

    times = _in_turns({name: reading(fitted) for name, fitted in lenses.items()})
    what = f"fable: maps of both sides of {PLAN}, {MAP_TOKENS} tokens, processor time"
    return [Result(what, f"{name} lens", seconds, 0) for name, seconds in times.items()]


def _in_turns(work: dict[str, Callable[[], None]], clock: Clock = time.process_time) -> dict[str, tuple[float, ...]]:
    """Return the seconds of each, a round after the other; the first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS + 1):
        for name, run in work.items():
            began = clock()
            run()
            times[name] += [clock() - began] if number else []
    return {name: tuple(seconds) for name, seconds in times.items()}


def _divergences(loaded: Any, held: list[sc.Text], tuned: Fitted, jacobian: Fitted) -> None:
    """Print the mean KL(final || lens) of the three lenses by the layer that the state enters."""
    table = sc.lens_quality(loaded.model, loaded.tokenizer, tuned, held)
    table["jacobian_lens"] = sc.lens_quality(loaded.model, loaded.tokenizer, jacobian, held)["jacobian_lens"]
    print(table.round(3).to_string(index=False))
    print(table.drop(columns="layer").sum().round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
