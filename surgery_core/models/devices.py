"""Where a model runs: the device, the number format, and whether it fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_core.models.checkpoint import ITEM_BYTES, Config

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")
SPREAD = "spread"
"""Device of a model that is placed over everything there is, for one that is larger than a device."""
_CGROUP = Path("/sys/fs/cgroup")
_SPARE = 1.1
"""Loading briefly holds one tensor twice, and a forward pass needs room too."""


def choose_device(wanted: str = "auto") -> torch.device:
    """Return the device to run on: the one wanted, or the best found (CUDA, then Apple MPS, then CPU).

    Raises:
        SettingsError: when `wanted` is no device, or this machine does not have it.
    """
    import torch

    if wanted == "auto":
        return torch.device(_best())
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise SettingsError(f"{wanted!r} is not a device; choose auto, cpu, cuda, cuda:1, mps or spread.") from None
    if not _exists(device):
        raise SettingsError(f"This machine has no device {wanted!r}; choose auto, which takes the best one found.")
    return device


def choose_dtype(wanted: str, device: torch.device, stored: str) -> str:
    """Return the number format to run in: the checkpoint's on a GPU, float32 on a CPU, unless told otherwise.

    A CPU multiplies float32 fastest, and a perplexity in bfloat16 has noise in its third digit.

    Raises:
        SettingsError: when `wanted` is not one of `DTYPES`.
    """
    if wanted not in DTYPES:
        raise SettingsError(f"{wanted!r} is not a number format; choose one of {', '.join(DTYPES)}.")
    if wanted != "auto":
        return wanted
    return "float32" if device.type == "cpu" or stored not in DTYPES else stored


def stated_format(config: Config) -> str | None:
    """Return the number format that a config states, as torch names it, or None where it names none that is known."""
    stated = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    return stated if stated in ITEM_BYTES else None


def require_memory(
    name: str, n_parameters: int, dtype: str, device: torch.device, most_bytes: int | None = None
) -> None:
    """Refuse a model that does not fit into free memory, or is larger than `most_bytes`.

    Raises:
        ModelLoadError: with the memory needed and what is free or allowed.
    """
    weights = n_parameters * ITEM_BYTES[dtype]
    if most_bytes is not None and weights > most_bytes:
        raise ModelLoadError(
            f"{name!r} takes {_gigabytes(weights)} in {dtype}, and {_gigabytes(most_bytes)} are allowed here; choose a "
            "smaller model."
        )
    needed = int(weights * _SPARE)
    # the weights pass through main memory on their way to a GPU
    for place, free in {"main": free_memory(), device.type: _free_on(device)}.items():
        if needed > free:
            raise ModelLoadError(
                f"{name!r} needs {_gigabytes(needed)} of {_place(place)} in {dtype}, and {_gigabytes(free)} are free; "
                "choose a smaller model, or close the models that are open."
            )


def free_memory() -> int:
    """Return the bytes of main memory that can still be taken, within a container's limit where there is one."""
    available = int(psutil.virtual_memory().available)
    limit = _container_free(_CGROUP)
    return available if limit is None else min(available, limit)


def _container_free(folder: Path) -> int | None:
    """Return what a control group (version 2) leaves free, counting file cache as free; None where it sets no limit."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return None if limit == "max" else max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None


def _best() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _exists(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


def _free_on(device: torch.device) -> int:
    import torch

    # an Apple GPU shares main memory
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()


def _place(kind: str) -> str:
    return "GPU memory" if kind == "cuda" else "memory"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def use_threads(count: int) -> None:
    """Let one operation use `count` CPU threads. A server that runs several sessions wants 1 and more workers.

    Raises:
        SettingsError: when it is less than 1.
    """
    import torch

    if count < 1:
        raise SettingsError(f"{count} threads cannot run anything; give at least 1.")
    torch.set_num_threads(count)
