"""A plan's picture: read again as XML, its bands held to the cells that they join."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.charts.plan_marks import PALETTES
from surgery_core.charts.plan_picture import plan_picture
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer, Slot

NS = "{http://www.w3.org/2000/svg}"


def drawn(notation: str, n_layers: int, **how: object) -> ElementTree.Element:
    return ElementTree.fromstring(plan_picture(LayerPlan.parse(notation, n_layers), **how))  # type: ignore[arg-type]


def cells(picture: ElementTree.Element) -> dict[str, dict[str, float]]:
    """Return the outer rectangle of each cell by what is said about it."""
    found = {}
    for group in picture.iter(f"{NS}g"):
        rectangle = group.find(f"{NS}rect")
        assert rectangle is not None
        found[group.findtext(f"{NS}title", "")] = {
            key: float(rectangle.attrib[key]) for key in ("x", "y", "width", "height")
        }
    return found


def bands(picture: ElementTree.Element, kind: str, mark: str = "band") -> list[list[tuple[float, float]]]:
    paths = [path.attrib["d"] for path in picture.iter(f"{NS}path") if path.attrib["class"] == f"{mark} {kind}"]
    return [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)] for path in paths]


def test_a_moved_layers_band_joins_its_two_places() -> None:
    picture = drawn("0,1,3,2,4", 5)
    place = cells(picture)
    (band,) = bands(picture, "moved")
    left, right = place["L2"], place["L2 at place 4"]
    assert band[0] == (left["x"] + left["width"], left["y"])
    assert band[3] == (right["x"], right["y"])
    assert band[-1] == (left["x"] + left["width"], left["y"] + left["height"])
    assert right["y"] > left["y"]


def test_rows_are_columns_on_their_side() -> None:
    picture = drawn("0,1,3,2,4", 5, orient="rows")
    (band,) = bands(picture, "moved")
    left = cells(picture)["L2"]
    assert band[0] == (left["x"], left["y"] + left["height"])


def test_runs_share_a_band_and_a_repeat_has_one_more() -> None:
    picture = drawn("0-5,4,5,6,7", 8)
    assert len(bands(picture, "kept")) == 2
    (again,) = bands(picture, "repeated")
    place = cells(picture)
    assert again[0][1] == place["L4"]["y"]
    assert again[-1][1] == place["L5"]["y"] + place["L5"]["height"]


def test_a_deleted_layer_ends_in_the_open_and_a_donors_comes_from_there() -> None:
    picture = drawn("0,other:1,2", 3)
    place = cells(picture)
    (gone,), (new,) = bands(picture, "deleted", "stub"), bands(picture, "donor", "stub")
    assert gone[0][0] == place["L1, deleted"]["x"] + place["L1, deleted"]["width"]
    assert gone[0][0] < gone[1][0] < new[1][0] < new[0][0]
    assert new[0][0] == place["other:L1 at place 2"]["x"]
    assert len(bands(picture, "kept")) == 2


def test_a_damped_block_stands_in_one_place_its_layers_one_behind_the_other_and_narrow() -> None:
    picture = drawn("0,[1-2]*0.5,3", 4)
    whole, said = cells(picture)["L3 at place 3"], "[L1-L2]×0.5 at place 2"
    first, second = (inner(picture, said, at) for at in range(2))
    assert first[0]["y"] + first[0]["height"] == second[0]["y"]
    assert first[0]["height"] + second[0]["height"] == whole["height"]
    assert first[1]["width"] == second[1]["width"] == whole["width"] / 2
    assert "2 in a damped block" in "".join(picture.itertext())
    bent = bands(picture, "changed")
    assert [band[3][1] for band in bent] == [first[0]["y"], second[0]["y"]]


def inner(picture: ElementTree.Element, said: str, at: int = 0) -> list[dict[str, float]]:
    group = [group for group in picture.iter(f"{NS}g") if group.findtext(f"{NS}title") == said][at]
    rectangles = group.findall(f"{NS}rect")
    return [{key: float(one.attrib[key]) for key in ("x", "y", "width", "height")} for one in rectangles]


@pytest.mark.parametrize(
    ("notation", "said", "wide", "high"),
    [
        ("0*0.5,1,2", "L0×0.5 at place 1", 0.5, 1.0),
        ("0*-0.25,1,2", "L0×-0.25 at place 1", 0.25, 1.0),
        ("0*40,1,2", "L0×40 at place 1", 1.5, 1.0),
        ("0.attn,1,2", "L0.attn at place 1", 1.0, 0.5),
        ("0.mlp*0.5,1,2", "L0.mlp×0.5 at place 1", 0.5, 0.5),
    ],
)
def test_a_changed_cell_is_filled_as_far_as_it_runs(notation: str, said: str, wide: float, high: float) -> None:
    whole, filled = inner(drawn(notation, 3), said)
    assert filled["width"] == pytest.approx(whole["width"] * wide, abs=0.02)
    assert filled["height"] == pytest.approx(whole["height"] * high, abs=0.02)
    middle = whole["x"] + whole["width"] / 2
    assert filled["x"] + filled["width"] / 2 == pytest.approx(middle, abs=0.02)


def test_attention_comes_before_the_mlp() -> None:
    first, second = (inner(drawn(f"0.{part},1", 2), f"L0.{part} at place 1") for part in ("attn", "mlp"))
    assert first[1]["y"] == first[0]["y"]
    assert second[1]["y"] == pytest.approx(second[0]["y"] + second[0]["height"] / 2, abs=0.02)


def test_parallel_layers_lie_side_by_side_in_one_place() -> None:
    picture = drawn("0,(1|2|3),4", 5)
    groups = [group for group in picture.iter(f"{NS}g") if group.findtext(f"{NS}title") == "L1|L2|L3 at place 2"]
    boxes = [{key: float(group[1].attrib[key]) for key in ("x", "y", "width")} for group in groups]
    assert len({box["y"] for box in boxes}) == 1
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"] < boxes[1]["x"] + boxes[1]["width"] < boxes[2]["x"]


def test_words_for_those_who_do_not_see_it() -> None:
    picture = drawn("0-4,6-11", 12)
    title, words = picture[0], picture[1]
    assert (title.tag, title.text) == (f"{NS}title", "The plan 0-4,6-11")
    assert (words.tag, words.text) == (f"{NS}desc", "11 of 12 layers run. L5 deleted.")
    assert picture.attrib["role"] == "img"
    assert picture.attrib["aria-labelledby"].split() == [title.attrib["id"], words.attrib["id"]]
    assert any(text.text == "1 deleted" for text in picture.iter(f"{NS}text"))


def test_pictures_of_different_plans_share_no_ids() -> None:
    ids = [drawn(plan, 4)[0].attrib["id"] for plan in ("0-3", "0-2")]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("orient", ["columns", "rows"])
@pytest.mark.parametrize("width", [340, 780])
@pytest.mark.parametrize(
    ("notation", "n_layers"),
    [("0", 1), ("", 3), ("0-125", 126), ("125-0", 126), ("0x1024", 1), ("", 0), ("[0-125]*0.5x8", 126)],
)
def test_everything_lies_within_the_picture(notation: str, n_layers: int, orient: str, width: int) -> None:
    picture = drawn(notation, n_layers, orient=orient, width=width)
    _, _, wide, high = map(float, picture.attrib["viewBox"].split())
    assert wide == width
    for one in picture.iter(f"{NS}rect"):
        x, y, w, h = (float(one.attrib[key]) for key in ("x", "y", "width", "height"))
        assert min(x, y, w, h) >= 0
        assert x + w <= wide + 0.1
        assert y + h <= high + 0.1


@pytest.mark.parametrize("dark", [False, True])
def test_labels_do_not_touch(dark: bool) -> None:
    picture = drawn("0-40,60-45,70-80,(81-90)x2,91-125", 126, dark=dark)
    for anchor in ("end", None):
        shown = [one for one in picture.iter(f"{NS}text") if one.attrib.get("text-anchor") == anchor]
        heights = sorted(float(one.attrib["y"]) for one in shown if (one.text or "").startswith("L"))
        assert len(heights) > 20
        assert min(b - a for a, b in pairwise(heights)) >= 11


@pytest.mark.parametrize("dark", [False, True])
def test_what_is_written_can_be_read(dark: bool) -> None:
    """The contrast of WCAG 2.1, 4.5 for small print."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    palette = PALETTES[dark]
    paper = luminance(palette["paper"])
    for written in ("ink", "quiet", "deleted"):
        one = luminance(palette[written])
        assert (max(one, paper) + 0.05) / (min(one, paper) + 0.05) >= 4.5


donors = st.none() | st.text(min_size=1, max_size=8)
layers = st.builds(
    Layer, st.integers(0, 4), st.sampled_from(["both", "attn", "mlp"]), st.floats(-1e6, 1e6), st.booleans(), donors
)


@given(st.lists(st.builds(Slot, st.lists(layers, min_size=1, max_size=3).map(tuple)), max_size=6), st.booleans())
def test_every_plan_has_a_picture(slots: list[Slot], dark: bool) -> None:
    plan = LayerPlan(tuple(slots), 5)
    picture = ElementTree.fromstring(plan_picture(plan, dark=dark))
    assert sum("at place" in group.findtext(f"{NS}title", "") for group in picture.iter(f"{NS}g")) == sum(
        len(slot.layers) for slot in slots
    )


def test_a_stitched_layer_has_a_seam_inside_its_end() -> None:
    picture = drawn("0-1,~,4-5", 6)
    groups = {group.findtext(f"{NS}title", ""): group.findall(f"{NS}rect") for group in picture.iter(f"{NS}g")}
    (said,) = [title for title in groups if "~" in title]
    outer, *_, seam = ({key: float(rect.attrib[key]) for key in ("x", "y", "width", "height")} for rect in groups[said])
    assert outer["y"] + outer["height"] / 2 < seam["y"]
    assert seam["y"] + seam["height"] < outer["y"] + outer["height"]
    assert (seam["x"], seam["width"]) == (outer["x"], outer["width"])
    assert "1 stitched" in "".join(picture.itertext())
