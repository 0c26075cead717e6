"""A lens as one file: a zip of the two files that a lens folder holds, or a Jacobian lens as the reference writes it."""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from pathlib import Path

from surgery_core.bounded import BROKEN_ZIP, Unreadable, read_json, unpacked
from surgery_core.errors import LensError
from surgery_core.lenses.files import CONFIG, PARAMS, SAFE, load_lens, save_lens
from surgery_core.lenses.fitted import Fitted
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_files import KIND, load_jacobians, read_reference, save_jacobians
from surgery_core.lenses.jacobian_files import PARAMS as MATRICES

MAX_LENS_BYTES = 512_000_000
"""Most bytes that the files of an archive may have once unpacked."""
MAX_CONFIG_BYTES = 1_000_000
"""Most that its config.json may have of them."""


def pack_lens(fitted: Fitted, *, pickled: bool = False) -> bytes:
    """Return a zip of `config.json` and the parameters, as safetensors; or what another library opens (`pickled`).

    That is a zip too of a tuned lens, for the tuned-lens library, and one file of a Jacobian lens, for its reference.
    """
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(fitted, Jacobians):
            if pickled:
                return save_jacobians(fitted, Path(folder) / "lens.pt").read_bytes()
            save_jacobians(fitted, folder)
        else:
            save_lens(fitted, folder, pickled=pickled)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).iterdir()):
                archive.write(path, path.name)
        return data.getvalue()


def unpack_lens(data: bytes, name: str = "lens.zip") -> Fitted:
    """Read a lens from the bytes of a zip, in which the files may lie in a folder; or of the reference's file `*.pt`.

    Args:
        data: of the file.
        name: of the file.

    Raises:
        LensError: when it is no zip, holds no lens, is damaged, too large, or has a pickle with more than tensors in it.
    """
    if name.lower().endswith(".pt"):
        return read_reference(data, name)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, tempfile.TemporaryDirectory() as folder:
            _extract(archive, Path(folder))
            return _named(folder)
    except LensError:
        raise
    except Unreadable as error:
        raise LensError(f"The lens in the archive {error}.") from None
    except BROKEN_ZIP:
        raise LensError(
            "The file is not a whole zip archive; give a zip with a lens's config.json and its parameters."
        ) from None


def digest_of(fitted: Fitted) -> str:
    """Return a short name for a lens's values, which another one has not."""
    digest = hashlib.sha256()
    if isinstance(fitted, Jacobians):
        digest.update(f"{fitted.plan} {fitted.layers}".encode())
    tensors = fitted.matrices.values() if isinstance(fitted, Jacobians) else (fitted.weights, fitted.biases)
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:32]


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write the lens's files into a folder under their bare names, whatever else the archive holds."""
    entries = {Path(entry.filename).name: entry for entry in archive.infolist() if not entry.is_dir()}
    left = MAX_LENS_BYTES
    for name in (CONFIG, SAFE, PARAMS, MATRICES):
        if name not in entries:
            continue
        most = min(left, MAX_CONFIG_BYTES) if name == CONFIG else left
        content = unpacked(archive, entries[name], most)
        if len(content) > most:
            if most == left:
                raise LensError(f"The archive's files have more than {MAX_LENS_BYTES:,} bytes; they are not unpacked.")
            raise LensError(f"The {name} in the archive has more than {most:,} bytes; it is not unpacked.")
        left -= len(content)
        (folder / name).write_bytes(content)


def _named(folder: str) -> Fitted:
    """Read the folder; a message names the archive instead of a temporary folder."""
    try:
        return load_jacobians(folder) if _is_jacobian(Path(folder) / CONFIG) else load_lens(folder)
    except LensError as error:
        raise LensError(str(error).replace(repr(folder), "the archive")) from None


def _is_jacobian(config: Path) -> bool:
    try:
        said = read_json(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("lens_type") == KIND
