"""Names: every attribute and config key by which parts of architectures are known, in one place.

Parts are found by structure first; these names decide where structure does not. A model that calls its parts otherwise is
told about with `name_parts`, or in a TOML file that the environment variable `MODEL_SURGERY_NAMES` names, a table a class:

    [MyModelForCausalLM]              # a class of models
    layers = "trunk.cells"
    final_norm = "trunk.closing"

    [MyCell]                          # a class of layers
    attention = ["mixing"]
    mlp = ["channels"]

    [MyConfig]                        # a class of configs
    depth = ["n_cells"]
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from surgery_core.errors import SettingsError

FILE_VARIABLE = "MODEL_SURGERY_NAMES"
"""Environment variable with the path of a file of names."""

# Configs

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")
"""Under which configs keep their number of layers."""

FURTHER_DEPTHS = ("num_blocks",)
"""Further names of the depth in configs that have a usual one too (xLSTM)."""

WIDTH_KEYS = ("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim")
"""Under which configs keep the width of the residual stream."""

DECLARED_WIDTHS = ("hidden_size", "n_embd", "d_model", "embed_dim")
"""Under which a module that a person brings may say how wide it is."""

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
"""Under which configs keep how many tokens the model reads at once."""

PER_LAYER = ("layer", "kv_sharing_modes", "activation_sparsity_pattern", "intermediate_size", "indexer_types")
"""Parts of names of config lists that have an entry a layer. Of a list with another name it is found out by trying."""

NOT_PER_LAYER = ("mtp_", "token_id", "architectures", "keys_to_ignore", "label", "languages", "skip_modules")
"""Parts of names of config lists that never have, whatever their length; `mtp_` are those of layers for later tokens."""

INDEX_LISTS = ("_layers", "_layer_ids", "_layer_indices", "_layers_indices", "_layer_idx", "_idxs")
"""Endings of names under which lists of layer indices are kept."""

FLAG_LISTS = ("no_rope_layers",)
"""Lists with such a name that have a 0 or 1 for each layer instead."""

OVERRIDES = "_heterogeneity_spec"
"""Where a config keeps settings that some of its layers have of their own, by layer (Gemma 4)."""

DEPRECATED_KEYS = frozenset({"torch_dtype", "use_return_dict"})
"""Config properties that warn when they are read."""

DEPTH_UNDER_ROOT = ("scale_depth",)
"""Settings that a class divides by the square root of the depth when it builds its layers (MiniCPM3)."""

PATTERNS = (("block_types", "layers_block_type", "attention", "recurrent"),)
"""Patterns that a class repeats over its layers: the setting, the list made of it, its two words (RecurrentGemma)."""

PERIODS = (
    ("attn_layer_period", "attn_layer_offset", "layers_block_type"),
    ("expert_layer_period", "expert_layer_offset", "layers_num_experts"),
)
"""Settings that put a kind of layer at every n-th place, and the list made of them (Jamba)."""

# Modules

FINAL_NORMS = ("embedding_norm",)
"""Names that a final norm may have although they look like those of another one (LFM2)."""

NOT_FINAL = ("emb", "per_layer")
"""Parts of names of norms beside the layers that are not the final one."""

FIRST_READER = "first_kv_shared_layer_idx"
"""Where a decoder keeps the place from which on every layer reads earlier layers' keys and values (Gemma 4)."""

INDEX_NAMES = ("layer_idx", "layer_id", "layer_number", "layer_index", "block_idx")
"""Under which the modules of a layer keep its index."""

MIXERS = (
    "self_attn",
    "attn",
    "self_attention",
    "self_att",
    "attention",
    "mixer",
    "linear_attn",
    "multi_head_attention",
    "rel_attn",
    "norm_attn_norm",
    "temporal_block",
    "mamba",
    "mlstm_layer",
    "conv",
    "encoder_attn",
    "cross_attn",
    "crossattention",
)
"""Token mixers in a layer. Attention to an encoder, which a decoder alone does not run, counts as one."""

MLPS = (
    "mlp",
    "feed_forward",
    "ffn",
    "ff",
    "block_sparse_moe",
    "moe",
    "experts",
    "shared_mlp",
    "shared_expert",
    "shared_experts",
    "mlps",
    "mlp_block",
    "fc2",
)
"""MLPs in a layer."""

MIXER_CLASSES = ("attention", "attn", "mixer", "mamba")
MLP_CLASSES = ("mlp", "feedforward", "ffn", "moe", "experts")
"""Parts of the names of their classes, where their own names say nothing."""

INSIDE = {"output": ("dense",), "rel_attn": ("dropout",)}
OUTPUTS = ("output.dense", "layer_2")
"""Where a half that adds the residual itself has the module whose output it adds (BERT, XLNet), by name of the half
and for any."""


@dataclass(frozen=True)
class PartNames:
    """What a class calls its parts, where that is not known; empty where it is.

    Attributes:
        layers: of a class of models, the dotted path of its list of layers.
        final_norm: of a class of models, the dotted path of the norm after its last layer.
        attention, mlp: of a class of layers, the dotted paths of the modules whose outputs are what attention (or another
            token mixer) and MLP add to the residual stream.
        index: of a class of layers or of a module in one, attributes that hold the layer's index.
        depth, width, context: of a class of configs, attributes with the number of layers, d_model, and the most tokens.
    """

    layers: str = ""
    final_norm: str = ""
    attention: tuple[str, ...] = ()
    mlp: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    depth: tuple[str, ...] = ()
    width: tuple[str, ...] = ()
    context: tuple[str, ...] = ()


_NOTHING = PartNames()
_TOLD: dict[str, PartNames] = {}


def name_parts(cls: type | str, **names: str | tuple[str, ...] | list[str]) -> PartNames:
    """Say what a class of models, layers or configs calls its parts; it replaces what was said of that class before.

    Args:
        cls: the class or its name; subclasses are meant too.
        names: fields of `PartNames`. Without any, what was said is forgotten.

    Raises:
        SettingsError: for a name that no part has.
    """
    known = {field.name: field.default for field in fields(PartNames)}
    name = cls if isinstance(cls, str) else cls.__name__
    if wrong := sorted(set(names) - set(known)):
        raise SettingsError(f"{wrong[0]!r} is no part of a {name} that can be named; choose from {', '.join(known)}.")
    given: dict[str, Any] = {}
    for key, value in names.items():
        single = isinstance(known[key], str)
        if single and not isinstance(value, str):
            raise SettingsError(f"{key} of {name} is {value!r}; it must be one dotted path, such as 'trunk.cells'.")
        given[key] = value if single else (value,) if isinstance(value, str) else tuple(value)
    _TOLD[name] = PartNames(**given)
    return _TOLD[name]


def names_of(thing: object) -> PartNames:
    """Return what was said of an object's class, or of the nearest class that it comes from.

    Raises:
        SettingsError: when the file of names cannot be used.
    """
    read_file(os.environ.get(FILE_VARIABLE, ""))
    if not _TOLD:
        return _NOTHING
    return next((_TOLD[cls.__name__] for cls in type(thing).__mro__ if cls.__name__ in _TOLD), _NOTHING)


def index_names() -> tuple[str, ...]:
    """Return the attributes under which modules may keep their layer's index."""
    return (*INDEX_NAMES, *(name for told in _TOLD.values() for name in told.index)) if _TOLD else INDEX_NAMES


@cache
def read_file(path: str) -> None:
    """Take over a file of names, once.

    Raises:
        SettingsError: when it cannot be read, or holds something else.
    """
    if not path:
        return
    try:
        content: Mapping[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path!r}, which {FILE_VARIABLE} names, cannot be read: {error}.") from error
    for name, table in content.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{path!r} has {name} outside of a table; write a table a class, such as [MyModel].")
        name_parts(name, **table)
