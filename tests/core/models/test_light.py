"""What opening a plain model loads: none of the packages that only quantised or spread models need.

transformers itself imports accelerate and torchao whenever they are installed (`integrations/accelerate.py`,
`quantizers/quantizer_torchao.py`); torchao is only installed for development. Here both look absent to it, so that what
this library imports shows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torchao", "bitsandbytes", "accelerate", "gguf", "peft")
ABSENT = """
from transformers.utils import import_utils
import transformers.utils as utils
for name in ("is_torchao_available", "is_accelerate_available", "is_bitsandbytes_available"):
    setattr(import_utils, name, lambda *_: False)
    setattr(utils, name, lambda *_: False)
"""


def loaded_by(code: str) -> set[str]:
    """Return which of the heavy packages a new process has loaded after running this."""
    report = f"\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import surgery_core as sc; sc.list_models()",
        ABSENT + "import surgery_core as sc; sc.load_model('fable')",
        ABSENT + "import app, surgery_ui.startup, surgery_core as sc; sc.load_model('fable')",
    ],
    ids=["list", "open", "app"],
)
def test_nothing_loads_what_only_other_models_need(code: str) -> None:
    assert not loaded_by(code)


def test_a_plain_model_loads_neither_bitsandbytes_nor_gguf_nor_peft() -> None:
    assert not loaded_by("import surgery_core as sc; sc.load_model('fable')") & {"bitsandbytes", "gguf", "peft"}
