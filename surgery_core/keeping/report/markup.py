"""Pieces of a page: everything that goes into them as text comes out as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from surgery_core.keeping.report.differences import Run
from surgery_core.keeping.report.figures import Stated


def said(name: str, text: str, tag: str = "span", style: str = "") -> str:
    """Return a text in an element that names what it says."""
    return opened(name, tag, style) + f"{escape(text)}</{tag}>"


def opened(name: str, tag: str, style: str = "") -> str:
    """Return the beginning of an element that names what it says."""
    kind = f' class="{style}"' if style else ""
    return f'<{tag}{kind} data-says="{escape(name)}">'


def figure(stated: Stated) -> str:
    """Return a figure in an element that names it."""
    return f'<data value="{escape(str(stated.value))}" data-says="{escape(stated.name)}">{escape(stated.shown)}</data>'


def marked(runs: Iterable[Run], tag: str) -> str:
    """Return a text whose stretches that differ are marked by an element: struck through or underlined, and coloured."""
    return "".join(escape(text) if same else _mark(text, tag) for text, same in runs)


def _mark(text: str, tag: str) -> str:
    """Return a stretch in its element, with the space in front of its first word outside, where there is a word."""
    words = text.lstrip()
    space = text[: len(text) - len(words)] if words else ""
    return f"{escape(space)}<{tag}>{escape(text[len(space) :])}</{tag}>"


def section(title: str, *parts: str) -> str:
    """Return a part of a page under its heading."""
    return "\n".join([f"<section>\n<h2>{escape(title)}</h2>", *filter(None, parts), "</section>"])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """Return a table; cells are markup already.

    Args:
        heads: of the columns.
        rows: cells.
        numbers: how many of the first columns are words; those behind are numbers, to the right.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = ("" if at < numbers else ' class="number"' for at in range(len(cells)))
        return (
            "<tr>" + "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"
        )

    body = "\n".join(line(row, "td") for row in rows)
    head = line([escape(one) for one in heads], "th")
    return f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values, both text."""
    lines = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs)
    return '<div class="scroll"><table class="facts">\n' + "\n".join(lines) + "\n</table></div>"


def chart(name: str, caption: str) -> str:
    """Return the place of a chart, which a script draws."""
    return (
        f'<figure><div class="scroll" data-chart="{escape(name)}"><div class="light"></div><div class="dark"></div></div>\n'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of text."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"
