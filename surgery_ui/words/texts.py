"""How a text and its prompt are shown beside another text. Everything may come from a model."""

from __future__ import annotations

import html
from collections.abc import Mapping

_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
"""A picture for each control character; a model may write any of them."""
_QUIET = "opacity:.65"
_LINE = "text-decoration:underline dotted 1px rgb(128 128 128/.8);text-underline-offset:4px"


def divided(prompt: str, text: str, other: str) -> tuple[str, str, str]:
    """Return the prompt, what of the text begins as `other` does, and the rest; without `other` there is no rest."""
    same = _common(text, other) if other else len(text)
    return prompt.translate(_CONTROLS), text[:same].translate(_CONTROLS), text[same:].translate(_CONTROLS)


def beside(side: str, texts: Mapping[str, str]) -> str:
    """Return the text that one side's stands beside: that before surgery, or for this the one after it; empty where none is.

    Args:
        side: `"before"`, `"cut"` or `"after"`.
        texts: what is written, by side.
    """
    return texts.get("after" if side == "before" else "before", "")


def continuation(prompt: str, text: str, other: str, mark: str = "") -> str:
    """Return a prompt and its continuation as HTML: the prompt quiet, what differs from `other` underlined.

    Everything is escaped.

    Args:
        mark: by which a channel finds it on the page, `SIDE TURN` (see `components.words`).
    """
    quiet, same, rest = (html.escape(part) for part in divided(prompt, text, other))
    marked = f' data-words="{html.escape(mark)}"' if mark else ""
    body = f'<span style="{_QUIET}">{quiet}</span><span>{same}</span><span style="{_LINE}">{rest}</span>'
    return f'<div{marked} style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.6">{body}</div>'


def _common(text: str, other: str) -> int:
    length = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    return text.rfind(" ", 0, length) + 1 if length < len(text) else length
