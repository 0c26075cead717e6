"""What tests of studies share: a Llama of six layers, texts of different lengths, and the setup of a study."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from surgery_core.studies.every import study_of
from surgery_core.studies.study import StudySetup, settled
from surgery_core.text import Text
from tests.tiny import build_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TALE = "The fox went over a hill and saw nine geese who did not see him at all that day."


@pytest.fixture(scope="session")
def six_layers() -> PreTrainedModel:
    """Return a random Llama of 6 layers; shared by the session, so never change it."""
    return build_model("llama", num_hidden_layers=6, seed=4)


@pytest.fixture(scope="session")
def ten_texts() -> tuple[Text, ...]:
    """Return ten texts of 12 to 66 tokens."""
    return tuple(Text(f"Text {n}", TALE[n % 5 : n % 5 + 12 + 6 * n], "story") for n in range(10))


Make = Callable[..., StudySetup]


@pytest.fixture(scope="session")
def setup_of(six_layers: PreTrainedModel, ten_texts: tuple[Text, ...], tiny_tokenizer: PreTrainedTokenizerFast) -> Make:
    """Return what makes the setup of a study, by its key: on the six layers and the ten texts unless told otherwise."""

    def make(key: str, *, model: Any = None, read: Any = None, **more: Any) -> StudySetup:
        parts = {name: more.pop(name) for name in ("seed", "lens", "stop", "on_progress") if name in more}
        options = settled(study_of(key), more)
        return StudySetup(model or six_layers, tiny_tokenizer, read or ten_texts, options, **parts)

    return make
