"""Write the fixture of `tests/core/statistics`: losses of `fable` on passages of the held-out books, before and after surgery.

    python -m training.differences HELDOUT.txt.gz

The passages are those of `training/passages.py`. Of every plan the summed change of each passage is kept, of the first
the change of every token too, in nats.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from surgery_core import Text, compare, load_model, operate, reference
from training.passages import passages_of

PLANS = ("0-4,6-11", "0-5,7,6,8-11", "0-3,3-11", "0-6,7*1.1,8-11", "0-6,7*1.02,8-11")
TARGET = Path("tests/core/statistics/differences.npz")


def main() -> None:
    """Measure and write."""
    loaded = load_model("fable")
    texts = [Text(str(number), passage.text) for number, passage in enumerate(passages_of(Path(sys.argv[1])))]
    base = reference(loaded.model, loaded.tokenizer, texts)
    changes = []
    for plan in PLANS:
        found = compare(base, operate(loaded.model, plan), loaded.tokenizer, texts)
        changes.append([row.tokens.after - row.tokens.before for row in found.rows])
    np.savez_compressed(
        TARGET,
        plans=np.array(PLANS),
        tokens=np.array([len(change) for change in changes[0]], dtype=np.int32),
        change=np.array([[float(change.sum()) for change in row] for row in changes]),
        each=np.concatenate(changes[0]).astype(np.float16),
    )


if __name__ == "__main__":
    main()
