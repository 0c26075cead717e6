"""A GGUF file written anew with its layers in another order: tensors byte for byte, under the names of their new places.

What a file states for each layer follows the layers. What it states of places, such as that every sixth layer attends
to everything, has to hold for the new order too; where it does not, or where it is not known what a list is of, the
order is refused.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and `gguf.constants`.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

from surgery_core.errors import RefusedPlanError
from surgery_core.models.gguf_header import GgufHeader
from surgery_core.stopping import Progress, looking

STOPPED = "Stopped before the GGUF file was written."
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_LEFT_OUT = ("GGUF.", "split.", "general.architecture", "general.size_label")
"""Beginnings of keys that are not copied: what the writer states itself, and what would not be true any more."""
_OF_NO_LAYER = ("rope.dimension_sections",)
"""Arrays below an architecture's name that have nothing to do with layers."""
_BY_PLACE: Mapping[str, Callable[[int, int], bool]] = MappingProxyType(
    {
        "leading_dense_block_count": lambda place, first: place < first,
        "full_attention_interval": lambda place, every: (place + 1) % every == 0,
        "interleave_moe_layer_step": lambda place, every: (place + 1) % every == 0,
        "attention.sliding_window_pattern": lambda place, every: (place + 1) % every == 0,
    }
)
"""Numbers that say which kind a layer is by its place: of a place from 0, and of the number, whether it is the marked kind."""
_OF_THE_WHOLE = ("nextn_predict_layers", "attention.shared_kv_layers", "embedding_length_per_layer_input")
"""Numbers that, unless 0, tie the layers together in a way that no other order keeps."""


def require_order(header: GgufHeader, order: Sequence[int]) -> None:
    """Refuse an order of layers that a file of this kind cannot state.

    Raises:
        RefusedPlanError: with the key that stands in the way.
    """
    if list(order) == list(range(header.n_layers)):
        return
    own = f"{header.architecture}."
    for name in _OF_THE_WHOLE:
        if header.facts.get(own + name):
            raise _refusal(own + name, "which ties layers together by their places")
    for name, kind in _BY_PLACE.items():
        number = header.facts.get(own + name)
        if not isinstance(number, int) or number < 1:
            continue
        if any(kind(place, number) != kind(layer, number) for place, layer in enumerate(order)):
            raise _refusal(f"{own}{name} = {number}", "by which a layer's kind depends on its place")
    for key, length in header.lengths.items():
        if key.startswith(own) and key.removeprefix(own) not in _OF_NO_LAYER and length != header.n_layers:
            raise _refusal(key, f"a list of {length:,} entries that cannot be told to follow {header.n_layers} layers")


def needed_bytes(header: GgufHeader, order: Sequence[int]) -> int:
    """Return about how large a file with its layers in this order is, in bytes."""
    counts = [order.count(layer) for layer in range(header.n_layers)]
    blocks = ((_BLOCK.fullmatch(tensor.name), tensor.n_bytes) for tensor in header.tensors)
    return header.data_start + sum(size if found is None else size * counts[int(found[1])] for found, size in blocks)


def write_layers(
    source: Path, target: Path, header: GgufHeader, order: Sequence[int], texts: Mapping[str, str], *,
    stop: threading.Event | None = None, on_progress: Progress | None = None,
) -> None:  # fmt: skip
    """Write a GGUF file with its layers in another order.

    Args:
        source: the file.
        target: the new one.
        header: of the file.
        order: its layers by number; one that comes twice is stored twice.
        texts: facts that are texts, in place of the file's own, such as `general.name`.
        stop: when set, the work ends with `Stopped`.
        on_progress: told how many tensors are written, and how many there are.

    Raises:
        RefusedPlanError: as `require_order`.
        OSError: when it cannot be written.
        Stopped: when stopped.
    """
    import gguf

    require_order(header, order)
    reader = gguf.GGUFReader(source)
    with closing(gguf.GGUFWriter(target, header.architecture)) as writer:
        _copy_facts([field for key, field in reader.fields.items() if key not in texts], writer, header, order)
        for key, value in texts.items():
            writer.add_key_value(key, value, gguf.GGUFValueType.STRING)
        placed = _placed(reader.tensors, order)
        for name, tensor in placed:
            data = tensor.data
            writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
        _require_room(target, needed_bytes(header, order))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_data(writer, [tensor.data for _, tensor in placed], looking(stop, STOPPED), on_progress)


def _write_data(
    writer: Any, tensors: Sequence[Any], look: Callable[[], None], on_progress: Progress | None
) -> None:  # fmt: skip
    """Write what tensors hold, each to the next place; the writer's own way overlooks that a disk is full."""
    (file,) = writer.fout
    writer.write_padding(file, file.tell())
    for done, data in enumerate(tensors, 1):
        look()
        file.write(memoryview(data).cast("B"))
        writer.write_padding(file, data.nbytes)
        if on_progress is not None:
            on_progress(done, len(tensors))
    file.flush()
    os.fsync(file.fileno())


def _copy_facts(fields: Sequence[Any], writer: Any, header: GgufHeader, order: Sequence[int]) -> None:
    own = f"{header.architecture}."
    for field in fields:
        key, kind = field.name, field.types[0]
        if key.startswith(_LEFT_OUT):
            continue
        if key == "general.alignment":
            writer.add_custom_alignment(int(field.contents()))
        elif key == f"{own}block_count":
            writer.add_key_value(key, len(order), kind)
        elif kind.name != "ARRAY":
            writer.add_key_value(key, _value(field, field.data[0], kind), kind)
        elif field.data:
            values = [_value(field, at, field.types[-1]) for at in field.data]
            follows = key.startswith(own) and key.removeprefix(own) not in _OF_NO_LAYER
            values = [values[layer] for layer in order] if follows else values
            writer.add_key_value(key, values, kind, sub_type=field.types[-1])


def _value(field: Any, at: int, kind: Any) -> Any:
    """Return one value of a field; a text as its bytes, which need not be UTF-8 in a vocabulary."""
    return field.parts[at].tobytes() if kind.name == "STRING" else field.parts[at].tolist()[0]


def _placed(tensors: Sequence[Any], order: Sequence[int]) -> list[tuple[str, Any]]:
    """Return tensors with the names of their new places: those outside of layers first, then a layer after the other."""
    blocks: dict[int, list[tuple[str, Any]]] = {}
    outside = []
    for tensor in tensors:
        found = _BLOCK.fullmatch(tensor.name)
        if found is None:
            outside.append((tensor.name, tensor))
        else:
            blocks.setdefault(int(found[1]), []).append((found[2], tensor))
    return [
        *outside,
        *((f"blk.{place}.{name}", one) for place, layer in enumerate(order) for name, one in blocks[layer]),
    ]


def _require_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise OSError(28, f"it needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free")


def _refusal(key: str, what: str) -> RefusedPlanError:
    return RefusedPlanError(
        f"A GGUF file cannot hold these layers in this order: it states {key}, {what}. Export a checkpoint instead."
    )
