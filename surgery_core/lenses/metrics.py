"""What can be said about a lens's reading of one cell: names, units and scales, without torch.

Statistics follow Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens" (arXiv
2303.08112), and are in nats. A row is what the lens reads behind one layer; final is the model's own output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Metric:
    """One statistic of a cell.

    Attributes:
        name: column of a trajectory's frame.
        title: as a person reads it.
        unit: what a legend says.
        scale: how colours and axes are spread.
        floor: on a logarithmic scale, the value below which nothing is told apart.
        meaning: one sentence.
        between: whether it compares the same cell before and after surgery.
        zero: whether an axis begins at 0.
        worse: what the statistic does where a layer reads worse, `"higher"` or `"lower"`.
    """

    name: str
    title: str
    unit: str
    scale: Scale
    meaning: str
    floor: float = 1e-3
    between: bool = False
    zero: bool = True
    worse: Literal["higher", "lower"] = "higher"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "probability", "Probability", "probability", "linear", "Probability of the word in the cell, 0 to 1.",
            worse="lower",
        ),
        Metric("entropy", "Entropy", "nats", "linear", "How undecided the layer is: 0 when it is sure of one token."),
        Metric(
            "cross_entropy", "Cross-entropy", "nats", "linear",
            "Minus the log-probability of the token that really comes next.",
        ),
        Metric("kl", "KL to the output", "nats", "log", "KL(final || layer): how far the output is from this layer."),
        Metric(
            "kl_reverse", "KL from the output", "nats", "log",
            "KL(layer || final): large where the layer favours what the output rules out.",
        ),
        Metric("rank", "Rank of the right token", "rank, 1 is best", "log", "Place of the token that comes next.", 1.0),
        Metric(
            "picked", "Log-probability of a token", "nats", "linear",
            "Log-probability of the token that you pick, at most 0.", zero=False,
            worse="lower",
        ),
        Metric(
            "js", "Jensen-Shannon", "nats", "linear",
            "Divergence between before and after at this layer, 0 to ln 2 (0.693).", between=True,
        ),
        Metric(
            "tv", "Total variation", "probability", "linear",
            "Largest difference in the probability of any set of tokens between before and after, 0 to 1.", between=True,
        ),
    )
}  # fmt: skip
"""Every statistic by name, in the order in which they are offered."""


def own_metrics() -> tuple[str, ...]:
    """Return the names of the statistics that one side has by itself."""
    return tuple(name for name, metric in METRICS.items() if not metric.between)
