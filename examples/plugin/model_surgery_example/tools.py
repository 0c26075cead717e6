"""Tools: what experiments on a bench are given by name."""

import pandas as pd
import torch


class StreamNorms:
    """The mean length of the residual stream, as it enters and after each layer but the last.

    Args:
        model: the bench's model.
    """

    def __init__(self, model):
        self.model = model

    def __call__(self, input_ids):
        """Return one line a place: `layer` and `length`, of token ids `[batch, seq]`."""
        with torch.inference_mode():
            states = self.model(input_ids, output_hidden_states=True).hidden_states[:-1]
        lengths = [state.norm(dim=-1).mean().item() for state in states]
        return pd.DataFrame({"layer": ["input", *(f"L{at}" for at in range(len(lengths) - 1))], "length": lengths})
