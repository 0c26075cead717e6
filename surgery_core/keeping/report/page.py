"""A report as one page of HTML that needs no network.

Everything that a person typed is text in it and never markup, and a policy in its head lets no script run but the two
that draw its charts. A figure stands in an element that names it (`data-says`), so that `verify` can compare what the
page shows with what it states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

from surgery_core.charts.offline import chart_data, chart_scripts, policy
from surgery_core.errors import ReportError
from surgery_core.keeping.report import sections
from surgery_core.keeping.report.drawn import charts_of
from surgery_core.keeping.report.evidence import Evidence, page_block
from surgery_core.keeping.report.figures import Stated
from surgery_core.keeping.report.findings import Findings
from surgery_core.keeping.report.stating import figures_of

MOST_BYTES = 3_000_000
"""Largest size of a report."""
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_END = "</body>\n</html>\n"


def report_page(found: Findings) -> str:
    """Return a report as a page.

    Raises:
        ReportError: when it would be larger than `MOST_BYTES`; says what to leave out.
    """
    evidence = Evidence.of(found)
    charts = charts_of(found)
    scripts = chart_scripts() if charts else ()
    head = _HEAD.format(policy=policy(*scripts), title=escape(sections.title_of(found.report.recipe)), style=_STYLE)
    stated = {one.name: one for one in figures_of(found)}
    parts = [head, sections.top(found), *_sections(found, stated), *_drawing(charts, scripts)]
    before = "\n".join(part for part in parts if part) + "\n"
    page = before + page_block(replace(evidence, page=page_digest(before + _END))) + _END
    _check_size(page, found)
    return page


def page_digest(rest: str) -> str:
    """Return the digest of a page without its block of figures; how lines end is left out of it."""
    return hashlib.sha256(rest.replace("\r\n", "\n").encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _sections(found: Findings, stated: Mapping[str, Stated]) -> list[str]:
    made: dict[str, Callable[[], str]] = {
        "plan": lambda: sections.plan_section(found),
        "headline": lambda: sections.headline(found, stated),
        "writing": lambda: sections.writing_section(found),
        "scores": lambda: sections.scores_section(found, stated),
        "plans": lambda: sections.plans_section(found, stated),
        "lens": lambda: sections.lens_section(found, stated),
        "skills": lambda: sections.skills_section(found, stated),
        "sweep": lambda: sections.sweep_section(found, stated),
        "swap": lambda: sections.swap_section(found),
        "study": lambda: sections.study_section(found, stated),
        "again": lambda: sections.again_section(found, stated),
    }
    wanted = {*found.asked.parts, "headline", "again"}
    return [make() for name, make in made.items() if name in wanted]


def _drawing(charts: Mapping[str, Mapping[str, dict[str, object]]], scripts: tuple[str, ...]) -> list[str]:
    if not charts:
        return []
    note = "<noscript><p>The charts need JavaScript; every figure stands in a table too.</p></noscript>"
    data = f'<script type="application/json" id="charts">{chart_data(charts)}</script>'
    return [note, data, *(f"<script>{one}</script>" for one in scripts)]


def _check_size(page: str, found: Findings) -> None:
    size = len(page.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        raise ReportError(
            f"The report would have {size / 1e6:.1f} MB, and at most {MOST_BYTES / 1e6:.0f} MB are allowed. It holds "
            f"{', '.join(found.asked.parts)}: leave one out, or shorten its texts."
        )


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>"""
