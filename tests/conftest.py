"""What every test shares: no network, one torch thread, tiny random models and a byte-level tokenizer.

The models are built from configs with a fixed seed; their weights are large enough that a wrong layer order shows.
"""

from __future__ import annotations

import os

# before torch, transformers and huggingface_hub are imported by any test
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", HF_HUB_DISABLE_TELEMETRY="1")
os.environ.pop("MODEL_SURGERY_MODELS", None)
# what this machine has downloaded is no part of the tests
os.environ["HF_HUB_CACHE"] = "/nowhere/model-surgery-tests"

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.slow import slow_tests
from tests.tiny import build_model, build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, max_examples=100)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share",
        metavar="K/N",
        help="of the matrix, the gallery and what tests/slow.txt names, every Nth case from the Kth on; what looks at all "
        "cases of the matrix together is left out",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave all but a share of the long cases out, where one is asked for."""
    share = config.getoption("--share")
    if share is None:
        return
    at, of = map(int, share.split("/"))
    if not 1 <= at <= of:
        raise pytest.UsageError(f"--share {share}: give K/N with K from 1 to N")
    slow = slow_tests()
    marked = [item for item in items if item.get_closest_marker("matrix") or item.get_closest_marker("gallery")]
    whole = [item for item in marked if not hasattr(item, "callspec")]
    long = [item for item in items if item in marked or item.nodeid.split("[")[0] in slow]
    left_out = {*long, *whole} - set([item for item in long if item not in whole][at - 1 :: of])
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., PreTrainedModel]:
    """Return the function that builds a random model of a family."""
    return build_model


@pytest.fixture(scope="session")
def tiny_llama() -> PreTrainedModel:
    """Return a random Llama of 4 layers; shared by the session, so never change it."""
    return build_model("llama")


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return the byte-level tokenizer that fits every tiny model."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a saved random Llama and its tokenizer; copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_model("llama").save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder
