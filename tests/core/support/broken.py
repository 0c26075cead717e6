"""Files and notation that somebody broke, drawn at random, and what readers must make of them: a value or a sentence.

`tests/core/test_bad_input.py` draws some hundred of each, `python -m benchmarks.fuzz SECONDS` as many as there is time for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from surgery_core.errors import SurgeryError

ROOT = Path(__file__).resolve().parents[3]
SLOW = 5.0
"""Seconds that a reader may take: one, on a busy machine."""
ODD = (
    "nan", "-inf", "1e999", "-1", "0", "9" * 25, "true", '""', "[]", "[[[]]]", "{}", "{ a = 1 }", "1979-05-27", "''",
    '"\\u202e\\u200b"', '"<script>alert(1)</script>"', '"a\\u0000b"', '"../../etc/passwd"', '["", 1]', "[nan]",
    '"' + "(" * 2_000 + '"', '"0x1024"', '"0-4095"', '"9-0,~,7"', "[1, [2, [3]]]",
)  # fmt: skip
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
WORKSHOPS = sorted((ROOT / "workshops").glob("*.toml"))


@st.composite
def broken(draw: st.DrawFn, files: list[Path]) -> str:
    """Draw a file with some of its lines gone, doubled, moved, cut short or with another value."""
    lines = draw(st.sampled_from(files)).read_text(encoding="utf-8").splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["odd", "odd", "odd", "gone", "doubled", "moved", "cut", "name"])):
            case "odd":
                lines[at] = f"{lines[at].partition('=')[0]}= {draw(st.sampled_from(ODD))}"
            case "gone":
                del lines[at]
            case "doubled":
                lines.insert(at, lines[at])
            case "moved":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
            case "cut":
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case "name":
                lines[at] = draw(st.text(max_size=12)) + lines[at]
        if not lines:
            break
    return "\n".join(lines)


PLANS = st.text(alphabet="0123456789-,x*.()| ~@'\"attnmlpean \u202e\u200b\u0661\uff11", max_size=60)
"""Notation of the letters that it has, and of some that look like them."""
MERGES = st.sampled_from(
    (
        "merge_method: passthrough\ndtype: float32\nslices:\n- sources:\n  - model: fable\n    layer_range: [0, 4]\n",
        "merge_method: passthrough\nslices:\n- sources:\n  - model: fable\n    layer_range: [2, 3]\n    parameters:\n"
        "      scale:\n      - filter: o_proj\n        value: 0.5\n      - value: 1\n",
        "merge_method: passthrough\nmodels:\n- model: fable\n",
    )
)


@st.composite
def broken_merge(draw: st.DrawFn) -> str:
    """Draw a merge with some of its letters gone, doubled or others, or with odd values."""
    text = draw(MERGES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        word = draw(st.sampled_from(ODD) | st.text(alphabet="[]{}:,-#&*!|>%@`'\"\n\t ?~<=0aé\u2028\x85", max_size=4))
        text = text[:at] + word + text[at + draw(st.integers(0, 3)) :]
    return text


def read(reader: Callable[[str], Any], text: str) -> None:
    """Have text read: a value, or an error of ours with a sentence, soon."""
    began = time.monotonic()
    try:
        reader(text)
    except SurgeryError as error:
        assert 10 < len(str(error)) < 2_000, "a sentence"
    assert time.monotonic() - began < SLOW
