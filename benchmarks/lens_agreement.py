"""Write what the tuned-lens library makes of a small model, for a test that compares without the library.

The fixture holds a lens in the library's own format, hidden states of a random Llama and GPT-2, and the logits that the
library's `TunedLens` and `LogitLens` make of them. It also checks that the library opens a lens that we wrote.

python -m benchmarks.lens_agreement, with tuned-lens 0.2.0 (benchmarks/requirements.txt).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "core" / "tuned_lens_fixture"


def main() -> None:
    """Write the fixture."""
    sys.path.insert(0, str(ROOT / "tests" / "core"))
    from families import build, tokens
    from tuned_lens import TunedLens
    from tuned_lens.nn.lenses import LogitLens

    from surgery_core import load_lens, save_lens

    for family in ("llama", "gpt2"):
        model = build(family)
        lens = TunedLens.from_model(model)
        lens.config.base_model_name_or_path = f"tiny-{family}"
        generator = torch.Generator().manual_seed(3)
        for translator in lens:
            translator.weight.data = torch.randn(translator.weight.shape, generator=generator) * 0.05
            translator.bias.data = torch.randn(translator.bias.shape, generator=generator) * 0.1
        folder = FIXTURES / family
        lens.save(folder)
        with torch.inference_mode():
            states = model(tokens(), output_hidden_states=True).hidden_states[:-1]
            tuned = torch.stack([lens(state, idx=index)[0] for index, state in enumerate(states)])
            plain = torch.stack([LogitLens.from_model(model)(state, idx=0)[0] for state in states])
        content = {"states": torch.stack(states)[:, 0], "tuned": tuned, "logit": plain}
        save_file({name: value.contiguous() for name, value in content.items()}, folder / "logits.safetensors")
        with tempfile.TemporaryDirectory() as ours:
            save_lens(load_lens(folder), ours)
            again = TunedLens.from_model_and_pretrained(model, ours)
            with torch.inference_mode():
                back = torch.stack([again(state, idx=index)[0] for index, state in enumerate(states)])
        print(family, "ours, opened by the library, differs by", float((back - tuned).abs().max()))


if __name__ == "__main__":
    main()
