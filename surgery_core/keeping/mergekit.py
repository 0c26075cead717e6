"""Plans as files of mergekit, and back: a passthrough merge is slices of layers, one after the other.

Out: runs of layers become slices; a half or scaled layer a slice of its own, whose last projections are scaled by filters
(found as for a checkpoint, `proof.folding`). In: the same, read back into a plan. Everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import yaml

from surgery_core.bounded import Unreadable, read_yaml
from surgery_core.errors import AnatomyError, PlanError, RefusedPlanError
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer, Slot, format_number
from surgery_core.proof.folding import factors
from surgery_core.states.mid_layer import check_halfway
from surgery_core.surgery.adapters import has_adapter
from surgery_core.surgery.anatomy import text_config

MOST_BYTES = 100_000
"""Largest file that is read."""
ATTENTION = ("o_proj", "out_proj", "attn.c_proj", "attention.dense", "self_attention.dense", "attn.wo")
MLP = ("down_proj", "fc2", "mlp.c_proj", "dense_4h_to_h", "mlp.w2")
"""Ends of filters that are a layer's last projection."""
_IGNORED = ("dtype", "out_dtype", "tokenizer_source", "tokenizer", "name", "base_model", "chat_template")
"""Settings that say nothing about layers."""
_KNOWN = ("merge_method", "slices", "models", *_IGNORED)


def to_mergekit(loaded: LoadedModel, plan: LayerPlan) -> str:
    """Return a plan as the YAML of a passthrough merge, which `mergekit-yaml` turns into a checkpoint.

    Raises:
        RefusedPlanError: when mergekit has no way to say it; it says which part, and why.
    """
    if not len(plan):
        raise RefusedPlanError("mergekit needs at least one layer; put one into the plan.")
    for slot in plan:
        if len(slot.layers) > 1 or slot.layers[0].mean or slot.is_stitched:
            raise RefusedPlanError(
                f"mergekit cannot say {slot}: a passthrough merge runs whole layers of models in turn."
            )
    if has_adapter(loaded.model):
        raise RefusedPlanError(
            f"mergekit cannot say an adapter, and {loaded.info.name} has one; export a checkpoint instead."
        )
    _require_same_lists(loaded, plan)
    slices = [_slice(loaded, run) for run in _runs(_factors(loaded, plan))]
    content = {"merge_method": "passthrough", "dtype": loaded.info.stored_as or loaded.info.dtype, "slices": slices}
    text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True)
    return text


def from_mergekit(text: str, loaded: LoadedModel, others: Sequence[LoadedModel] = ()) -> LayerPlan:
    """Read a plan of a model from the YAML of a passthrough merge.

    Args:
        text: the file, at most 100 kB, without anchors and aliases.
        loaded: the model whose plan it is.
        others: open models whose layers it may take.

    Raises:
        PlanError: when it is another kind of merge, of models that are not open, or anything else than such a file; it
            names what.
    """
    content = _read(text)
    method = content.get("merge_method")
    if method != "passthrough":
        raise PlanError(f"The merge is by {method!r:.80}; only passthrough merges are plans of layers.")
    if unknown := [key for key in content if key not in _KNOWN]:
        raise PlanError(f"The merge has {unknown[0]!r:.80}, which a plan cannot say; allowed: {', '.join(_KNOWN)}.")
    depths = {one.info.name: one.info.n_layers for one in (loaded, *others)}
    sources = list(_sources(content, depths))
    layers = chain.from_iterable(_layers(source, loaded, depths) for source in sources)
    return LayerPlan(tuple(Slot((layer,)) for layer in layers), loaded.info.n_layers)


def _require_same_lists(loaded: LoadedModel, plan: LayerPlan) -> None:
    """Refuse a plan with which lists of the config change that have an entry for each layer: mergekit copies them."""
    order = [slot.layers[0].index for slot in plan]
    for key, value in text_config(loaded.model).to_dict().items():
        listed = isinstance(value, list) and len(value) == plan.n_layers > 1
        if listed and [value[at] for at in order if at < len(value)] != value:
            raise RefusedPlanError(
                f"mergekit cannot say {plan}: it copies the config, whose {key} has an entry for each layer and would not fit. "
                "Export a checkpoint instead."
            )


@dataclass(frozen=True)
class _Part:
    """A layer, and the factors on its parameters by name."""

    layer: Layer
    scale: tuple[tuple[str, float], ...]


def _factors(loaded: LoadedModel, plan: LayerPlan) -> list[_Part]:
    own = LayerPlan(tuple(slot for slot in plan if slot.layers[0].donor is None), plan.n_layers)
    found = iter(factors(loaded.model, own))
    parts = []
    for slot in plan:
        layer = slot.layers[0]
        if layer.donor is not None and (layer.part != "both" or layer.scale != 1):
            raise RefusedPlanError(f"mergekit cannot say {layer}: only whole layers of other models can be said.")
        parts.append(_Part(layer, () if layer.donor is not None else tuple(sorted(next(found).items()))))
    return parts


def _runs(parts: list[_Part]) -> Iterator[list[_Part]]:
    run: list[_Part] = []
    for part in parts:
        if run and not _follows(run[-1], part):
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _follows(last: _Part, part: _Part) -> bool:
    plain = not last.scale and not part.scale
    return plain and part.layer == replace(last.layer, index=last.layer.index + 1)


def _slice(loaded: LoadedModel, run: list[_Part]) -> dict[str, Any]:
    first, last = run[0].layer, run[-1].layer
    source: dict[str, Any] = {"model": first.donor or loaded.info.name, "layer_range": [first.index, last.index + 1]}
    if run[0].scale:
        names = {name.removesuffix(".weight").removesuffix(".bias"): value for name, value in run[0].scale}
        filters = [{"filter": name, "value": value} for name, value in names.items()]
        source["parameters"] = {"scale": [*filters, {"value": 1.0}]}
    return {"sources": [source]}


def _read(text: str) -> Mapping[str, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise PlanError(f"The file is larger than {MOST_BYTES:,} bytes; a passthrough merge is a page of text.")
    try:
        content = read_yaml(text)
    except Unreadable as error:
        raise PlanError(f"The file {error}.") from error
    if not isinstance(content, dict):
        raise PlanError("The file is no merge of mergekit: it has no merge_method and no slices.")
    return content


def _sources(content: Mapping[str, Any], depths: Mapping[str, int]) -> Iterator[Mapping[str, Any]]:
    """Yield the sources, one a slice, each with a model that is open."""
    if ("slices" in content) == ("models" in content):
        raise PlanError("A passthrough merge has either slices or models.")
    key = "slices" if "slices" in content else "models"
    entries = content[key]
    if not isinstance(entries, list) or not entries or (key == "models" and len(entries) > 1):
        raise PlanError(f"The merge's {key!r:.80} is no list of {'slices' if key == 'slices' else 'one model'}.")
    for number, entry in enumerate(entries, 1):
        sources = entry.get("sources") if isinstance(entry, dict) and key == "slices" else [entry]
        if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
            raise PlanError(
                f"Slice {number} has no single source; a passthrough merge takes each slice from one model."
            )
        model = str(sources[0].get("model"))
        if model not in depths:
            raise PlanError(f"Slice {number} is of {model!r:.80}, which is not open; open are: {', '.join(depths)}.")
        yield {"layer_range": [0, depths[model]]} | sources[0] if key == "models" else sources[0]


def _layers(source: Mapping[str, Any], loaded: LoadedModel, depths: Mapping[str, int]) -> Iterator[Layer]:
    model, span = str(source["model"]), source.get("layer_range")
    ends = span if isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span) else [0, 0]
    if not 0 <= ends[0] < ends[1] <= depths[model]:
        raise PlanError(
            f"The layer_range of {model!r:.80} is {span!r:.80}; write [first, end) within 0 and {depths[model]}."
        )
    if unknown := [key for key in source if key not in ("model", "layer_range", "parameters")]:
        raise PlanError(f"A slice of {model!r:.80} has {unknown[0]!r:.80}, which a plan cannot say.")
    attention, mlp = _scales(source.get("parameters"))
    donor = None if model == loaded.info.name else model
    for index in range(*ends):
        yield from _scaled(Layer(index, donor=donor), attention, mlp, loaded)


def _scaled(layer: Layer, attention: float, mlp: float, loaded: LoadedModel) -> Iterator[Layer]:
    """Yield what a layer is whose last projections are scaled."""
    if attention == mlp == 1:
        yield layer
    elif mlp == 0 or attention == 0:
        part = {"part": "attn" if attention else "mlp"} if attention or mlp else {}
        yield replace(layer, scale=attention or mlp, **part)  # type: ignore[arg-type]
    elif layer.donor is None and _in_turn(loaded, layer.index):
        # the MLP reads the scaled attention: one half after the other
        yield replace(layer, part="attn", scale=attention)
        yield replace(layer, part="mlp", scale=mlp)
    elif attention == mlp:
        yield replace(layer, scale=attention)
    else:
        said = f"{format_number(attention)} and {format_number(mlp)}"
        raise PlanError(f"Layer {layer} has different factors on its halves ({said}), which a plan cannot say of it.")


def _in_turn(loaded: LoadedModel, index: int) -> bool:
    try:
        check_halfway(loaded.model, [index])
    except AnatomyError:
        return False
    return True


def _scales(parameters: Any) -> tuple[float, float]:
    """Return the factors on the last projections of attention and MLP."""
    if parameters is None:
        return 1.0, 1.0
    if not isinstance(parameters, dict) or (unknown := [key for key in parameters if key != "scale"]):
        raise PlanError(
            f"A slice has the parameter {unknown[0] if isinstance(parameters, dict) else parameters!r:.80}; allowed: scale."
        )
    entries = parameters.get("scale", 1.0)
    found = {"attention": 1.0, "mlp": 1.0}
    for entry in entries if isinstance(entries, list) else [{"value": entries}]:
        half, value = _scale(entry)
        if half is not None:
            found[half] = value
        elif value != 1:
            raise PlanError(
                f"A slice scales all weights by {value:g}; only last projections can be scaled, with filters."
            )
    return found["attention"], found["mlp"]


def _scale(entry: Any) -> tuple[str | None, float]:
    value = entry.get("value") if isinstance(entry, dict) else entry
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PlanError(f"A slice is scaled by {value!r:.80}; write a number.")
    name = entry.get("filter") if isinstance(entry, dict) else None
    if name in (None, "*"):
        return None, float(value)
    for half, ends in (("attention", ATTENTION), ("mlp", MLP)):
        if any(str(name).endswith(end) for end in ends):
            return half, float(value)
    raise PlanError(f"A slice scales {name!r:.80}; a plan can scale {', '.join((*ATTENTION, *MLP))}.")
