"""A plan's picture as a file: SVG, PNG, or a page with its data."""

from __future__ import annotations

import json

from surgery_core.charts.plan_picture import Orient, plan_picture
from surgery_core.errors import InputError
from surgery_core.plans.changes import changes
from surgery_core.plans.plan import LayerPlan

KINDS = ("svg", "png", "html")
"""Kinds of files that a picture can be kept as; also their endings."""
_PNG_SCALE = 2.0


def picture_file(plan: LayerPlan, kind: str, orient: Orient = "rows") -> bytes:
    """Return a plan's picture on white as a file.

    Args:
        plan: any plan.
        kind: one of `KINDS`; the page has the picture, whose layers say what they are under the pointer, and the plan
            with its changes as JSON.
        orient: as for `plan_picture`.

    Raises:
        InputError: for another kind.
    """
    drawn = plan_picture(plan, orient=orient, background=True)
    if kind == "svg":
        return drawn.encode("utf-8")
    if kind == "png":
        import vl_convert

        png: bytes = vl_convert.svg_to_png(drawn, scale=_PNG_SCALE)
        return png
    if kind != "html":
        raise InputError(f"{kind!r} is no kind of picture; choose one of {', '.join(KINDS)}.")
    data = {"plan": str(plan), "n_layers": plan.n_layers, "changes": changes(plan)}
    # nothing in a script element may close it
    written = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return _PAGE.format(data=written, drawn=drawn).encode("utf-8")


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A plan of layers</title>
<script type="application/json" id="plan">{data}</script>
{drawn}
</html>
"""
