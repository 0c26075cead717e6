"""A plan inside nnsight: a view is an ordinary model, so other tools take it as it is.

python -m pip install nnsight==0.8.1 && python examples/plan_in_nnsight.py

nnsight reads, and changes, what happens inside a model while it runs. Here it looks at the residual stream of a model
whose layers 5 and 6 are swapped, and then takes away what the swapped pair adds.
"""

import torch
from nnsight import NNsight

import surgery_core as sc

loaded = sc.load_model("fable")
view = sc.operate(loaded.model, "0-4,6,5,7-11")
ids = loaded.tokenizer("The king had three", return_tensors="pt").input_ids
traced = NNsight(view)


def likeliest(logits):
    return sc.visible(loaded.tokenizer.decode(logits[0, -1].argmax()))


with torch.no_grad():
    with traced.trace(ids):
        before = traced.model.layers[5].input.save()
        after = traced.model.layers[6].output.save()
        swapped = traced.output.logits.save()

    with traced.trace(ids):
        entering = traced.model.layers[5].input
        traced.model.layers[6].output[:] = entering
        without = traced.output.logits.save()

    assert torch.equal(swapped, view(ids).logits)
    torch.testing.assert_close(without, sc.operate(loaded.model, "0-4,7-11")(ids).logits)

print(f"The swapped pair adds a vector of length {(after - before).norm(dim=-1).mean():.2f} on average.")
print(f"Next word: {likeliest(loaded.model(ids).logits)} in the base, {likeliest(swapped)} with the pair swapped,")
print(f"{likeliest(without)} without it, which nnsight's intervention and the plan 0-4,7-11 agree on.")
