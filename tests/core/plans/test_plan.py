"""Plans and their notation: parse and print, the algebra against plain lists, errors that point."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import InputError, NotationError, PlanError, SurgeryError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import MAX_SLOTS, Layer, Slot

N = 12

layers = st.builds(
    Layer,
    index=st.integers(0, N - 1),
    part=st.sampled_from(["both", "both", "attn", "mlp"]),
    scale=st.sampled_from([1.0, 1.0, 0.5, -2.0, 0.0, 1e-7, 1 / 3, 1e21]),
    mean=st.sampled_from([False, False, False, True]),
    donor=st.sampled_from(
        [None, None, None, "other", "org/some-model.v2", "my model+x, 7", '9"\\', "mean(", "größe 🙂"]
    ),
    adapter=st.sampled_from([True, True, True, False]),
)
stitched = layers.map(lambda layer: Slot((replace(layer, stitched=True),)))
blocks = st.builds(
    lambda found, damping: Slot(tuple(found), damping),
    st.lists(layers, min_size=2, max_size=4), st.sampled_from([0.5, 1 / 3, -1.0, 0.0, 2.0]),
)  # fmt: skip
runs = st.builds(
    lambda first, size, damping: Slot(tuple(Layer(i) for i in range(first, first + size)), damping),
    st.integers(0, 7), st.integers(2, 5), st.sampled_from([0.5, 0.25]),
)  # fmt: skip
slots = st.one_of(
    st.lists(layers, min_size=1, max_size=3).map(lambda found: Slot(tuple(found))), stitched, blocks, runs
)
plain = st.builds(Layer, index=st.integers(0, N - 1), stitched=st.sampled_from([False, False, False, True])).map(
    lambda layer: Slot((layer,))
)
plans = st.one_of(st.lists(slots, max_size=8), st.lists(plain, max_size=16)).map(
    lambda found: LayerPlan(tuple(found), N)
)


def order(plan: LayerPlan) -> list[int]:
    return [slot.layers[0].index for slot in plan]


@given(plans)
def test_printing_and_parsing_lose_nothing(plan: LayerPlan) -> None:
    assert LayerPlan.parse(str(plan), N) == plan


@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.integers(0, N)), min_size=1, max_size=5))
def test_a_layer_of_a_donor_of_any_name_is_read_back(named: list[tuple[str, int]]) -> None:
    singles = [Slot((Layer(index, donor=name),)) for name, index in named]
    group = Slot(tuple(Layer(index, part="mlp", donor=name) for name, index in named))
    plan = LayerPlan((*singles, *singles, group, *(Slot((Layer(i, donor=named[0][0]),)) for i in range(5))), N)
    assert LayerPlan.parse(str(plan), N) == plan
    assert len({slot.label for slot in plan}) == len(set(plan.slots))


@pytest.mark.parametrize(
    ("text", "donor", "printed"),
    [
        ('"my model+x":7', "my model+x", '"my model+x":7'),
        ('"other":7', "other", "other:7"),
        ('"7":7', "7", '"7":7'),
        ('"a/b, c" : 7', "a/b, c", '"a/b, c":7'),
        (r'"say \"hi\"":7', 'say "hi"', r'"say \"hi\"":7'),
        (r'"back\\slash":7', "back\\slash", r'"back\\slash":7'),
        ('"größe":7', "größe", '"größe":7'),
    ],
)
def test_a_donor_in_quotes_is_printed_with_quotes_only_where_it_needs_them(text: str, donor: str, printed: str) -> None:
    plan = LayerPlan.parse(text, N)
    assert plan.slots == (Slot((Layer(7, donor=donor),)),)
    assert str(plan) == printed


@given(plans)
def test_whitespace_is_ignored_and_printing_is_canonical(plan: LayerPlan) -> None:
    parts = re.split(r'("(?:[^"\\]|\\.)*")', str(plan))  # every other one is a name in quotes
    spaced = "".join(part if at % 2 else re.sub(r"([,()|\[\]])", r" \1 ", part) for at, part in enumerate(parts))
    again = LayerPlan.parse(spaced, N)
    assert again == plan
    assert str(again) == str(plan)
    assert hash(again) == hash(plan)


def every_text(alphabet: str, max_length: int) -> dict[LayerPlan, str]:
    """Return, by brute force over all texts of a small alphabet, the shortest text of every plan it can write."""
    shortest: dict[LayerPlan, str] = {}
    for length in range(max_length + 1):
        for characters in itertools.product(alphabet, repeat=length):
            text = "".join(characters)
            if text.count("[") != text.count("]"):
                continue
            try:
                plan = LayerPlan.parse(text, 3)
            except NotationError:
                continue
            shortest.setdefault(plan, text)
    return shortest


@pytest.mark.parametrize("alphabet", ["0123-,x", "01,x2()", "01~,x2", "0,[]*2"])
def test_the_printed_text_is_as_short_as_any_that_brute_force_finds(alphabet: str) -> None:
    found = every_text(alphabet, 7 if "[" in alphabet else 5)
    assert len(found) > 50
    for plan, text in found.items():
        assert len(str(plan)) <= len(text), (str(plan), text)
        if set(str(plan)) <= set(alphabet):
            assert len(str(plan)) == len(text), (str(plan), text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", [7]),
        ("3-7", [3, 4, 5, 6, 7]),
        ("7-3", [7, 6, 5, 4, 3]),
        ("5x3", [5, 5, 5]),
        ("(4-6)x2", [4, 5, 6, 4, 5, 6]),
        ("((0,1)x2,3)x2", [0, 1, 0, 1, 3, 0, 1, 0, 1, 3]),
        ("", []),
        ("  \n", []),
        ("0-4, 6, 5, 7-11", [0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11]),
    ],
)
def test_order_of_layers(text: str, expected: list[int]) -> None:
    assert order(LayerPlan.parse(text, N)) == expected


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("7.attn", Layer(7, "attn")),
        ("7.mlp", Layer(7, "mlp")),
        ("7*0.5", Layer(7, scale=0.5)),
        ("7*-1.5e-1", Layer(7, scale=-0.15)),
        ("7.attn*2", Layer(7, "attn", 2.0)),
        ("7*2.attn", Layer(7, "attn", 2.0)),
        ("mean(7)", Layer(7, mean=True)),
        ("other:7", Layer(7, donor="other")),
        ("org/some-model.v2:700", Layer(700, donor="org/some-model.v2")),
        ("mean(7)*0.5", Layer(7, scale=0.5, mean=True)),
        ("7.bare", Layer(7, adapter=False)),
        ("7.bare.bare", Layer(7, adapter=False)),
        ("7*2.mlp.bare", Layer(7, "mlp", 2.0, adapter=False)),
        ("other:7.bare", Layer(7, donor="other", adapter=False)),
    ],
)
def test_one_modified_layer(text: str, layer: Layer) -> None:
    assert LayerPlan.parse(text, N).slots == (Slot((layer,)),)


def test_modifiers_apply_to_every_layer_of_a_group() -> None:
    assert LayerPlan.parse("(4|5|6)", N).slots == (Slot.of(4, 5, 6),)
    assert LayerPlan.parse("(4|5.mlp)*0.5x2", N).slots == (Slot((Layer(4, scale=0.5), Layer(5, "mlp", 0.5))),) * 2
    assert LayerPlan.parse("(4-5).attn", N).slots == (Slot((Layer(4, "attn"),)), Slot((Layer(5, "attn"),)))
    assert LayerPlan.parse("mean(3-4)", N).slots == (Slot((Layer(3, mean=True),)), Slot((Layer(4, mean=True),)))


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (LayerPlan.identity(12), "0-11"),
        (LayerPlan.identity(1), "0"),
        (LayerPlan.identity(12).swap(5, 6), "0-4,6,5,7-11"),
        (LayerPlan.identity(12).delete(5), "0-4,6-11"),
        (LayerPlan.identity(12).delete(range(12)), ""),
        (LayerPlan.identity(12).reverse(), "11-0"),
        (LayerPlan.identity(12).repeat(5, 6, 3), "0-5,5,5-11"),
        (LayerPlan.identity(12).parallel(4, 7), "0-3,(4|5|6),7-11"),
        (LayerPlan.identity(3).scale(1, 0.5).keep(2, "mlp"), "0,1*0.5,2.mlp"),
        (LayerPlan.identity(12).switch_adapter(5, on=False), "0-4,5.bare,6-11"),
        (LayerPlan.identity(12).switch_adapter(range(12), on=False), "(0-11).bare"),
        (LayerPlan.identity(12).switch_adapter(range(12), on=False).scale(5, 0.5), "(0-4,5*0.5,6-11).bare"),
        (LayerPlan.identity(4).keep(1, "attn").switch_adapter([1, 2], on=False), "0,(1.attn,2).bare,3"),
        (LayerPlan.identity(3).keep(0, "mlp").switch_adapter(0, on=False), "0.bare.mlp,1-2"),
        (LayerPlan.identity(4).scale(0, 0.5).scale(1, 0.5).scale(2, 0.5).scale(3, 0.5), "(0-3)*0.5"),
        (LayerPlan.identity(12).damp(3, 6, 0.5), "0-2,[3-5]*0.5,6-11"),
        (LayerPlan.identity(12).loop(3, 6, 2), "0-2,[3-5]*0.5x2,6-11"),
        (LayerPlan.identity(12).loop(3, 4, 4), "0-2,3*0.25x4,4-11"),
        (LayerPlan.identity(12).loop(3, 6, 2, 1), "0-5,3-11"),
        (LayerPlan.identity(12).keep(4, "mlp").damp(3, 6, -1), "0-2,[3,4.mlp,5]*-1,6-11"),
        (LayerPlan.identity(4).keep(1, "mlp").keep(2, "mlp").damp(1, 3, 0.5), "0,[(1-2).mlp]*0.5,3"),
        (LayerPlan.identity(12).loop(0, 3, 2).delete(0).delete(range(1, 10)), "[0-2]*0.5"),
    ],
)
def test_canonical_text(plan: LayerPlan, text: str) -> None:
    assert str(plan) == text


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("12", 0, "no layer 12; allowed: 0 to 11"),
        ("0-12", 2, "no layer 12"),
        ("0,,1", 2, "write a layer number"),
        ("0,", 2, "write a layer number"),
        ("z", 0, "write a layer number"),
        ("(3", 2, "close the parenthesis"),
        ("3)", 1, "comma"),
        ("3 4", 2, "comma"),
        ("3-7x2", 3, r"\(3-7\)x"),
        ("3-7.attn", 3, r"\(3-7\)\."),
        ("5x0", 2, "at least once"),
        ("5x1000000", 2, "1,000,000 layers; at most 1,024"),
        ("(0|1|2)x512", 8, "1,536 layers; at most 1,024"),
        ("[0-11]*0.5x100", 11, "1,200 layers; at most 1,024"),
        ("[3-5]", 5, "write which part of what the block adds"),
        ("[3-5", 4, "close the bracket"),
        ("[3-5]*", 6, "factor"),
        ("[3-5]*1e999", 0, "finite number but 1"),
        ("[3,(4|5)]*0.5", 1, "single layers one after the other"),
        ("[3,[4,5]*0.5]*0.5", 1, "single layers one after the other"),
        ("[3,~,7]*0.5", 1, "single layers one after the other"),
        ("[3-5]*0.5*0.5", 9, "inside its brackets"),
        ("[3-5]*0.5.mlp", 9, "inside its brackets"),
        ("([3-5]*0.5,7).bare", 13, "inside its brackets"),
        ("[3-5]*0.5,~", 10, "behind a single layer"),
        ("([3-5]*0.5|7)", 1, "between | stands one layer"),
        ("[]*0.5", 1, "write a layer number"),
        ("((0-11)x80)x80", 12, "at most 1,024"),
        ("7.foo", 2, ".attn or .mlp"),
        ("7.bar", 2, "or .bare to leave out its adapter"),
        ("3-7.bare", 3, r"\(3-7\)\."),
        ("7.attn.mlp", 6, "either .attn or .mlp"),
        ("7*", 2, "factor"),
        ("7*1e999", 1, "finite"),
        ("(3-4|5)", 1, "one layer each"),
        ("mean(3", 6, "close mean"),
        ("other:", 6, "layer number"),
        ("-3", 0, "layer number"),
        ("99999999999", 0, "too large"),
        ("٣", 0, "layer number"),
        ("0,\x00", 2, "layer number"),
        ("0,🙂", 2, "layer number"),
        ('0,"my model', 2, 'close the name with another "'),
        ('0,"my model"7', 12, "write a colon"),
        ('0,"my model":', 13, "layer number"),
        ('0,"my\\ model":7', 6, "behind a backslash"),
        ('"":7', 0, "1 to 1,000 characters"),
        ("a" * 1_001 + ":7", 0, "1 to 1,000 characters"),
        ("~,3", 0, "behind the layer before a cut"),
        ("3,~,~", 4, "once behind the layer"),
        ("3,(~,4)", 3, "behind the layer before a cut"),
        ("(4|5),~", 6, "behind a single layer"),
        ("(4,~|5)", 1, "between | stands one layer"),
        ("3,~x2", 3, "a comma between items"),
    ],
)
def test_errors_point_at_the_character_and_say_what_is_allowed(text: str, position: int, reason: str) -> None:
    with pytest.raises(NotationError, match=reason) as caught:
        LayerPlan.parse(text, N)
    assert caught.value.position == position
    assert caught.value.pointer().splitlines()[-1] == " " * position + "^"


@given(st.text(alphabet='0123456789-,x()[]|.*:~attnmlpebr \x00🙂"\\', max_size=30))
def test_any_text_parses_or_points(text: str) -> None:
    try:
        plan = LayerPlan.parse(text, N)
    except NotationError as error:
        assert 0 <= error.position <= len(text)
    else:
        assert LayerPlan.parse(str(plan), N) == plan


def test_deep_nesting_and_long_texts_are_refused_quickly() -> None:
    for text in ("(" * 5000 + "1", "1," * 20_000, "((((1x32)x32)x32)x32)"):
        with pytest.raises(NotationError):
            LayerPlan.parse(text, N)


orders = st.lists(st.integers(0, N - 1), min_size=1, max_size=10)


@given(orders, st.data())
def test_edits_equal_edits_of_a_plain_list(start: list[int], data: st.DataObject) -> None:
    plan = LayerPlan.identity(N).permute(start)
    size = len(start)
    a, b = (data.draw(st.integers(-size, size - 1)) for _ in range(2))
    low, high = sorted(data.draw(st.integers(0, size)) for _ in range(2))
    expected = start.copy()
    expected[a], expected[b] = expected[b], expected[a]
    assert order(plan.swap(a, b)) == expected
    moved = start.copy()
    item = moved.pop(a)
    moved.insert(b % size, item)
    assert order(plan.move(a, b)) == moved
    assert order(plan.reverse(low, high)) == start[:low] + start[low:high][::-1] + start[high:]
    assert order(plan.repeat(low, high, 3)) == start[:low] + start[low:high] * 3 + start[high:]
    assert order(plan.delete([a])) == [x for i, x in enumerate(start) if i != a % size]
    assert order(plan.insert(low, 7)) == [*start[:low], 7, *start[low:]]
    replaced = start.copy()
    replaced[a] = 3
    assert order(plan.replace([a], [3])) == order(plan.replace(a, 3)) == replaced
    assert order(plan) == start


@given(orders)
def test_laws(start: list[int]) -> None:
    plan = LayerPlan.identity(N).permute(start)
    assert plan.reverse().reverse() == plan
    assert plan.swap(0, -1).swap(0, -1) == plan
    assert plan.permute(range(len(plan))) == plan
    assert plan.scale(0, 1.0) == plan
    assert plan.keep(0, "attn").keep(0, "both") == plan
    assert plan.switch_adapter([0], on=False).switch_adapter(0, on=True) == plan
    assert plan.switch_adapter([], on=False) == plan.switch_adapter(range(len(plan)), on=True) == plan
    assert set(plan.deleted) == set(range(N)) - set(start)
    assert plan.is_identity == (start == list(range(N)))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p: p.delete([12]), "12 is not a position here; allowed: 0 to 11"),
        (lambda p: p.delete([-13]), "-13"),
        (lambda p: p.delete([3, 3]), "more than once: 3"),
        (lambda p: p.delete([True]), "not a whole number"),
        (lambda p: p.permute([0.5]), "0.5 is not a whole number"),
        (lambda p: p.permute("0123"), "not a list of layer numbers"),
        (lambda p: p.replace([0], []), "1 positions but 0 replacements"),
        (lambda p: p.replace([0], [12]), "no layer 12"),
        (lambda p: p.repeat(0, 12, 100), "at most 1,024"),
        (lambda p: p.repeat(0, 2, -1), "-1 times"),
        (lambda p: p.reverse(5, 3), "ends before it starts"),
        (lambda p: p.parallel(3, 3), "is empty"),
        (lambda p: p.scale(0, float("nan")), "nan"),
        (lambda p: p.switch_adapter(12, on=False), "12 is not a position"),
        (lambda p: p.scale(0, "2"), "not a number"),
        (lambda p: p.keep(0, "norm"), "'norm' is not a part"),
        (lambda p: p.delete(range(12)).delete([0]), "no layers left"),
        (lambda p: p.permute([0] * (MAX_SLOTS + 1)), "runs 1,025 layers"),
        (lambda p: p.parallel(0, 12).repeat(0, 1, 100), "runs 1,200 layers"),
        (lambda p: p.damp(3, 3, 0.5), "is empty"),
        (lambda p: p.damp(3, 6, float("inf")), "damped by inf"),
        (lambda p: p.damp(3, 6, "half"), "not a number"),
        (lambda p: p.parallel(3, 5).damp(2, 5, 0.5), r"\(3\|4\) cannot be one layer among several"),
        (lambda p: p.damp(3, 5, 0.5).damp(2, 5, 0.5), r"\[3,4\]\*0.5 cannot be one layer among several"),
        (lambda p: p.damp(3, 5, 0.5).parallel(2, 5), r"\[3,4\]\*0.5 cannot be one layer among several"),
        (lambda p: p.loop(3, 6, 0), "cannot run 0 times"),
        (lambda p: p.loop(3, 6, 2.0), "not a whole number"),
        (lambda p: p.damp(3, 6, 0.5).stitch(3), "behind a single layer"),
    ],
)
def test_bad_edits_name_the_value_and_what_is_allowed(edit: object, message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        edit(LayerPlan.identity(N))  # type: ignore[operator]
    assert isinstance(caught.value, (InputError, ValueError, SurgeryError))


def test_labels() -> None:
    plan = LayerPlan.parse("7,7.attn*0.5,(4|5),mean(2),other:3,[3-5]*0.5,[3,5.mlp]*2", N)
    assert [slot.label for slot in plan] == [
        "L7", "L7.attn×0.5", "L4|L5", "mean L2", "other:L3", "[L3-L5]×0.5", "[L3,L5.mlp]×2",
    ]  # fmt: skip


@given(st.integers(0, N), st.integers(0, N), st.sampled_from([0.5, 1.0, -2.0, 0.0]), st.integers(1, 4))
def test_a_loop_runs_its_block_so_often_and_takes_a_part_of_it(a: int, b: int, part: float, times: int) -> None:
    """What a plan adds, written down without slots: the block's layers, `times` times, each with the block's factor."""
    begin, end = min(a, b), max(a, b)
    plan = LayerPlan.identity(N)
    if begin == end:
        with pytest.raises(PlanError, match="is empty"):
            plan.loop(begin, end, times, part)
        return
    looped = plan.loop(begin, end, times, part)
    single = end - begin == 1
    wanted = [([i], 1.0) for i in range(begin)]
    once = [([i], 1.0) for i in range(begin, end)] if part == 1 else [(list(range(begin, end)), part)]
    wanted += once * times + [([i], 1.0) for i in range(end, N)]
    found = [
        ([layer.index for layer in slot.layers], slot.layers[0].scale if slot.damping is None else slot.damping)
        for slot in looped
    ]
    assert found == wanted
    assert single or part == 1 or all(slot.damping in (None, part) for slot in looped)


def test_a_block_that_is_scaled_takes_more_or_less_of_it_and_falls_apart_at_one() -> None:
    plan = LayerPlan.identity(N).damp(3, 6, 0.5)
    assert str(plan.scale(3, 0.5)) == "0-2,[3-5]*0.25,6-11"
    assert plan.scale(3, 2).is_identity
    assert str(plan.keep(3, "attn").switch_adapter(3, on=False)) == "0-2,[(3-5).bare.attn]*0.5,6-11"


@pytest.mark.parametrize("start", [-4, -2, -1, 0, 2, 4])
@pytest.mark.parametrize("stop", [-4, -1, 0, 3, 4, None])
def test_blocks_count_as_pythons_slices(start: int, stop: int | None) -> None:
    plan, layers = LayerPlan.identity(4), list(range(4))
    low, high, _ = slice(start, stop).indices(4)
    if low > high:
        with pytest.raises(PlanError, match="ends before it starts"):
            plan.repeat(start, stop, 2)
        return
    assert order(plan.repeat(start, stop, 2)) == layers[:low] + layers[low:high] * 2 + layers[high:]
    assert order(plan.reverse(start, stop)) == layers[:low] + layers[low:high][::-1] + layers[high:]


@pytest.mark.parametrize("start", [-5, 5])
def test_a_block_begins_within_the_plan_or_right_behind_it(start: int) -> None:
    with pytest.raises(PlanError, match=f"{start} is not a start of a block here; allowed: 0 to 4"):
        LayerPlan.identity(4).reverse(start, None)


@pytest.mark.parametrize(
    ("text", "shortest"),
    [("(1|2)*0.5,(1|2)*0.5", "(1|2)x2*0.5"), ("(1*0.5|2*0.5)", "(1|2)*0.5"), ("1*0.5,2*0.5,3", "(1,2)*0.5,3")],
)
def test_parallel_slots_share_modifiers(text: str, shortest: str) -> None:
    printed = str(LayerPlan.parse(text, 4))
    assert LayerPlan.parse(printed, 4) == LayerPlan.parse(text, 4)
    assert len(printed) <= len(shortest)


def test_planning_imports_neither_torch_nor_streamlit() -> None:
    code = (
        "import sys; from surgery_core.plans.plan import LayerPlan; str(LayerPlan.parse('0-3', 4));"
        "import surgery_core.plans.presets;"
        "assert not {'torch', 'transformers', 'streamlit', 'pandas'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_donors_are_the_other_models_that_layers_come_from() -> None:
    assert LayerPlan.parse('0,a:1,(2|b:3),"a":0', 4).donors == {"a", "b"}
    assert LayerPlan.identity(4).donors == LayerPlan.parse("", 4).donors == set()
