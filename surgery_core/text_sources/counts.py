"""How many tokens texts have for a model, and which have too few to be scored."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from surgery_core.errors import TextError
from surgery_core.stopping import Progress, looking
from surgery_core.text import Text, encode
from surgery_core.text_sources.found import Problem


@dataclass(frozen=True)
class TextCounts:
    """What a set is for a tokenizer.

    Attributes:
        tokens: of all texts that are not empty.
        problems: texts that cannot be scored, by their titles, and why; empty ones are none of them.
    """

    tokens: int
    problems: tuple[Problem, ...]


def count_texts(
    tokenizer: Any,
    texts: Sequence[Text],
    *,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> TextCounts:
    """Count the tokens of texts.

    Args:
        tokenizer: the model's.
        texts: what is counted.
        stop: when set, the work ends with `Stopped`.
        on_progress: called with (texts counted, texts in all).
    """
    tokens, problems, look = 0, list[Problem](), looking(stop, "The tokens were not counted to the end.")
    for done, text in enumerate(texts, 1):
        look()
        try:
            tokens += len(encode(tokenizer, text, least=2)) if text.text.strip() else 0
        except TextError as error:
            problems.append(Problem(text.title, str(error)))
        if on_progress is not None:
            on_progress(done, len(texts))
    return TextCounts(tokens, tuple(problems))
