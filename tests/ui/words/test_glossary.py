"""The glossary is read from its document, and no figure of a page is without an entry."""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterator

import pytest

from surgery_core.lenses.metrics import METRICS as STATISTICS
from surgery_core.sweeps.rows import METRICS
from surgery_ui.skills_page.view import FIGURES as OF_SKILLS
from surgery_ui.sweep_page.importance_view import ESTIMATES
from surgery_ui.words import glossary
from surgery_ui.words.glossary import FIGURES, NOTATION, WORDS
from tests.ui.support.sources import calls, name_of, trees

DRAWN = ("metric", "Metric", "number", "NumberColumn", "bar", "ProgressColumn")
"""Calls whose first argument is the label of a figure."""
NO_FIGURES = {"Tokens", "Before", "After", "Cut", "Stitched"}
NAMED = (
    "Perplexity", "Ratio", "Bits per byte", "KL", "Top-1 agreement", "Top-5 agreement", "Entropy", "Rank",
    "Jensen-Shannon", "Effective depth", "Block Influence", "Angular distance", "Prediction depth", "Change of loss",
)  # fmt: skip


def labels() -> Iterator[str]:
    """Give what pages call figures: in tables of names, in headline figures and in columns of numbers."""
    yield from NAMED
    yield from (metric.title for metric in STATISTICS.values())
    yield from (*METRICS.values(), *ESTIMATES.values(), *OF_SKILLS.values())
    for tree in trees().values():
        for call in calls(tree):
            if name_of(call) in DRAWN and call.args and isinstance(call.args[0], ast.Constant):
                yield str(call.args[0].value)


def test_every_figure_of_a_page_has_an_entry_with_its_range() -> None:
    found = set(labels()) - NO_FIGURES
    assert {"Mean accuracy", "Margin before", "Top-1 kept", "Times", "Bits per byte", "Mean KL"} <= found
    missing = {label for label in found if (entry := glossary.find(label)) is None or not entry.range}
    assert not missing


def test_every_figure_says_its_range_and_what_a_large_one_means() -> None:
    for entry in glossary.entries(FIGURES):
        assert entry.range, entry.title
        assert entry.large, entry.title
        assert len(entry.meaning) < 200, entry.title
    assert len(glossary.entries(FIGURES)) > 25
    assert len(glossary.entries(WORDS)) > 25


def test_no_name_and_no_anchor_is_there_twice() -> None:
    every = (*glossary.entries(FIGURES), *glossary.entries(WORDS))
    for count in (
        Counter(name.casefold() for one in every for name in one.names),
        Counter(one.anchor for one in every),
    ):
        assert [name for name, times in count.items() if times > 1] == []


def test_bars_within_a_cell_and_links_to_other_documents_are_no_part_of_the_text() -> None:
    kl = glossary.find("KL(base || operated), nats a token")
    assert kl is not None
    assert kl.title == "KL"
    assert kl.range.startswith("0 to ∞ nats")
    verdict = glossary.find("verdict")
    assert verdict is not None
    assert "](" not in verdict.meaning
    assert "`5x3`" in glossary.section(NOTATION)
    with pytest.raises(LookupError, match="no part 'Weather'"):
        glossary.section("Weather")


@pytest.mark.parametrize(
    ("label", "title"),
    [
        ("Bits a byte", "Bits per byte"), ("Change of loss, nats a token", "Change of loss"), ("Margin in nats", "Margin"),
        ("Margin after", "Margin"), ("top-1 KEPT", "Top-1 agreement"),
    ],
)  # fmt: skip
def test_a_label_is_found_whatever_its_unit(label: str, title: str) -> None:
    found = glossary.find(label)
    assert found is not None
    assert found.title == title


def test_what_the_entries_say_in_numbers() -> None:
    """By hand: guessing among 4,096 tokens, doubling, the most two predictions can differ, and bits in a nat."""
    said = {
        one.title: f"{one.meaning} {one.range} {one.large}"
        for part in (FIGURES, WORDS)
        for one in glossary.entries(part)
    }
    assert f"{math.log(4096):.1f} for 4,096 tokens" in said["Loss"]
    assert f"+{math.log(2):.3f} doubles" in said["Change of loss"]
    assert f"ln 2 = {math.log(2):.3f}" in said["Jensen-Shannon"]
    assert f"{1 / math.log(2):.3f} bits" in said["Nat"]


def test_a_search_needs_all_of_its_words_in_any_case() -> None:
    (rank, *_) = [one for one in glossary.entries(FIGURES) if one.names[0] == "rank"]
    assert rank.has("Rank TOKEN")
    assert rank.has("")
    assert not rank.has("rank elephant")
