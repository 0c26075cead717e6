"""Files that are written once: claimed under the next free number, written beside, then renamed."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

from surgery_core.errors import ExperimentError
from surgery_core.whole_files import PART, finish

ENDING = ".json"
_NUMBERED = re.compile(r"(?P<name>.+)\.v(?P<number>[1-9]\d*)\.json")


class Claim:
    """The next number of a name in a folder, held until it is filled or dropped.

    While `.NAME.vN.json.part` is there, no other process takes the number; a file with its final name is always whole.

    Args:
        folder: made when it is not there.
        name: what the file's name begins with; characters that no file name should have become `_`.

    Attributes:
        path: where the file will be.
        number: from 1.

    Raises:
        ExperimentError: when the folder cannot be written to.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = re.sub(r"[^\w.-]", "_", name).strip(".") or "_"
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.number = next(number for number in count(self._last() + 1) if self._take(number))
        except OSError as error:
            raise ExperimentError(
                f"{str(folder)!r} cannot hold experiments ({error.strerror or error}); choose another save_dir."
            ) from error

    @property
    def path(self) -> Path:
        """Return where the file will be."""
        return self._path(self.number)

    def fill(self, content: bytes) -> Path:
        """Write the file; it is there whole, or not at all.

        Raises:
            ExperimentError: when it cannot be written, for example on a full disk.
        """
        try:
            return finish(self._part(self.number), self.path, content)
        except OSError as error:
            raise ExperimentError(f"{str(self.path)!r} could not be written ({error.strerror or error}).") from error

    def drop(self) -> None:
        """Give the number back."""
        self._part(self.number).unlink(missing_ok=True)

    def _last(self) -> int:
        return max((number for name, number, _ in numbered(self.folder) if name == self.name), default=0)

    def _take(self, number: int) -> bool:
        """Take a number that nobody has; looked at again once it is held, for its holder may just have finished."""
        try:
            self._part(number).open("xb").close()
        except FileExistsError:
            return False
        if self._path(number).exists():
            self._part(number).unlink()
            return False
        return True

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.name}.v{number}{ENDING}"

    def _part(self, number: int) -> Path:
        return self.folder / f".{self._path(number).name}{PART}"


def numbered(folder: Path) -> list[tuple[str, int, Path]]:
    """Return (name, number, path) of the files in a folder that were claimed and filled, by name and number."""
    if not folder.is_dir():
        return []
    found = ((_NUMBERED.fullmatch(path.name), path) for path in folder.iterdir() if not path.name.startswith("."))
    return sorted((match["name"], int(match["number"]), path) for match, path in found if match)
