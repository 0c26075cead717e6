"""Models that are opened at the same time: transformers changes its own classes while it loads one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from surgery_core.surgery.saving import reopened

N_THREADS, N_ROUNDS = 4, 3


def test_models_that_share_their_head_open_together_and_leave_transformers_as_it_was(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=12, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    ties, number_format, begin = PreTrainedModel.tie_weights, torch.get_default_dtype(), Barrier(N_THREADS)

    def open_some(_: int) -> list[bool]:
        begin.wait()
        opened = [reopened(model, tmp_path) for _ in range(N_ROUNDS)]
        return [torch.equal(one.lm_head.weight, model.lm_head.weight) for one in opened]

    with ThreadPoolExecutor(N_THREADS) as pool:
        same = [one for some in pool.map(open_some, range(N_THREADS)) for one in some]
    assert all(same)
    assert PreTrainedModel.tie_weights is ties
    assert torch.get_default_dtype() == number_format
