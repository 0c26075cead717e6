"""A device that complains: tensors that say `cuda:0` or `mps` and compute on the CPU.

What those devices refuse is refused here too: tensors of two devices in one operation, indices from another device,
float64 on Apple's GPU, numpy on anything but the CPU, a generator of another device. So code for accelerators runs on a
machine without one, and what would raise there raises here.

    with pretended():
        put(model, "cuda:0")             # or spread(model, "cuda:0", "cuda:1")
        compare(model, ...)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
MAY_INDEX_FROM_CPU = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._unsafe_index.Tensor}
PRETENDED = ("cuda", "mps")


class MixedDevices(RuntimeError):
    """Tensors of two devices met in one operation."""


class Pretended(torch.Tensor):
    """A tensor on a pretended device; `inner` is where its numbers are."""

    inner: torch.Tensor
    place: torch.device

    @staticmethod
    def __new__(cls: type, inner: torch.Tensor, place: torch.device) -> Any:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device="cpu", requires_grad=inner.requires_grad,
        )  # fmt: skip
        made.inner, made.place = inner, _device(place)
        return made

    def __init__(self, *_: Any) -> None:
        """All was done in `__new__`."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self.place.type == "cuda"

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def cpu(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.to("cpu")

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {self.place} device type tensor to numpy. Use Tensor.cpu() first.")

    def tolist(self) -> Any:
        return self.inner.tolist()

    def item(self) -> Any:
        return self.inner.item()

    def __bool__(self) -> bool:
        return bool(self.inner)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Pretended({self.place}, {tuple(self.shape)}, {self.dtype})"

    def get_device(self) -> int:
        return self.place.index or 0

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Moves between devices, and makes tensors on pretended ones, which torch itself would look for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            return _moved(*args, **kwargs)
        device = _named(kwargs.get("device"))
        if device is not None and device.type in PRETENDED:
            _refuse_float64(device, kwargs.get("dtype"))
            made = func(*tree_map(_inner, args), **(tree_map(_inner, kwargs) | {"device": "cpu"}))
            return tree_map(lambda x: Pretended(x, device) if isinstance(x, torch.Tensor) else x, made)
        if device is not None and device.type == "cpu" and any(isinstance(a, Pretended) for a in args):
            return func(*tree_map(_inner, args), **kwargs)
        return func(*args, **kwargs)


@contextmanager
def pretended() -> Iterator[None]:
    """Let tensors live on pretended devices inside the block.

    Inference mode is without gradients only there: its tensors cannot be wrapped.
    """
    own = torch.inference_mode, torch.Event
    torch.inference_mode, torch.Event = torch.no_grad, _Event  # type: ignore[assignment,misc]
    try:
        with _Dispatch(), _Functions():
            yield
    finally:
        torch.inference_mode, torch.Event = own  # type: ignore[misc]


class _Event:
    """An event on a device that is never behind."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """There is nothing to wait for."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: True


def put(module: nn.Module, device: str) -> Any:
    """Move every parameter and buffer of a module to a pretended device, and return the module."""
    place, seen = _device(torch.device(device)), dict[int, Any]()
    for one in module.modules():
        for name, tensor in list(one._parameters.items()):
            if tensor is not None and not isinstance(tensor, Pretended):
                # tied parameters stay tied
                made = seen.setdefault(id(tensor), nn.Parameter(Pretended(tensor.data, place), requires_grad=False))
                one._parameters[name] = made
        for name, buffer in list(one._buffers.items()):
            if buffer is not None and not isinstance(buffer, Pretended):
                one._buffers[name] = Pretended(buffer, place)
    return module


def spread(model: Any, first: str, second: str) -> Any:
    """Put the second half of a model's layers, with what comes behind them, on a second device, as accelerate does.

    Whatever runs on the second device gets its inputs moved there, by accelerate's own hooks.
    """
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    from surgery_core.surgery.anatomy import find_final_norm, find_layers

    layers = find_layers(model)[1]
    norm = find_final_norm(model)
    head = model.get_output_embeddings()
    tied = head.weight is model.get_input_embeddings().weight
    behind = [*layers[len(layers) // 2 :], *([norm[1]] if norm else []), *([] if tied else [head])]
    for module in behind:
        put(module, second)
    put(model, first)
    for module in (model.get_input_embeddings(), *layers, *([norm[1]] if norm else []), head):
        place = second if any(module is one for one in behind) else first
        add_hook_to_module(module, AlignDevicesHook(execution_device=torch.device(place)))
    return model


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    here = [x for x in tensors if isinstance(x, Pretended)]
    if func is aten._to_copy.default:
        return _copied(func, args, kwargs)
    if func is aten.copy_.default:
        _inner(args[0]).copy_(_inner(args[1]))
        return args[0]
    if not here:
        return func(*args, **kwargs)
    if func not in (aten._local_scalar_dense.default, aten.equal.default) or len(tensors) > 1:
        _refuse_mixed(func, args, tensors, here)
    place = here[0].place
    _refuse_float64(place, kwargs.get("dtype"))
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != place.type:
        raise RuntimeError(f"Expected a {place.type!r} device type for generator but found {generator.device.type!r}")
    wanted = kwargs.get("device")
    target = place if wanted is None else _device(torch.device(wanted))
    inner = tree_map(_inner, kwargs)
    if wanted is not None:
        inner["device"] = torch.device("cpu")
    made = func(*tree_map(_inner, args), **inner)
    known = {id(x.inner): x for x in here}

    def wrap(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if id(x) in known:
            return known[id(x)]
        _refuse_float64(target, x.dtype)
        return Pretended(x, target) if target.type in PRETENDED else x

    return tree_map(wrap, made)


def _refuse_mixed(func: Any, args: Any, tensors: list[torch.Tensor], here: list[Pretended]) -> None:
    """Refuse what CUDA refuses: other devices, but for single numbers and indices from the CPU."""
    places = {str(x.place) for x in here}
    others = [x for x in tensors if not isinstance(x, Pretended) and x.dim() > 0]
    if func in MAY_INDEX_FROM_CPU:
        indices = [x for x in tree_flatten(args[1])[0] if isinstance(x, torch.Tensor)]
        if not isinstance(args[0], Pretended) or any(
            isinstance(x, Pretended) and x.place != args[0].place for x in indices
        ):
            raise MixedDevices(
                f"indices should be either on cpu or on the same device as the indexed tensor, in {func}"
            )
        return
    if len(places) > 1 or others:
        found = sorted(places | {"cpu" for _ in others})
        raise MixedDevices(f"Expected all tensors to be on the same device, but found {found} in {func}")


def _copied(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    source, wanted = args[0], kwargs.get("device")
    here = source.place if isinstance(source, Pretended) else torch.device("cpu")
    target = here if wanted is None else _device(torch.device(wanted))
    inner = {name: value for name, value in kwargs.items() if name not in ("device", "non_blocking")}
    _refuse_float64(target, inner.get("dtype") or source.dtype)
    made = func(_inner(source), **inner)
    return Pretended(made, target) if target.type in PRETENDED else made


def _moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    other = next((x for x in args if isinstance(x, torch.Tensor)), kwargs.pop("other", None))
    named = [d for x in (*args, kwargs.pop("device", None)) if (d := _named(x)) is not None]
    dtype = next((x for x in args if isinstance(x, torch.dtype)), kwargs.pop("dtype", None))
    if other is not None:
        named, dtype = [other.device], other.dtype
    here, dtype = tensor.device, dtype or tensor.dtype
    target = _device(named[0]) if named else here
    _refuse_float64(target, dtype)
    # a conversion is made before the move on to the CPU, as torch does
    _refuse_float64(here, dtype)
    if target == here and dtype == tensor.dtype and not kwargs.get("copy"):
        return tensor
    if tensor.requires_grad and tensor.dtype.is_floating_point:
        return _Move.apply(tensor, target, dtype)  # type: ignore[no-any-return]
    made = _inner(tensor).to(dtype)
    made = made.clone() if made is _inner(tensor) else made
    return Pretended(made, target) if target.type in PRETENDED else made


class _Move(torch.autograd.Function):
    """A move between devices through which gradients flow back."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, target: torch.device, dtype: torch.dtype) -> torch.Tensor:
        ctx.here, ctx.dtype = tensor.device, tensor.dtype
        made = _inner(tensor.detach()).to(dtype).clone()
        return Pretended(made, target) if target.type in PRETENDED else made

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        made = _inner(grads[0]).to(ctx.dtype)
        return (Pretended(made, ctx.here) if ctx.here.type in PRETENDED else made), None, None


def _refuse_float64(device: torch.device, dtype: torch.dtype | None) -> None:
    if device.type == "mps" and dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")


def _named(value: Any) -> torch.device | None:
    if not isinstance(value, (torch.device, str)):
        return None
    try:
        return _device(torch.device(value))
    except RuntimeError:
        return None


def _device(device: torch.device) -> torch.device:
    return torch.device(device.type, device.index or 0) if device.type in PRETENDED else device


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Pretended) else value
