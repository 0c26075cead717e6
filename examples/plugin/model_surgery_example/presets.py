"""Presets: buttons that rearrange a model of any depth."""

from surgery_core import LayerPlan, Preset


def every_second(n_layers: int, layer: int, seed: int) -> LayerPlan:
    return LayerPlan.identity(n_layers).permute(range(0, n_layers, 2))


PRESETS = (
    Preset("every-second", "Every second layer", "Keep layers 0, 2, 4 and so on; half of the model.", (), every_second),
)
