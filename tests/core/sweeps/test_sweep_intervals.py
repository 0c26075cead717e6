"""Intervals of a sweep's rows are those of a comparison of the same plan, whatever the number of texts."""

from __future__ import annotations

import math

import pytest

from surgery_core import compare, operate, sweep
from surgery_core.errors import SettingsError
from surgery_core.sweeps.rows import SweepRow
from tests.tiny import build_model, build_tokenizer

WORDS = ("the wolf and the fox went out together ", "a kettle sang ", "nobody knew why the moon was late ")


def texts(count: int) -> list[str]:
    return [WORDS[at % 3] * (2 + at % 4) for at in range(count)]


@pytest.mark.parametrize("count", [2, 7, 8, 13])
def test_rows_have_the_intervals_and_verdicts_of_comparisons(count: int) -> None:
    model, tokenizer = build_model("llama"), build_tokenizer()
    rows = list(sweep(model, tokenizer, texts(count), "delete"))
    assert math.isnan(rows[0].change_low)
    for row in rows[1:]:
        found = compare(model, operate(model, row.plan), tokenizer, texts(count))
        ratio, verdict = found.interval("ratio"), found.verdict()
        assert (row.change_low, row.change_high) == pytest.approx(
            (math.log(ratio.low), math.log(ratio.high)), rel=1e-3, abs=1e-6
        )
        assert (row.verdict, row.p) == (verdict.word, pytest.approx(verdict.p, abs=2e-3))
        assert row.interval("perplexity") == pytest.approx(
            (rows[0].perplexity * ratio.low, rows[0].perplexity * ratio.high), rel=1e-4
        )
        for name in ("kl", "top1", "top5"):
            ends = found.interval(name)  # type: ignore[arg-type]
            assert row.interval(name) == pytest.approx((ends.low, ends.high), rel=1e-3, abs=1e-6)
        assert all(math.isnan(end) for end in row.interval("distinct_2"))


def test_rows_come_back_from_their_records_and_older_records_have_no_intervals() -> None:
    model, tokenizer = build_model("llama"), build_tokenizer()
    row = list(sweep(model, tokenizer, texts(9), "delete"))[1]
    record = {name: str(value) for name, value in row.record().items()}
    again = SweepRow.of(record)
    assert (again.change_low, again.p, again.verdict) == (row.change_low, row.p, row.verdict)
    old = {
        name: value
        for name, value in record.items()
        if not name.endswith(("_low", "_high")) and name not in ("p", "verdict")
    }
    assert math.isnan(SweepRow.of(old).p)
    assert SweepRow.of(old).verdict == ""


@pytest.mark.parametrize("margin", [1e-6, 0.001, 0.02, 0.3, 0.9])
def test_a_row_and_a_comparison_count_the_same_as_the_same(margin: float) -> None:
    """Of both, all texts: what lies within a margin is decided from the interval alone."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    rows = list(sweep(model, tokenizer, texts(13), "delete"))[1:]
    found = [compare(model, operate(model, row.plan), tokenizer, texts(13)).within(margin) for row in rows]
    assert [row.within(margin).verdict for row in rows] == [one.verdict().word for one in found]
    for one in found:
        ends = one.interval("ratio")
        if one.verdict().word in ("the same", "no difference seen"):
            assert (one.verdict().word == "the same") == (1 - margin <= ends.low and ends.high <= 1 + margin)
        assert [text.verdict().margin for text in one.rows] == [margin] * 13
        assert one.frame()["verdict"].tolist() == [text.verdict(margin).word for text in one.rows]


def test_margins_change_words_and_never_figures() -> None:
    model, tokenizer = build_model("llama"), build_tokenizer()
    rows = list(sweep(model, tokenizer, texts(13), "delete"))[1:]
    words = {row.within(0.999).verdict for row in rows} | {row.within(1e-9).verdict for row in rows}
    assert {"the same", "no difference seen"} <= words
    for row in rows:
        assert row.within(0.5).record() | {"verdict": ""} == pytest.approx(row.record() | {"verdict": ""}, nan_ok=True)
    for wrong in (0.0, -0.1, 1.0, 7.0, math.nan):
        with pytest.raises(SettingsError, match="give more than 0 and less than 100 %"):
            next(row for row in rows if row.verdict not in ("worse", "better")).within(wrong)
