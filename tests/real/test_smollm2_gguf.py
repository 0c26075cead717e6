"""The real model as the GGUF file that it came as: opened, written on, against plain transformers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

import surgery_core as sc

PROMPTS = (
    "The capital of France is", "Once upon a time", "Water boils at", "def fibonacci(n):", "The three primary colours are",
    "In the year 1969,", "My favourite recipe begins with", "The mitochondrion is", "Two plus two equals",
    "Dear Sir or Madam,", "The quick brown fox", "To be, or not to be,", "SELECT name FROM", "Photosynthesis is",
    "The opposite of hot is", "A haiku about rain:\n", "1, 2, 3, 4,", "Shakespeare wrote", "import numpy as np\n",
    "Q: What is the largest planet?\nA:",
)  # fmt: skip
SECONDS = 20.0
"""What opening may take of the processor; other work on the machine does not count."""


@pytest.fixture(scope="module")
def opened(gguf_file: Path) -> Any:
    begun = time.process_time()
    loaded = sc.load_model(str(gguf_file))
    assert time.process_time() - begun < SECONDS
    return loaded


@pytest.fixture(scope="module")
def plain(gguf_file: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    return model.eval()


def test_twenty_prompts_are_continued_as_transformers_continues_them(opened: Any, plain: Any, gguf_file: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    settings = sc.GenerationSettings(max_new_tokens=12, temperature=0)
    assert len(PROMPTS) == 20
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        theirs = plain.generate(ids, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids))
        expected = tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)
        assert "".join(sc.generate(opened.model, opened.tokenizer, prompt, settings)) == expected


def test_a_plan_is_written_as_gguf_and_is_what_transformers_runs(opened: Any, plain: Any, tmp_path: Path) -> None:
    order = [0, 1, 2, 10, 10, 28, 29]
    file = sc.export_gguf(opened, "0-2,10,10,28-29", tmp_path / "new.gguf")
    found: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    ids, layers = opened.tokenizer(PROMPTS[0], return_tensors="pt").input_ids, plain.model.layers
    plain.model.layers = torch.nn.ModuleList([layers[index] for index in order])
    try:
        with torch.inference_mode():
            expected, logits = plain(ids, use_cache=False).logits, found.eval()(ids).logits
    finally:
        plain.model.layers = layers
    assert found.config.num_hidden_layers == 7
    assert torch.equal(logits, expected)


def test_its_facts_and_its_chat_template(opened: Any) -> None:
    info = opened.info
    assert (info.n_layers, info.d_model, info.vocab_size, info.n_parameters) == (30, 576, 49_152, 134_515_008)
    assert (info.licence, info.dtype) == ("apache-2.0", "float32")
    assert info.notes == ("Its weights are stored as Q4_1 and were unpacked.",)
    said = opened.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "<|im_start|>user\nHi<|im_end|>" in said
