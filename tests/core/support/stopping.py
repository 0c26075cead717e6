"""Ask work to stop while a layer of a Llama runs, and see how many run after that."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


def stop_at(stop: threading.Event, number: int, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Set the event while layer call `number` runs, from 1; return the list that gets, of each call, whether it was set before."""
    forward, ran = LlamaDecoderLayer.forward, []

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        ran.append(stop.is_set())
        if len(ran) == number:
            stop.set()
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", counted)
    return ran
