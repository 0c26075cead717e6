"""Kinds of sweeps: which plans are tried, and where each stands on the chart."""

from collections.abc import Iterator
from itertools import combinations

from surgery_core import LayerPlan, SweepKind, SweepOptions


def delete_two(start: LayerPlan, options: SweepOptions) -> Iterator[tuple[int, int, LayerPlan]]:
    for first, second in combinations(range(len(start)), 2):
        yield first, second, start.delete([first, second])


DELETE_TWO = SweepKind(
    key="delete-two",
    title="Delete every two layers",
    about="Every two layers are left out together: do they stand in for each other?",
    form="heat",
    x_title="First of the two",
    y_title="Second of the two",
    needs=(),
    least=2,
    make=delete_two,
)
