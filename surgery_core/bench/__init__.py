"""Experiments as functions: they receive tools by name, and what they did is written down.

exp = Bench(model, save_dir="experiments", tokenizer=tokenizer)

@exp.log_experiment
@exp.use_tools("surgery", "score")
def without(indices, texts, surgery, score):
    with surgery.delete_layers(indices):
        return score(texts)

without([5], ["Once upon a time there was a king."])
exp.experiments()
"""

from surgery_core.bench.bench import BaseInterpretabilityBench, Bench, log_experiment, use_tools
from surgery_core.bench.experiment import Experiment, read_experiment

__all__ = ["BaseInterpretabilityBench", "Bench", "Experiment", "log_experiment", "read_experiment", "use_tools"]
