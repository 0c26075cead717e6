"""Find the layer that matters: delete each one once, and see how much harder the texts become to predict.

python examples/layer_that_matters.py
"""

import pandas as pd

import surgery_core as sc

exp = sc.Bench(sc.load_model("fable"))


@exp.log_experiment
@exp.use_tools("sweep", "importance")
def layer_that_matters(texts, sweep, importance):
    deleted = [row for row in sweep(texts, "delete") if row.number >= 0]
    frame = importance(texts).frame()
    frame["loss_change"] = [row.loss_change for row in deleted]
    frame["perplexity"] = [row.perplexity for row in deleted]
    return frame.sort_values("loss_change", ascending=False, ignore_index=True)


if __name__ == "__main__":
    ranking = layer_that_matters(sc.bundled_texts())
    pd.set_option("display.width", 120)
    print(ranking[["layer", "loss_change", "perplexity", "block_influence"]].round(3))
    print(f"\nWithout {ranking['layer'][0]} the model is lost; {ranking['layer'].iloc[-1]} is hardly missed.")
    agreement = sc.rank_correlation(ranking["block_influence"], ranking["loss_change"])
    print(
        f"Block Influence (arXiv 2403.03853) needs no surgery; its rank correlation with the loss is {agreement:.2f}."
    )
