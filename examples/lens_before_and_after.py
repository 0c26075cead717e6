"""A lens before and after: what each layer would say next, and what it says once a layer is gone.

python examples/lens_before_and_after.py
"""

import surgery_core as sc

exp = sc.Bench(sc.load_model("fable"))


@exp.log_experiment
@exp.use_tools("surgery", "tuned_lens", "logit_lens")
def lens_before_and_after(prompt, layer, surgery, tuned_lens, logit_lens):
    read = {"logit lens": logit_lens(prompt), "tuned lens": tuned_lens(prompt)}
    with surgery.delete_layers([layer]):
        read["tuned lens, after"] = tuned_lens(prompt)
    return {name: trajectory.frame() for name, trajectory in read.items()}


if __name__ == "__main__":
    frames = lens_before_and_after("The king had three", layer=5)
    for name, frame in frames.items():
        last = frame[frame["position"] == frame["position"].max()]
        print(f"\n{name}: the next word at the last token, layer by layer")
        for row in last.itertuples():
            print(f"  {row.layer:>6}  {sc.visible(row.top):<12} {row.kl:6.2f} nats from the output")
