"""Whether a difference would be seen again on other texts of the same kind.

Differences are always paired: the same tokens, or the same items, before and after surgery. Tokens of one text hang
together, so what an interval counts as one is a text (`Units`); items of a skill are counted as they are (`Items`).
An interval is about texts like these and about this model, not about language as such.
"""

from surgery_core.statistics.family import discoveries, get_ready
from surgery_core.statistics.items import Items, items_of, paired_items, shares, wilson
from surgery_core.statistics.paired import Estimates, estimates, sign_flip_p
from surgery_core.statistics.power import power_of, units_needed
from surgery_core.statistics.ranks import rank_interval
from surgery_core.statistics.units import Units, units_of
from surgery_core.statistics.verdict import MARGIN, Verdict, judge_items, judge_losses

__all__ = [
    "MARGIN",
    "Estimates",
    "Items",
    "Units",
    "Verdict",
    "discoveries",
    "estimates",
    "get_ready",
    "items_of",
    "judge_items",
    "judge_losses",
    "paired_items",
    "power_of",
    "rank_interval",
    "shares",
    "sign_flip_p",
    "units_needed",
    "units_of",
    "wilson",
]
