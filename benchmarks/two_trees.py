"""The library of another commit and this one's, in turns: what became slower or takes more memory, and what did not.

    git worktree add ../before COMMIT
    python -m benchmarks.two_trees ../before [measure ...]

Each measure is what a person calls, by names that both trees have, in a process of its own with one thread; processor time,
so that what else the machine does counts as little as it can, and the most memory beyond what was there before the call. The
trees take turns, and medians are compared. Both run with the packages of the environment at hand.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.record import Result, keep

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
BEGIN = """
import json, sys, time
from pathlib import Path
import psutil, torch
torch.set_num_threads(1)
import surgery_core as sc
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
loaded = sc.load_model("fable")
model, tokenizer, texts = loaded.model, loaded.tokenizer, sc.bundled_texts()
"""
END = """
call()
Path("/proc/self/clear_refs").write_text("5")
held = psutil.Process().memory_info().rss
began = time.process_time()
call()
took = time.process_time() - began
lines = Path("/proc/self/status").read_text().splitlines()
peak = 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
print(json.dumps([took, peak - held]))
"""
GPT2 = """
torch.manual_seed(0)
config = GPT2Config(n_layer=12, n_embd=512, n_head=8, vocab_size={vocab}, n_positions=512)
large = GPT2LMHeadModel(config).eval().requires_grad_(False)
call = lambda: list(sc.sweep(large, tokenizer, texts[:4], "delete"))
"""
MEASURES = {
    "views of an 80-layer Llama, ten": """
config = LlamaConfig(num_hidden_layers=80, hidden_size=8192, intermediate_size=28672, num_attention_heads=64,
                     num_key_value_heads=8, vocab_size=128256)
with torch.device("meta"):
    large = LlamaForCausalLM(config).eval()
call = lambda: [sc.operate(large, "0-39,50-41,50-79") for _ in range(10)]
""",
    "fable: the twelve texts compared": 'call = lambda: sc.compare(model, sc.operate(model, "0-4,7-11"), tokenizer, texts)',
    "fable: one text scored": "call = lambda: sc.score(model, tokenizer, texts[:1])",
    "fable: 64 greedy tokens": """
view = sc.operate(model, "0-4,7-11")
call = lambda: sc.complete(view, tokenizer, "Once upon a time", sc.GenerationSettings(max_new_tokens=64))
""",
    "fable: a plan proved": 'call = lambda: sc.prove(model, tokenizer, "0-4,6,5,7-11")',
    "fable: logit lens, a text": "call = lambda: sc.read_lens(sc.LogitLens(model), model, tokenizer, texts[0])",
    "fable: logit lens, averages over 3 texts": (
        "call = lambda: sc.lens_averages(sc.LogitLens(model), model, tokenizer, texts[:3])"
    ),
    "fable: a lens trained for 8 steps": (
        "call = lambda: sc.train_lens(model, tokenizer, texts, sc.LensTraining(steps=8, tokens_per_step=512))"
    ),
    "fable: importance": "call = lambda: sc.importance(model, tokenizer, texts)",
    "fable: skills": """
skills = [skill for skill in sc.load_skills() if skill.name in ("agreement", "closing_quotes")]
call = lambda: sc.score_skills(model, tokenizer, skills)
""",
    "fable: delete sweep, 4 texts": 'call = lambda: list(sc.sweep(model, tokenizer, texts[:4], "delete"))',
    "fable: removal down to 9 layers, 2 texts": (
        "call = lambda: list(sc.remove_greedily(model, tokenizer, texts[:2], least=9))"
    ),
    "512 wide, 8,192 tokens: delete sweep, 4 texts": GPT2.format(vocab=8192),
    "512 wide, 50,257 tokens: delete sweep, 4 texts": GPT2.format(vocab=50257),
}


def main(before: Path, chosen: list[str]) -> None:
    """Run both trees in turns; print and keep medians and their ratio."""
    for what, code in MEASURES.items():
        if chosen and not any(part in what for part in chosen):
            continue
        found: dict[Path, list[list[float]]] = {before: [], ROOT: []}
        for number in range(ROUNDS):
            for tree in list(found)[:: 1 if number % 2 else -1]:
                found[tree].append(measured(tree, code))
        times, most = ([[one[at] for one in runs] for runs in found.values()] for at in (0, 1))
        was, now = map(statistics.median, times)
        share = f"{now / was:.3f} of before, best of each {min(times[1]) / min(times[0]):.3f}"
        held = [int(statistics.median(some)) for some in most]
        keep(
            Result(f"two trees, {what}", "before", tuple(times[0]), held[0]),
            Result(f"two trees, {what}", f"now ({share})", tuple(times[1]), held[1]),
        )


def measured(tree: Path, code: str) -> list[float]:
    """Return the seconds that a call takes in a tree, and the most bytes beyond what was held before it."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code + END],
        cwd=tree,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(one) for one in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
