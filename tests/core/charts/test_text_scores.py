"""The chart of texts, drawn and read again."""

from __future__ import annotations

import json

import pandas as pd
import vl_convert

from surgery_core.charts.texts import text_scores


def frame(*rows: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["title", "perplexity_before", "perplexity_after"])


def test_both_sides_of_each_text_are_drawn() -> None:
    spec = text_scores(frame(("One", 10.0, 12.0), ("Two", 20.0, 18.0))).to_dict()
    drawn = vl_convert.vegalite_to_svg(json.dumps(spec))
    for words in ("One", "Two", "Before", "After", ">Perplexity<"):
        assert words in drawn
    dots = next(rows for rows in spec["datasets"].values() if "side" in rows[0])
    assert sorted((row["text"], row["side"], row["value"]) for row in dots) == [
        ("One", "After", 12.0), ("One", "Before", 10.0), ("Two", "After", 18.0), ("Two", "Before", 20.0),
    ]  # fmt: skip


def test_texts_with_one_title_have_places_of_their_own() -> None:
    spec = text_scores(frame(("One", 1.0, 2.0), ("One", 3.0, 4.0))).to_dict()
    assert {row["text"] for rows in spec["datasets"].values() for row in rows} == {"One", "One (2)"}


def test_an_axis_that_one_text_would_squeeze_is_logarithmic() -> None:
    spec = text_scores(frame(("One", 10.0, 12.0), ("Two", 2000.0, float("inf"))), dark=True).to_dict()
    assert spec["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"
    assert "Perplexity, logarithmic" in vl_convert.vegalite_to_svg(json.dumps(spec))
