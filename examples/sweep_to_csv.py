"""A sweep to CSV and a chart: every layer repeated, as a table, as a picture, and in the bench's folder.

python examples/sweep_to_csv.py
"""

import altair as alt
import pandas as pd

import surgery_core as sc

exp = sc.Bench(sc.load_model("fable"))


@exp.log_experiment
@exp.use_tools("sweep")
def repeat_every_layer(texts, sweep):
    rows = list(sweep(texts, "repeat"))
    frame = pd.DataFrame([row.record() for row in rows if row.number >= 0])
    chart = (
        alt.Chart(frame, title="Every layer run twice")
        .mark_bar()
        .encode(x=alt.X("x:O", title="Layer"), y=alt.Y("loss_change:Q", title="Change of loss, nats a token"))
    )
    return {"rows": frame, "chart": chart}


if __name__ == "__main__":
    made = repeat_every_layer(sc.bundled_texts())
    made["rows"].to_csv("repeated.csv", index=False)
    made["chart"].save("repeated.svg")
    kept = exp.experiment("repeat_every_layer").result
    assert kept["rows"].equals(made["rows"])
    print(made["rows"][["plan", "perplexity", "loss_change", "kl", "top1"]].round(3))
    print("\nWritten: repeated.csv, repeated.svg, and both in experiments/.")
