"""What pages say, waiting for them, and what they should say by hand."""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest


def plan(app: AppTest) -> str:
    return str(app.query_params["plan"])


def errors(app: AppTest) -> str:
    return " ".join(re.sub(r"\\(.)", r"\1", error.value) for error in app.error)


def said(app: AppTest) -> str:
    """Return everything that the page says in small print, boxes and paragraphs."""
    kinds = (app.caption, app.info, app.warning, app.markdown, app.error)
    return " ".join(re.sub(r"\\(.)", r"\1", element.value) for kind in kinds for element in kind)


def wait(app: AppTest, condition: Callable[[], object], seconds: float = 60.0) -> AppTest:
    """Run the page again and again, as its fragments do, until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert not app.exception
        assert time.monotonic() < end, f"waited too long; the page says {said(app)}"
        time.sleep(0.05)
        app.run()
    return app


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def table(app: AppTest) -> Any:
    return app.dataframe[0].value


def written(app: AppTest) -> list[str]:
    """Return the new text of each side, without its prompt."""
    bodies = [element.body for element in app.get("html") if not element.body.startswith("<style>")]
    return [html.unescape("".join(re.findall(r"<span[^>]*>(.*?)</span>", body, re.S)[1:])) for body in bodies]


def type_notation(app: AppTest, text: str) -> AppTest:
    return app.text_input(key="notation").set_value(text).run()


def perplexity_by_hand(model: Any, tokenizer: Any, text: str) -> float:
    """Score every token after the first with one forward pass over all of the text."""
    import torch

    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = model(ids).logits.double()
    losses = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="mean")
    return math.exp(losses)


def greedy_by_hand(model: Any, tokenizer: Any, prompt: str, length: int) -> list[int]:
    """Continue with the likeliest token each time, without a cache."""
    import torch

    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    for _ in range(length):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
        if token == tokenizer.eos_token_id:
            break
    return ids


def submit(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()


def charts(app: AppTest) -> list[Any]:
    return [*app.get("vega_lite_chart"), *app.get("arrow_vega_lite_chart")]
