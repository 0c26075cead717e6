"""The best block to drop: of each length the one whose loss the texts feel least, and what angular distance says.

python examples/best_block_to_drop.py
"""

import pandas as pd

import surgery_core as sc

LONGEST = 6
exp = sc.Bench(sc.load_model("fable"))


@exp.log_experiment
@exp.use_tools("sweep", "importance")
def best_block_to_drop(texts, longest, sweep, importance):
    rows = [row for row in sweep(texts, "skip-block", sc.SweepOptions(max_length=longest)) if row.number >= 0]
    tried = pd.DataFrame(
        {"length": row.y, "first": row.x, "plan": row.plan, "loss_change": row.loss_change} for row in rows
    )
    best = tried.loc[tried.groupby("length")["loss_change"].idxmin()].reset_index(drop=True)
    angular = importance(texts).angular  # [first layer, length - 1], arXiv 2403.17887
    best["first_by_angle"] = [int(angular[: len(angular) - n + 1, n - 1].argmin()) for n in best["length"]]
    return best


if __name__ == "__main__":
    best = best_block_to_drop(sc.bundled_texts(), LONGEST)
    print(best.round(3))
    alike = (best["first"] == best["first_by_angle"]).sum()
    print(
        f"\nAngular distance, which needs one run and no surgery, names the same block for {alike} of {len(best)} lengths."
    )
