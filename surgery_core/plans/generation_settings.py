"""How to continue a prompt, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from surgery_core.errors import SettingsError

MAX_NEW_TOKENS = 4096
MAX_SYSTEM = 20_000
"""Longest system prompt, in characters."""


@dataclass(frozen=True)
class GenerationSettings:
    """How to continue a prompt.

    Attributes:
        max_new_tokens: 1 to 4096.
        temperature: 0 for greedy (the likeliest token each time), else at most 10.
        top_k: sample from the k likeliest tokens; 0 for all.
        top_p: sample from the likeliest tokens that together have this probability; above 0, at most 1.
        seed: of the sampling; the same seed gives the same text.
        chat: whether the prompt is a message that the model's chat template puts to it, and the text the answer.
        system: what the model is told before the message, at most 20,000 characters; only with `chat`.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    chat: bool = False
    system: str = ""

    def __post_init__(self) -> None:
        _check("length", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        _check("temperature", self.temperature, 0, 10)
        _check("top-k", self.top_k, 0, 1_000_000)
        _check("seed", self.seed, 0, 2**63 - 1)
        if not 0 < self.top_p <= 1:
            raise SettingsError(f"top-p is {self.top_p}; it must be above 0 and at most 1.")
        if len(self.system) > MAX_SYSTEM:
            raise SettingsError(
                f"The system prompt has {len(self.system):,} characters; at most {MAX_SYSTEM:,} are allowed."
            )


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"The {name} is {value}; it must be between {low:,} and {high:,}.")
