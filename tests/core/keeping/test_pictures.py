"""A plan's picture as files."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from surgery_core.errors import InputError
from surgery_core.keeping.pictures import picture_file
from surgery_core.plans.plan import LayerPlan

PLAN = LayerPlan.parse('0-2,"</script>":1,4', 5)


def test_a_file_has_a_ground_of_its_own() -> None:
    picture = ElementTree.fromstring(picture_file(PLAN, "svg"))
    ground = picture[2]
    assert [ground.attrib[key] for key in ("x", "y", "width", "height")] == picture.attrib["viewBox"].split()
    assert ground.attrib["fill"] == "#ffffff"


def test_png_is_twice_as_wide() -> None:
    data = picture_file(PLAN, "png")
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 2 * (960 + 24)


def test_a_page_has_the_plan_as_data() -> None:
    page = picture_file(PLAN, "html").decode()
    assert page.count("</script>") == 1
    found = re.search(r'<script type="application/json" id="plan">(.*?)</script>', page)
    assert found is not None
    assert json.loads(found[1]) == {"plan": str(PLAN), "n_layers": 5, "changes": {"deleted": 1, "donor": 1}}


def test_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="'gif' is no kind of picture"):
        picture_file(PLAN, "gif")
