"""Recipes of version 2: every field survives its file, and what is wrong is named with its line."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from typing import get_args

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import RecipeError
from surgery_core.recipes.lines import line_of, lines_of
from surgery_core.recipes.parts import Claimed, Meaning, NamedPlan, Paper, StudyChoice, SweepChoice
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.swap_choice import SIDES, SwapChoice
from surgery_core.studies.finding import Claim, Outcome
from surgery_core.sweeps.kinds import KINDS
from surgery_core.sweeps.options import SweepOptions
from tests.core.recipes.test_recipe import any_text, plans, recipes, some_text
from tests.core.support.studies import LOSSES, small_studies


@pytest.fixture(scope="module", autouse=True)
def _studies() -> Iterator[None]:
    with small_studies():
        yield


finite = st.floats(allow_nan=False, allow_infinity=False)
sweeps = st.builds(
    SweepChoice,
    st.sampled_from([kind.key for kind in KINDS]),
    st.builds(
        SweepOptions,
        layer=st.none() | st.integers(-3, 3),
        max_length=st.none() | st.integers(1, 9),
        times=st.integers(2, 64),
        factors=st.lists(finite, min_size=1, max_size=4).map(tuple),
        seed=st.integers(0, 2**40),
    ),
    st.none() | st.integers(1, 99),
    st.none() | plans,
    st.booleans(),
    any_text,
    st.none() | st.lists(any_text, min_size=1, max_size=3, unique=True).map(tuple),
)
choices = st.builds(
    StudyChoice,
    st.just("losses"),
    st.fixed_dictionaries(
        {},
        optional={
            "times": st.integers(1, 9),
            "weights": st.lists(finite, max_size=3).map(tuple),
            "share": finite,
            "how": any_text,
        },
    ).map(lambda given: tuple(given.items())),
)
swaps = st.builds(
    SwapChoice,
    st.integers(0, 99),
    any_text.map(lambda text: f"a{text}"),
    any_text.map(lambda text: f"b{text}"),
    st.sampled_from(SIDES),
    st.floats(-10, 10),
    st.none() | st.lists(st.integers(0, 9999), min_size=1, max_size=4).map(tuple),
    st.sampled_from(["layer", "position"]),
    any_text,
)
papers = st.builds(
    Paper,
    some_text,
    some_text,
    st.sampled_from(["text", "abstract"]),
    any_text,
    st.sampled_from(["", "2406.19384", "0704.0001v2"]),
    st.sampled_from(["", "https://example.org/a?b=c"]),
    any_text,
    any_text,
)
claims = st.builds(Claimed, some_text, st.floats(-9, 0), st.floats(0, 9)) | st.builds(
    Claimed, some_text, st.just(-math.inf), finite
)


@st.composite
def seconds(draw: st.DrawFn) -> Recipe:
    """Return recipes with any of the fields of both versions, as far as they go together."""
    first = draw(recipes)
    named = draw(st.lists(st.builds(NamedPlan, some_text, plans), max_size=6, unique_by=lambda one: one.name))
    study = draw(st.none() | choices)
    claim = draw(claims) if study is not None and draw(st.booleans()) else None
    about = {
        "plans": tuple(named),
        "sweep": draw(st.none() | sweeps),
        "swap": draw(st.none() | swaps) if first.text_of_lens else None,
        "study": study,
        "claim": claim,
        "paper": draw(st.none() | papers),
        "topic": draw(any_text),
        "question": draw(any_text),
        "do": draw(any_text),
    }
    if claim is not None:
        outcomes = st.dictionaries(some_text, st.sampled_from(get_args(Outcome)), max_size=3)
        about |= {
            "meaning": draw(st.none() | st.builds(Meaning, some_text, some_text, some_text)),
            "expected": tuple(draw(outcomes).items()),
        }
    bare = bool(named or study or about["sweep"] or about["swap"]) and draw(st.booleans())
    values = vars(first) | about | ({"plan": None} if bare else {})
    return Recipe(**values)


@given(seconds())
def test_every_field_survives_the_file(recipe: Recipe) -> None:
    text = recipe.dumps()
    assert Recipe.loads(text) == recipe
    assert hash(Recipe.loads(text)) == hash(recipe)
    table = tomllib.loads(text)
    second = {"topic", "question", "do", "plans", "sweep", "swap", "study", "paper", "claim", "meaning", "expected"}
    second &= set(table)
    assert table["version"] == (2 if second or recipe.plan is None else 1)


WHOLE = """version = 2
title = "How hard texts are"
question = "Is any text easy?"
model = "fable"
do = "Press Start."
seed = 3

[text_set]
name = "stories"

[[plans]]
name = "Without the middle"
plan = "0-4,7-11"

[[plans]]
name = "Backwards"
plan = "11-0"

[sweep]
kind = "repeat"
times = 3
factors = [0, 0.5]

[study]
name = "losses"
times = 2
weights = [1.0, 3]

[paper]
title = "A paper"
by = "Somebody, 2024"
arxiv = "2406.19384"
where = "Table 2"
says = "Texts are hard."
figure = "72 to 95 %"
read = "text"

[claim]
says = "A token costs at least two nats."
at_least = 2

[meaning]
seen = "Hard."
unseen = "Easy."
open = "Unclear."

[expected]
fable = "seen here too"
"SmolLM2-135M-Instruct" = "not seen here"
"""


def test_a_whole_recipe_is_read_field_by_field() -> None:
    recipe = Recipe.loads(WHOLE)
    assert (recipe.plan, recipe.question, recipe.do, recipe.seed) == (None, "Is any text easy?", "Press Start.", 3)
    assert recipe.plans == (NamedPlan("Without the middle", "0-4,7-11"), NamedPlan("Backwards", "11-0"))
    assert recipe.sweep == SweepChoice("repeat", SweepOptions(times=3, factors=(0.0, 0.5)))
    assert recipe.study is not None
    assert recipe.study.options == dict(LOSSES.options) | {"times": 2, "weights": [1.0, 3]}
    assert recipe.paper is not None
    assert recipe.paper.link == "https://arxiv.org/abs/2406.19384"
    assert recipe.claim is not None
    assert recipe.claim.claim == Claim(2.0, math.inf)
    assert recipe.expected == (("fable", "seen here too"), ("SmolLM2-135M-Instruct", "not seen here"))
    assert str(recipe.plan_of(12)) == "0-11"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("seed = 3", "sed = 3", 6, "unknown field 'sed'"),
        ('name = "stories"', 'name = "poems"', 9, "'text_set.name' is 'poems'; there are short, stories"),
        ('plan = "0-4,7-11"', 'plan = "0-4,,7"', 13, "'plans[0].plan' does not parse. At character 5"),
        ('plan = "11-0"', 'plan = "11-"', 17, "'plans[1].plan' does not parse"),
        ('name = "Backwards"', 'name = "Without the middle"', 16, "'plans[1].name' is 'Without the middle'"),
        ('name = "Backwards"', "", 15, "'plans[1].name' is missing"),
        ('kind = "repeat"', 'kind = "repeats"', 20, "'sweep.kind' is not known. There is no sweep 'repeats'; there are: delete,"),
        ("times = 3", "times = 1", 21, "'sweep.times' is wrong. A layer cannot be repeated to run 1 times"),
        ("times = 3", "tims = 3", 21, "unknown field 'sweep.tims'; allowed: kind, layer, max_length, times"),
        ("factors = [0, 0.5]", "factors = [0,\n  nan]", 23, "'sweep.factors[1]' is nan; give a finite number"),
        ("factors = [0, 0.5]", "texts = []", 22, "'sweep.texts' must have one title or more, each once"),
        ("factors = [0, 0.5]", 'texts = ["A", "A"]', 22, "'sweep.texts' must have one title or more, each once"),
        ("factors = [0, 0.5]", "texts = [3]", 22, "'sweep.texts[0]' must be a text, not 3"),
        ("factors = [0, 0.5]", "factors = []", 22, "'sweep.factors' is wrong. A scale sweep needs at least one factor"),
        ('name = "losses"', 'name = "loses"', 25, "'study.name' is not known. There is no study 'loses'; there are: losses, lensed"),
        ("times = 2", "tims = 2", 26, "'study.tims' is wrong. The study 'losses' has no option 'tims'; there are: times, weights"),
        ("times = 2", 'times = "2"', 26, "'study.times' is wrong. The option 'times' of the study 'losses' cannot be '2'"),
        ("weights = [1.0, 3]", "weights = [{ a = 1 }]", 27, "'study.weights[0]' is {'a': 1}; give a number, a text"),
        ('arxiv = "2406.19384"', 'arxiv = "arXiv:2406"', 32, "'paper.arxiv' is 'arXiv:2406'; write it like 2406.19384"),
        ('where = "Table 2"', 'url = "javascript:alert(1)"', 33, "'paper.url' is 'javascript:alert(1)'; write an address"),
        ('says = "Texts are hard."', 'says = " "', 34, "'paper.says' is empty"),
        ('says = "Texts are hard."', "", 29, "'paper.says' is missing"),
        ('read = "text"', 'read = "second hand"', 35, "'paper.figure' stands beside a source that was read second hand"),
        ('read = "text"', 'read = "guessed"', 36, "'paper.read' is 'guessed'; there are text, abstract, second hand"),
        ("at_least = 2", "at_least = 2\nat_most = 1", 40, "'claim.at_least' is 2, and at_most is 1"),
        ("at_least = 2", "", 38, "'claim' has no end; write at_least, at_most or both"),
        ("at_least = 2", "at_least = inf", 40, "'claim.at_least' is inf; give a finite number"),
        ("at_least = 2", 'at_least = "2"', 40, "'claim.at_least' must be a number"),
        ('seen = "Hard."', "sen = 1", 43, "unknown field 'meaning.sen'; allowed: seen, unseen, open"),
        ('open = "Unclear."', "", 42, "'meaning.open' is missing"),
        ('"not seen here"', '"seen"', 49, "'expected.SmolLM2-135M-Instruct' is 'seen'; there are seen here too, not seen"),
        ("version = 2", "version = 1", 10, "'plans' needs version = 2"),
        ("version = 2", "version = 4", 1, "'version' must be 1 or 2"),
        ("seed = 3", "plan = '0-'", 6, "'plan' does not parse"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, said: str) -> None:
    assert WHOLE.count(old) >= 1
    wrong = WHOLE.replace(old, new, 1)
    with pytest.raises(RecipeError) as error:
        Recipe.loads(wrong)
    if line == 10 and new == "version = 1":  # what comes first in the file is named
        line, said = 3, "'question' needs version = 2"
    assert str(error.value).startswith(f"Line {line}: ")
    assert said in str(error.value)
    assert error.value.line == line
    assert error.value.field in str(error.value)


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ({"study": None}, "'claim' is about a study's figure and there is none"),
        ({"claim": None}, "'meaning' is about a claim and there is none"),
        ({"claim": None, "meaning": None}, "'expected' is about a claim"),
        ({"plans": tuple(NamedPlan(str(at), "0") for at in range(7))}, r"'plans\[6\]' is one too many; at most 6"),
        ({"plans": (), "sweep": None, "study": None, "claim": None, "meaning": None, "expected": ()}, "'plan' is missing"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(left_out: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe(**(vars(Recipe.loads(WHOLE)) | left_out))


def test_an_outcome_has_its_meaning() -> None:
    meaning = Recipe.loads(WHOLE).meaning
    assert meaning is not None
    assert [meaning.of(outcome) for outcome in get_args(Outcome)] == ["Hard.", "Easy.", "Unclear."]


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5)
leaves = st.integers(0, 9) | st.text("ab\n\"'#[]{},=\\", max_size=8) | st.lists(st.integers(0, 3), max_size=3)
tables = st.recursive(
    st.dictionaries(names, leaves, max_size=4),
    lambda inner: st.dictionaries(names, leaves | inner | st.lists(inner, min_size=1, max_size=3), max_size=4),
    max_leaves=12,
)


def paths(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every field's name as messages write it, with its own last part."""
    if isinstance(value, dict):
        for key, inside in value.items():
            here = f"{name}.{key}" if name else key
            yield here, key
            yield from paths(inside, here)
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from paths(item, f"{name}[{at}]")


@given(tables, st.booleans())
def test_every_key_of_any_file_is_on_the_line_that_is_named(table: dict[str, object], several: bool) -> None:
    text = tomli_w.dumps(table, multiline_strings=several)
    assert tomllib.loads(text) == table
    found, lines = lines_of(text), text.split("\n")
    for path, key in paths(table):
        assert key in lines[found[path] - 1], (path, text)


def test_lines_of_what_no_writer_writes() -> None:
    text = (
        "a . b = 1 # c = 2\n[t]\r\nx = '''\n[u]\ny = 1'''\n\"p q\" = { r = [\n1,\n\n 2], s = 3 }\n[[n]]\n[n.m]\nk = 1\n"
    )
    text += '[[n]]\nz = """a"""""\nlast = 1\n[end]'
    assert lines_of(text) == {
        "a": 1, "a.b": 1, "t": 2, "t.x": 3, "t.p q": 6, "t.p q.r": 6, "t.p q.r[0]": 7, "t.p q.r[1]": 9, "t.p q.s": 9,
        "n": 10, "n[0]": 10, "n[0].m": 11, "n[0].m.k": 12, "n[1]": 13, "n[1].z": 14, "n[1].last": 15, "end": 16,
    }  # fmt: skip
    assert line_of(text, "n[0].m.gone.deeper") == 11
    assert line_of(text, "nothing") is None
