"""Opening a model by its name: ready to run, with its facts.

A name is looked up in this order: a model that is offered (`models.offered`), a path on this machine, a hub id
`org/name`, or a GGUF file on the hub, `org/name:file.gguf` or `org/name/file.gguf`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_core.models.adapter_checkpoint import AdapterCheckpoint, is_adapter_folder, read_adapter
from surgery_core.models.card import read_healing
from surgery_core.models.checkpoint import ITEM_BYTES, Checkpoint, Config, require_causal
from surgery_core.models.devices import SPREAD, choose_device, choose_dtype, require_memory, stated_format
from surgery_core.models.gguf_checkpoint import SUFFIX
from surgery_core.models.offered import (
    DEFAULT_MODEL,
    Kind,
    adapter_title,
    base_place,
    digest,
    offered,
    path_of,
    read_place,
    short,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOADING = threading.Lock()
_Check = Callable[[Config | None, int], None]


@dataclass(frozen=True)
class AdapterInfo:
    """The facts of an adapter that a model was opened with.

    Attributes:
        name: its title: the first heading of its card, or the name of its folder.
        kind: `"LoRA"` or `"DoRA"`.
        base: what it calls the model that it was trained on.
        source: the path or hub id from which that was opened.
        revision: the commit of that on the hub, or a digest of its files.
        ranks: of its pairs of matrices, each once, in order.
        modules: names of the modules inside layers that it was put around.
        layers: the layers in which it has some.
        around: paths of the modules outside of the layers that it was put around.
        n_parameters: numbers in it.
    """

    name: str
    kind: str
    base: str
    source: str
    revision: str
    ranks: tuple[int, ...]
    modules: tuple[str, ...]
    layers: tuple[int, ...]
    around: tuple[str, ...]
    n_parameters: int


@dataclass(frozen=True)
class ModelInfo:
    """The facts of a loaded model.

    Attributes:
        name: the name that it was loaded by.
        title: what a page calls it.
        kind: where it came from: `"bundled"`, `"folder"` or `"hub"`.
        source: the path of the folder or file, or the hub id.
        revision: the commit on the hub, or a digest of the files.
        architecture: the model's class.
        n_layers: number of decoder layers.
        d_model: width of the residual stream.
        vocab_size: rows of the output embedding.
        context_length: most tokens that the model reads at once, or None where it states no limit.
        n_parameters: number of parameters; a tied embedding counts once.
        bytes: memory that the parameters and buffers take.
        dtype: number format of most parameters, such as `"float32"`.
        device: where it runs, such as `"cpu"` or `"cuda:0"`.
        licence: the licence that its card names, or None.
        notes: sentences about the checkpoint that its user should know.
        stored_as: number format of most parameters in its files, or an empty text where that is not known.
        gguf: how most numbers are stored in the GGUF file that it was opened from, such as `"Q4_1"`; None where it was
            opened from another kind of file.
        adapter: of the adapter that was opened with its base model, or None.
        healed: how it was trained after a cut, where it is a healed model; else empty.
    """

    name: str
    title: str
    kind: Kind
    source: str
    revision: str
    architecture: str
    n_layers: int
    d_model: int
    vocab_size: int
    context_length: int | None
    n_parameters: int
    bytes: int
    dtype: str
    device: str
    licence: str | None
    notes: tuple[str, ...] = ()
    stored_as: str = ""
    gguf: str | None = None
    adapter: AdapterInfo | None = None
    healed: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what a cache must key on: name, revision, dtype and device."""
        return self.name, self.revision, self.dtype, self.device


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run: in eval mode, without gradients, never changed by this package."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    info: ModelInfo


@dataclass(frozen=True)
class _Place:
    """Where a name leads: a checkpoint's folder or a GGUF file on this machine."""

    kind: Kind
    path: Path
    source: str
    revision: str


@dataclass(frozen=True)
class _Adapted:
    """An adapter, and where its base model is."""

    checkpoint: AdapterCheckpoint
    base: _Place


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    check_memory: bool = True,
    allow_paths: bool = True,
    most_bytes: int | None = None,
) -> LoadedModel:
    """Open a model by name.

    Args:
        name: a model of `list_models`, the path of a folder or of a GGUF file, a hub id `org/name`, or a GGUF file on
            the hub, `org/name:file.gguf`. An adapter (PEFT) is opened with its base model: the one that it names, among
            those that lie ready, at a path, or on the hub.
        device: `"auto"` (CUDA, then MPS, then CPU), `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`; or `"spread"` for a model
            larger than one device: over all GPUs, main memory and disk, with accelerate.
        dtype: `"auto"` (the checkpoint's on a GPU, float32 on a CPU), `"float32"`, `"bfloat16"`, `"float16"`.
        revision: a branch, tag or commit of a hub model; None for its main branch.
        check_memory: refuse a model that is larger than the free memory before reading its weights.
        allow_paths: whether `name` may be a path; a page that takes names from visitors passes False.
        most_bytes: memory that its weights may take; None for as much as is free.

    Raises:
        ModelLoadError: one sentence that says what is wrong with the model and what to do.
        SettingsError: for a device or dtype that this machine does not have.
    """
    spread = device == SPREAD
    target = choose_device("auto" if spread else device)
    check_memory = check_memory and not spread
    check = partial(_check_remote, name, target, dtype, check_memory, most_bytes)
    try:
        place = _locate(name.strip(), revision, allow_paths, check)
        adapted = _adapted(place, name, allow_paths, check)
        checkpoint = read_place(place.path if adapted is None else adapted.base.path, name)
    except OSError as error:
        reason = error.strerror or error
        raise ModelLoadError(f"{name!r} cannot be read ({reason}); check its files and who may read them.") from error
    _require_runs(checkpoint, name)
    number_format = choose_dtype(dtype, target, checkpoint.dtype)
    if adapted is not None and spread:
        raise SettingsError(f"{name!r} is an adapter, which cannot be spread over devices; choose one device.")
    with _LOADING:  # what another load takes meanwhile is not free
        if check_memory:
            beside = 0 if adapted is None else adapted.checkpoint.n_parameters
            require_memory(name, checkpoint.n_parameters + beside, number_format, target, most_bytes)
        return _open(name, place, checkpoint, adapted, None if spread else target, number_format)


def _adapted(place: _Place, name: str, allow_paths: bool, check: _Check) -> _Adapted | None:
    """Return the adapter that lies at a place, and where its base model is; None for a whole model."""
    if not is_adapter_folder(place.path):
        return None
    adapter = read_adapter(place.path, name)
    if not adapter.base:
        raise ModelLoadError(
            f"{name!r} is an adapter that does not name its base model; write that model's name or path as "
            "base_model_name_or_path into its adapter_config.json."
        )
    try:
        # what lies on this machine may lead to other places on it, what a visitor names on the hub may not
        base = _base_place(adapter, allow_paths or place.kind != "hub", check)
    except ModelLoadError as error:
        said = str(error)
        raise ModelLoadError(
            f"{name!r} is an adapter for {adapter.base!r}, which cannot be opened: {said[0].lower()}{said[1:]}"
        ) from error
    if is_adapter_folder(base.path):
        raise ModelLoadError(
            f"{name!r} is an adapter for {adapter.base!r}, which is an adapter itself; merge that first."
        )
    return _Adapted(adapter, base)


def _base_place(adapter: AdapterCheckpoint, allow_paths: bool, check: _Check) -> _Place:
    found = base_place(offered(), adapter.base, paths=allow_paths)
    if found is None or found[1] == "hub":
        return _locate(adapter.base, adapter.base_revision, allow_paths, check)
    path, kind = found
    return _Place(kind, path, short(path), digest(path))


def _require_runs(checkpoint: Checkpoint, name: str) -> None:
    if checkpoint.gguf is None:
        return require_causal(checkpoint.config, name)
    from surgery_core.models.gguf_weights import require_gguf_support

    require_gguf_support(checkpoint.gguf, name)


def _open(
    name: str,
    place: _Place,
    checkpoint: Checkpoint,
    adapted: _Adapted | None,
    device: torch.device | None,
    dtype: str,
) -> LoadedModel:
    """Open a checkpoint on one device, or spread over all of them when `device` is None; with its adapter, if any."""
    from surgery_core.models.weights import load_tokenizer, load_weights

    own = adapted is not None and adapted.checkpoint.has_tokenizer
    tokenizer = load_tokenizer(checkpoint, name, place.path if own else None)
    model, notes = load_weights(checkpoint, name, tokenizer, dtype, spread=device is None)
    adapter = None if adapted is None else _put_on(model, adapted, name)
    if device is not None:
        model.to(device)  # type: ignore[arg-type]
    info = _info(name, place, checkpoint, model, notes)
    return LoadedModel(model, tokenizer, info if adapted is None else _with_adapter(info, adapted, adapter))


def _put_on(model: PreTrainedModel, adapted: _Adapted, name: str) -> AdapterInfo:
    from surgery_core.models.adapter_weights import put_on

    checkpoint = adapted.checkpoint
    places = put_on(model, checkpoint, name)
    return AdapterInfo(
        name=checkpoint.title,
        kind="DoRA" if checkpoint.config.get("use_dora") else "LoRA",
        base=checkpoint.base,
        source=adapted.base.source,
        revision=adapted.base.revision,
        ranks=checkpoint.ranks,
        modules=places.modules,
        layers=places.layers,
        around=places.around,
        n_parameters=checkpoint.n_parameters,
    )


def _with_adapter(info: ModelInfo, adapted: _Adapted, adapter: AdapterInfo | None) -> ModelInfo:
    """Return what is known of a base model that was opened for its adapter, as the facts of the two together."""
    own = adapted.checkpoint
    title = own.title if info.kind != "hub" else info.name
    base = info.title if info.kind != "hub" else own.base
    return replace(
        info,
        title=adapter_title(title, base),
        revision=f"{info.revision}+{adapted.base.revision}",
        licence=own.licence or info.licence,
        adapter=adapter,
    )


def _info(
    name: str, place: _Place, checkpoint: Checkpoint, model: PreTrainedModel, notes: tuple[str, ...]
) -> ModelInfo:
    from surgery_core.surgery.anatomy import inspect_model

    anatomy, healed = inspect_model(model), read_healing(place.path)
    parameters = list(model.parameters())
    return ModelInfo(
        name=name,
        title=checkpoint.title if place.kind != "hub" else name,
        kind=place.kind,
        source=place.source,
        revision=place.revision,
        architecture=type(model).__name__,
        n_layers=anatomy.n_layers,
        d_model=anatomy.d_model,
        vocab_size=model.get_output_embeddings().weight.shape[0],
        context_length=anatomy.context_length,
        n_parameters=sum(parameter.numel() for parameter in parameters),
        bytes=sum(tensor.nbytes for tensor in (*parameters, *model.buffers())),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        licence=checkpoint.licence,
        notes=(*notes, healed) if healed else notes,
        stored_as=checkpoint.dtype,
        gguf=None if checkpoint.gguf is None else checkpoint.gguf.kind,
        healed=healed,
    )


def _locate(name: str, revision: str | None, allow_paths: bool, check: _Check) -> _Place:
    from surgery_core.models.hub import fetch, fetch_gguf, hub_file, is_hub_id

    ready = offered()
    path, kind = ready.get(name) or ready.get(name.removesuffix(SUFFIX)) or (None, "hub")
    if path is not None and kind != "hub":
        return _Place(kind, path, short(path), digest(path))
    if allow_paths and (typed := path_of(name)) is not None:
        return _Place("folder", typed, str(typed), digest(typed))
    if (place := hub_file(name)) is not None:
        file = fetch_gguf(name, place, revision, partial(check, None))
        return _Place("hub", file.path, name, file.revision)
    if is_hub_id(name) and not name.lower().endswith(SUFFIX):
        snapshot = fetch(name, revision, check)
        return _Place("hub", snapshot.path, name, snapshot.revision)
    raise _unknown(name, allow_paths, ready)


def _unknown(name: str, allow_paths: bool, ready: Iterable[str]) -> ModelLoadError:
    choices = ", ".join(sorted(ready)) or "none here"
    paths = "the path of a folder or of a GGUF file, " if allow_paths else ""
    return ModelLoadError(
        f"There is no model {name!r:.200}; give one that is offered ({choices}), {paths}"
        "or a hub id such as org/name or org/name:file.gguf."
    )


def _check_remote(
    name: str, device: torch.device, dtype: str, check_memory: bool, most_bytes: int | None, config: Config | None, size: int
) -> None:  # fmt: skip
    """Refuse a hub model before its weights are fetched: from its config and file sizes, of GGUF from the size alone."""
    if config is not None:
        require_causal(config, name)
    stored = (config is not None and stated_format(config)) or "float32"
    if check_memory:
        n_parameters = size // ITEM_BYTES[stored]
        require_memory(name, n_parameters, choose_dtype(dtype, device, stored), device, most_bytes)
