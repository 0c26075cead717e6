"""A lens as one file: a zip of the two files that a lens folder holds."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from surgery_core.errors import LensError
from surgery_core.lenses.files import CONFIG, PARAMS, SAFE, load_lens, save_lens
from surgery_core.lenses.tuned import Translators

MAX_LENS_BYTES = 512_000_000
"""Most bytes that the files of an archive may have once unpacked."""


def pack_lens(translators: Translators, *, pickled: bool = False) -> bytes:
    """Return a zip of `config.json` and the parameters, as safetensors or (`pickled`) for the tuned-lens library."""
    with tempfile.TemporaryDirectory() as folder:
        save_lens(translators, folder, pickled=pickled)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).iterdir()):
                archive.write(path, path.name)
        return data.getvalue()


def unpack_lens(data: bytes) -> Translators:
    """Read a lens from the bytes of a zip; the files may lie in a folder inside it.

    Raises:
        LensError: when it is no zip, holds no lens, is damaged, too large, or has a pickle with more than tensors in it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, tempfile.TemporaryDirectory() as folder:
            _extract(archive, Path(folder))
            return _named(folder)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, OSError):
        raise LensError(
            "The file is not a whole zip archive; give a zip with a lens's config.json and its parameters."
        ) from None


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write the lens's files into a folder under their bare names, whatever else the archive holds."""
    entries = {Path(entry.filename).name: entry for entry in archive.infolist() if not entry.is_dir()}
    left = MAX_LENS_BYTES
    for name in (CONFIG, SAFE, PARAMS):
        if name not in entries:
            continue
        with archive.open(entries[name]) as source:
            content = source.read(left + 1)
        left -= len(content)
        if left < 0:
            raise LensError(f"The lens in the archive has more than {MAX_LENS_BYTES:,} bytes; it is not unpacked.")
        (folder / name).write_bytes(content)


def _named(folder: str) -> Translators:
    """Read the folder; a message names the archive instead of a temporary folder."""
    try:
        return load_lens(folder)
    except LensError as error:
        raise LensError(str(error).replace(repr(folder), "the archive")) from None
