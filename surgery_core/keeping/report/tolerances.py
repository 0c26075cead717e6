"""How far the same figure may be off in another run of the same weights: by number format and kind of figure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from surgery_core.keeping.report.figures import Tolerance
from surgery_core.studies.finding import Figure


@dataclass(frozen=True)
class Tolerances:
    """The tolerances of one number format.

    Attributes:
        perplexity: relative, of perplexities, their ratio and bits a byte over texts.
        ends: relative, of the ends of intervals, which differences of losses make.
        kl: in nats, besides `kl_share` of the divergence itself.
        kl_share: relative.
        positions: share of positions whose likeliest token may be another one, besides a single position.
        layer: relative, of losses that a lens reads off, and of swept plans, which may be badly broken ones.
        logits: a token is sure where its logit leads the next one's by more than this.
        width: share of its interval's width within which a study's figure may lie elsewhere.
        of_finding: relative, of a study's figure, where that is more.
    """

    perplexity: float
    ends: float
    kl: float
    kl_share: float
    positions: float
    layer: float
    logits: float
    width: float
    of_finding: float

    def divergence(self, value: float) -> Tolerance:
        """Return the tolerance of a divergence in nats."""
        size = abs(value) if math.isfinite(value) else 0.0
        return Tolerance("absolute", float(f"{self.kl + self.kl_share * size:.3g}"))

    def finding(self, figure: Figure) -> Tolerance:
        """Return the tolerance of a study's figure and of the ends of its interval: a part of its width, or of itself."""
        width = figure.high - figure.low if math.isfinite(figure.high - figure.low) else 0.0
        size = abs(figure.value) if math.isfinite(figure.value) else 0.0
        return Tolerance("absolute", float(f"{max(self.width * width, self.of_finding * size, 1e-6):.3g}"))

    def share(self, n: int) -> Tolerance:
        """Return the tolerance of a share of `n` positions or items: ties may fall to the other side."""
        flips = 1 + math.floor(self.positions * n)
        return Tolerance("absolute", float(f"{(flips + 0.01) / max(1, n):.4g}"))


FLOAT32 = Tolerances(
    perplexity=1e-4, ends=1e-3, kl=1e-4, kl_share=1e-3, positions=0.002, layer=1e-3, logits=2e-3, width=0.1, of_finding=0.01,
)  # fmt: skip
"""Of a model that runs in float32."""
HALF = Tolerances(
    perplexity=0.02, ends=0.05, kl=0.01, kl_share=0.05, positions=0.05, layer=0.1, logits=0.5, width=0.5, of_finding=0.1
)  # fmt: skip
"""Of bfloat16 and float16, in which logits have two to four digits and often tie."""


def tolerances_of(dtype: str) -> Tolerances:
    """Return the tolerances of a number format such as `"float32"`."""
    return FLOAT32 if dtype in ("float32", "float64") else HALF
