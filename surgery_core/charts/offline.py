"""Charts on pages that work without a network: the libraries that draw them, their data, and the script that does.

One way for a chart that is saved by itself and for a report. The libraries come from `vl-convert`, which also draws
charts as files; they are the same to the byte wherever the same version is installed.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt

_DRAW = (Path(__file__).with_name("offline.js")).read_text(encoding="utf-8")
_CONCAT = ("hconcat", "vconcat", "concat", "facet")


@cache
def chart_scripts() -> tuple[str, str]:
    """Return the scripts of a page with charts: Vega, Vega-Lite and Vega-Embed, and what draws with them."""
    import vl_convert

    version = alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]
    bundle: str = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]
    return inside_script(bundle), _DRAW


def inside_script(code: str) -> str:
    """Return JavaScript or JSON that may stand in a script element: nothing in it closes that."""
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", code, flags=re.IGNORECASE)


def policy(*scripts: str) -> str:
    """Return a content security policy under which these scripts run and no other, and nothing is fetched."""
    digests = (base64.b64encode(hashlib.sha256(one.encode("utf-8")).digest()).decode("ascii") for one in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def chart_data(charts: Mapping[str, Mapping[str, dict[str, Any]]]) -> str:
    """Return charts as the JSON that the drawing script reads; data that several of them share stand in it once.

    Args:
        charts: by name, then by theme (`"light"`, `"dark"`): specifications of Vega-Lite.
    """
    datasets: dict[str, Any] = {}
    placed: dict[str, dict[str, Any]] = {}
    for name, modes in charts.items():
        placed[name] = {}
        for mode, spec in modes.items():
            own = spec.get("datasets", {})
            datasets |= own
            rest = {key: value for key, value in spec.items() if key != "datasets"}
            placed[name][mode] = {"spec": rest, "data": sorted(own), "wide": _is_wide(rest)}
    written = json.dumps({"datasets": datasets, "charts": placed}, ensure_ascii=True, sort_keys=True)
    return written.replace("<", "\\u003c")


def chart_page(spec: dict[str, Any], title: str) -> str:
    """Return a page with one chart that needs no network.

    Args:
        spec: of Vega-Lite, with its data.
        title: of the page.
    """
    scripts = chart_scripts()
    library, draw = (f"<script>{one}</script>" for one in scripts)
    return _PAGE.format(
        policy=policy(*scripts), title=html.escape(title), data=chart_data({"chart": {"light": spec}}),
        library=library, draw=draw,
    )  # fmt: skip


def _is_wide(spec: Mapping[str, Any]) -> bool:
    """Whether a chart takes the width of its place: one view whose width nothing has set."""
    return "width" not in spec and not any(name in spec for name in _CONCAT)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ margin: 16px; background: #fff; }}</style>
<div data-chart="chart"><div class="light"></div></div>
<script type="application/json" id="charts">{data}</script>
{library}
{draw}
</html>
"""
