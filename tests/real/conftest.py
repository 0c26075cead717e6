"""The real model, opened once: SmolLM2-135M-Instruct, in float32 on the CPU.

Where its package cannot be fetched these tests are skipped with a line that says so. In CI they must run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.real_model import NoRealModel, real_folder, real_gguf


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def folder() -> Path:
    """Return the checkpoint's folder."""
    try:
        return real_folder()
    except NoRealModel as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def gguf_file() -> Path:
    """Return the GGUF file that the checkpoint was made of."""
    try:
        return real_gguf()
    except NoRealModel as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def loaded(folder: Path) -> Any:
    """Return the model as this package opens it; never change it."""
    from surgery_core.models.opening import load_model

    return load_model(str(folder))


@pytest.fixture(scope="session")
def plain(folder: Path) -> Any:
    """Return the model as plain transformers opens it."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def built(plain: Any) -> Callable[[Sequence[int]], Any]:
    """Return the function that builds a model of its own from a new config, with the layers in this order."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    weights = plain.state_dict()
    prefix = "model.layers."

    def build(order: Sequence[int]) -> Any:
        settings = plain.config.to_dict() | {"num_hidden_layers": len(order)}
        settings.pop("layer_types", None)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(LlamaConfig(**settings))
        state = {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}
        for position, index in enumerate(order):
            own = f"{prefix}{index}."
            state |= {f"{prefix}{position}.{n[len(own) :]}": t for n, t in weights.items() if n.startswith(own)}
        model.load_state_dict(state, assign=True)
        model.tie_weights()
        # what is computed from the config and not kept among the weights
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
        model.generation_config = plain.generation_config
        return model.eval().requires_grad_(False)

    return build
