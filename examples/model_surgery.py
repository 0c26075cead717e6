"""The example that this project started from: an experiment that is given surgery as a tool.

    python examples/model_surgery.py

It prints the model's tree of modules as it is, and then inside each kind of surgery. Afterwards the model is what it was.
"""

import surgery_core as sc
from surgery_core.bench import BaseInterpretabilityBench

model = sc.load_model("fable").model


# Derive from BaseInterpretabilityBench
class MIExperiment(BaseInterpretabilityBench):
    def __init__(self, model, save_dir="experiments"):
        super().__init__(model, save_dir)


exp = MIExperiment(model)  # create an `exp` object


@exp.log_experiment  # each call becomes a file in `experiments`
@exp.use_tools("surgery")  # the name of the tool
def test_model_surgery(indices, replacements, surgery):  # the tool comes as the argument of the same name
    model = surgery.get_model()
    print("Before surgery:\n\n", model)

    with surgery.replace_layers(indices, replacements):
        print("After surgery:\n\n", model)

    with surgery.permute_layers([0, 1]):
        print("After surgery:\n\n", model)

    with surgery.delete_layers([0, 1]):
        print("After surgery:\n\n", model)


if __name__ == "__main__":
    anatomy = sc.inspect_model(model)
    test_model_surgery([0, 1], [anatomy.layer(0).mlp, anatomy.layer(1).mlp])
    print(exp.experiments()[["name", "number", "outcome", "seconds"]])
