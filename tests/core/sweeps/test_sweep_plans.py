"""Which plans a sweep tries, against lists made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import SettingsError
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.kinds import KINDS, MAX_POINTS, longest_block, sweep_kind, sweep_points
from surgery_core.sweeps.options import SweepOptions

FIVE = LayerPlan.identity(5)


def tried(kind: str, options: SweepOptions | None = None, start: LayerPlan = FIVE) -> list[tuple[object, object, str]]:
    return [(point.x, point.y, str(point.plan)) for point in sweep_points(kind, start, options)]


def plan(text: str) -> str:
    return str(LayerPlan.parse(text, 5))


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("delete", {}, [(0, None, "1-4"), (1, None, "0,2-4"), (2, None, "0-1,3-4"), (3, None, "0-2,4"), (4, None, "0-3")]),
        ("delete-attention", {}, [(n, None, ",".join(f"{m}.mlp" if m == n else str(m) for m in range(5))) for n in range(5)]),
        ("delete-mlp", {}, [(n, None, ",".join(f"{m}.attn" if m == n else str(m) for m in range(5))) for n in range(5)]),
        ("swap-neighbours", {}, [(0, None, "1,0,2,3,4"), (1, None, "0,2,1,3,4"), (2, None, "0,1,3,2,4"), (3, None, "0,1,2,4,3")]),
        ("repeat", {"times": 3}, [(n, None, ",".join(f"{m},{m},{m}" if m == n else str(m) for m in range(5))) for n in range(5)]),
        ("damped-repeat", {"times": 4}, [(n, None, ",".join(f"{m}*0.25x4" if m == n else str(m) for m in range(5))) for n in range(5)]),
        ("damped-block", {"max_length": 2, "damping": 0.75},
         [(0, 1, "0*0.75x2,1-4"), (0, 2, "[0-1]*0.75x2,2-4"), (1, 1, "0,1*0.75x2,2-4"), (1, 2, "0,[1-2]*0.75x2,3-4"),
          (2, 1, "0-1,2*0.75x2,3-4"), (2, 2, "0-1,[2-3]*0.75x2,4"), (3, 1, "0-2,3*0.75x2,4"), (3, 2, "0-2,[3-4]*0.75x2"),
          (4, 1, "0-3,4*0.75x2")]),
        ("atlas", {"max_length": 1, "damping": 0.75},
         [*((n, "skip 1", ",".join(str(m) for m in range(5) if m != n)) for n in range(5)),
          *((n, "repeat 1", ",".join(f"{m},{m}" if m == n else str(m) for m in range(5))) for n in range(5)),
          *((n, "damped 1", ",".join(f"{m}*0.75x2" if m == n else str(m) for m in range(5))) for n in range(5))]),
        ("loop-block", {"layer": 1, "length": 2, "times": 3},
         [(part, times, f"0,[1-2]*{part}x{times},3-4" if part < 1 else f"0,(1-2)x{times},3-4")
          for times in (2, 3) for part in (0.25, 0.5, 0.75, 1.0)]),
        ("loop-block", {"factors": (0, -0.5)}, [(0.0, 2, "0-1,2*0x2,3-4"), (-0.5, 2, "0-1,2*-0.5x2,3-4")]),
        ("move", {"layer": 1},
         [(0, None, "1,0,2-4"), (1, None, "0-4"), (2, None, "0,2,1,3-4"), (3, None, "0,2-3,1,4"), (4, None, "0,2-4,1")]),
        ("scale", {"layer": 4, "factors": (0, 0.5)}, [(0.0, None, "0-3,4*0"), (0.5, None, "0-3,4*0.5")]),
        ("skip-middle", {}, [(1, None, "0-1,3-4"), (2, None, "0,3-4"), (3, None, "0,4")]),
        ("reverse-middle", {}, [(2, None, "0,2,1,3,4"), (3, None, "0,3,2,1,4")]),
        ("parallel-middle", {}, [(2, None, "0,(1|2),3,4"), (3, None, "0,(1|2|3),4")]),
        ("looped-parallel-middle", {}, [(2, None, "0,(1|2)x3,3,4"), (3, None, "0,(1|2|3)x3,4")]),
        ("repeat-middle", {}, [(2, None, "0,2,2,3,4"), (3, None, "0,2,2,2,4")]),
    ],
)  # fmt: skip
def test_plans_are_those_of_a_list_made_by_hand(
    kind: str, options: dict[str, object], expected: list[tuple[object, object, str]]
) -> None:
    found = tried(kind, replace(SweepOptions(), **options))  # type: ignore[arg-type]
    assert found == [(x, y, plan(text)) for x, y, text in expected]


def test_blocks_are_every_start_and_length() -> None:
    assert tried("skip-block", start=LayerPlan.identity(3)) == [
        (0, 1, "1-2"), (0, 2, "2"), (1, 1, "0,2"), (1, 2, "0"), (2, 1, "0-1"),
    ]  # fmt: skip
    assert [(x, y) for x, y, _ in tried("repeat-block", SweepOptions(max_length=2))] == [
        (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1),
    ]  # fmt: skip
    assert tried("skip-block", SweepOptions(max_length=5))[4] == (0, 5, "")


def test_replacing_puts_every_layer_at_every_other_position() -> None:
    found = tried("replace", start=LayerPlan.identity(3))
    expected = ["1,1,2", "2,1,2", "0,0,2", "0,2,2", "0,1,0", "0,1,1"]
    assert [LayerPlan.parse(text, 3) for _, _, text in found] == [LayerPlan.parse(text, 3) for text in expected]


def test_shuffles_follow_their_seed_and_keep_the_ends() -> None:
    one, same, other = (tried("shuffle-middle", SweepOptions(seed=seed), LayerPlan.identity(12)) for seed in (1, 1, 2))
    assert one == same != other
    widest = LayerPlan.parse(one[-1][2], 12)
    assert [slot.layers[0].index for slot in widest][:1] + [slot.layers[0].index for slot in widest][-1:] == [0, 11]
    assert sorted(slot.layers[0].index for slot in widest) == list(range(12))


def test_painters_are_all_six_variants() -> None:
    found = tried("painters", start=LayerPlan.identity(6))
    assert {y for _, y, _ in found} == {"looped parallel", "shuffle", "reverse", "parallel", "skip", "repeat centre"}
    assert len(found) == 4 + 5 * 3  # a middle of one layer can only be skipped


@given(n=st.integers(1, 20), kind=st.sampled_from([kind.key for kind in KINDS]))
def test_every_kind_fits_every_depth_or_says_so(n: int, kind: str) -> None:
    start = LayerPlan.identity(n)
    if n < sweep_kind(kind).least:
        with pytest.raises(SettingsError, match="needs at least"):
            sweep_points(kind, start)
        return
    points = sweep_points(kind, start)
    assert [point.number for point in points] == list(range(len(points)))
    assert len({(point.x, point.y) for point in points}) == len(points)
    assert all((point.y is None) == (sweep_kind(kind).y_title == "") for point in points)


def test_positions_are_named_by_their_layer_and_turn() -> None:
    assert slot_labels(LayerPlan.parse("0,2,2,(1|3)", 4)) == ["L0", "L2", "L2 (2)", "L1|L3"]


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(SettingsError, match="no layer 7"):
        sweep_points("move", FIVE, SweepOptions(layer=7))
    with pytest.raises(SettingsError, match="block of 0"):
        sweep_points("skip-block", FIVE, SweepOptions(max_length=0))
    with pytest.raises(SettingsError, match="1 times"):
        SweepOptions(times=1)
    with pytest.raises(SettingsError, match="at least one factor"):
        SweepOptions(factors=())
    with pytest.raises(SettingsError, match=f"{MAX_POINTS:,}"):
        sweep_points("skip-block", LayerPlan.identity(100))


@pytest.mark.parametrize("kind", ["skip-block", "damped-block", "atlas"])
@pytest.mark.parametrize("depth", [2, 12, 30, 60, 126])
def test_blocks_as_long_as_they_may_be_are_a_sweep_and_longer_ones_too_many_plans(kind: str, depth: int) -> None:
    start, longest = LayerPlan.identity(depth), longest_block(kind, depth)
    assert len(sweep_points(kind, start, SweepOptions(max_length=longest))) <= MAX_POINTS
    if longest < depth - 1:
        with pytest.raises(SettingsError, match="set a smaller longest block"):
            sweep_points(kind, start, SweepOptions(max_length=longest + 1))


def test_the_atlas_of_one_layer_is_refused() -> None:
    with pytest.raises(SettingsError, match="Atlas of blocks needs at least 2 layers"):
        sweep_points("atlas", LayerPlan.identity(1))
