"""The recipes that come along: what each must have, and that what it says of a paper is what was read there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from surgery_core.lenses.metrics import METRICS
from surgery_core.measure.skills import load_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.presets import PRESETS
from surgery_core.recipes.gallery import TOPICS
from surgery_core.recipes.recipe import Recipe
from surgery_core.sweeps.kinds import KINDS, sweep_points
from surgery_core.text import text_sets

FOLDER = Path(__file__).resolve().parents[3] / "recipes"
CARDS = {path.stem: path for path in sorted(FOLDER.glob("*.toml")) if path.name != "sources.toml"}
SOURCES: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "sources.toml").read_text(encoding="utf-8"))
LAYERS_OF_FABLE = 12
each_card = pytest.mark.parametrize("key", CARDS)


def card(key: str) -> Recipe:
    return Recipe.load(CARDS[key])


def numbers(text: str) -> set[str]:
    """Return the numbers of a text that stand alone: not those of a name such as Llama-2-7B."""
    return set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-]|\.\d)", text))


def sentences(text: str) -> list[str]:
    return re.findall(r"[^.!?]+[.!?]+(?:\s|$)", re.sub(r"(?<=\d)\.(?=\d)", ",", text))


def test_there_are_enough_and_each_has_its_source() -> None:
    assert len(CARDS) >= 22
    assert set(CARDS) == set(SOURCES)
    titles = [card(key).title for key in CARDS]
    assert len(set(titles)) == len(titles)
    assert len({(one.study, one.claim) for one in map(card, CARDS)}) == len(CARDS), "two cards ask the same"


@each_card
def test_a_card_is_whole(key: str) -> None:
    found = card(key)
    assert found.model == "fable"
    assert found.topic in TOPICS
    assert all((found.title, found.question.endswith("?"), found.note, found.do, found.study, found.paper, found.claim))
    assert dict(found.expected)["fable"] in ("seen here too", "not seen here", "too few texts to say")
    assert found.text_set is not None
    assert found.text_set.name in text_sets()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key)


@each_card
def test_what_is_said_of_a_paper_is_what_was_read(key: str) -> None:
    paper, source = card(key).paper, SOURCES[key]
    assert paper is not None
    for field in ("title", "by", "arxiv", "url", "where", "figure", "read"):
        assert getattr(paper, field) == source.get(field, ""), field
    assert bool(paper.arxiv) != bool(paper.url), "one place where it can be read"
    assert source["seen_in"].endswith(".")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(source["date"]))
    if paper.read == "second hand":
        assert not paper.figure
        assert not numbers(paper.says)
    # a number in the sentence has to be one that was read
    assert numbers(paper.says) <= numbers(paper.figure)


@each_card
def test_words_are_short_and_plain(key: str) -> None:
    found = card(key)
    assert found.meaning is not None
    for said in (found.meaning.seen, found.meaning.unseen, found.meaning.open):
        assert 1 <= len(sentences(said)) <= 2, said
        assert said.endswith(".")
        assert len(said) <= 260, said
    plain = (found.title, found.question, found.meaning.seen, found.meaning.unseen, found.meaning.open)
    for said in plain:
        for jargon in ("residual", "logits", "nats", "argmax", "softmax", "KL ", "ablat", "top-1"):
            assert jargon not in said, f"{jargon!r} is not plain: {said}"
    assert len(found.title) <= 45
    assert len(found.question) <= 90


@each_card
def test_what_is_to_be_done_can_be_done(key: str) -> None:
    found = card(key)
    identity = LayerPlan.identity(LAYERS_OF_FABLE)
    for one in found.plans:
        assert LayerPlan.parse(one.plan, LAYERS_OF_FABLE) != identity
    if found.sweep is not None:
        assert sweep_points(found.sweep.kind, identity, found.sweep.options)
    known = (
        {kind.title for kind in KINDS} | {preset.title for preset in PRESETS} | {one.title for one in METRICS.values()}
    )
    known |= {skill.title for skill in load_skills()} | {card(other).title for other in CARDS} | {"Skill by layer"}
    # names in quotes are those of the app; an apostrophe within a word is none
    for name in re.findall(r"(?<!\w)'(.+?)'(?!\w)", f"{found.do} {found.note}"):
        assert name in known, name
    part = r"(?:[\d\-,*()|x.]|mean)*"
    for plan in re.findall(rf"(?<![\w.-])\d{part}[,x(|]{part}", found.do):
        LayerPlan.parse(plan.rstrip(".,"), LAYERS_OF_FABLE)
