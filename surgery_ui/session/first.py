"""What a new session begins with."""

from __future__ import annotations

import os

from surgery_core.models.offered import DEFAULT_MODEL
from surgery_core.text import bundled_prompts

FIRST_VARIABLE = "MODEL_SURGERY_FIRST"
"""Environment variable with the name of the model that a new session opens."""


def first_model() -> str:
    """Return the name of the model that a new session opens."""
    return os.environ.get(FIRST_VARIABLE) or DEFAULT_MODEL


def default_prompt() -> str:
    """Return the prompt that a new session begins with."""
    prompts = bundled_prompts()
    return prompts[0].text if prompts else ""
