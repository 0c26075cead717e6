"""Healed models: folders on this machine, each of them one session's, within a bound. Nothing here imports Streamlit.

They lie below a folder of the server's own, which goes when the server does. A name says nothing and cannot be guessed, and
whoever is not its owner does not get the model by it either.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_core.models.opening import LoadedModel, load_model
from surgery_ui.work.limits import FILE, MB, limits

PREFIX = "healed-"
"""What the names of healed models begin with."""
MOST = 4
"""Healed models of one session; the oldest gives way."""


@dataclass(frozen=True)
class HealedModel:
    """A healed model that lies on this machine.

    Attributes:
        name: by which its session opens it.
        title: what the picker calls it.
        owner: whose it is.
        path: its folder.
        size: of its files, in bytes.
    """

    name: str
    title: str
    owner: str
    path: Path
    size: int


class HealedModels:
    """The healed models of all sessions.

    Args:
        most_bytes: tells how much they may take together.
        idle: seconds after which one is forgotten that its session has not asked for.
        clock: what time it is, in seconds.
    """

    def __init__(self, most_bytes: Callable[[], int], idle: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._idle, self._clock = most_bytes, idle, clock
        self._lock = threading.Lock()
        self._found: dict[str, HealedModel] = {}
        self._seen: dict[str, float] = {}
        self._root: Path | None = None

    def of(self, owner: str) -> tuple[HealedModel, ...]:
        """Return a session's models, the oldest first; they count as asked for."""
        with self._lock:
            mine = tuple(one for one in self._found.values() if one.owner == owner)
            self._seen.update({one.name: self._clock() for one in mine})
            return mine

    def put(self, owner: str, title: str, size: int, write: Callable[[Path], object]) -> HealedModel:
        """Keep one more model.

        Args:
            owner: whose it is.
            title: what the picker calls it.
            size: about how many bytes its files will have.
            write: fills a folder that is not there yet; what it raises leaves nothing behind.

        Raises:
            SettingsError: when there is no room for it.
        """
        name = PREFIX + secrets.token_hex(8)
        with self._lock:
            self._make_room(owner, size)
            path = self._folder() / name
            # what is being written counts already, so that two who write at once do not take the same room
            self._found[name] = HealedModel(name, title, "", path, size)
        try:
            write(path)
        except BaseException:
            with self._lock:
                self._forget(name)
            raise
        with self._lock:
            taken = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            self._found[name] = replace(self._found[name], owner=owner, size=taken)
            self._seen[name] = self._clock()
            return self._found[name]

    def adopt(self, made: HealedModel) -> None:
        """Have a model that another process wrote, and that lies on a disk of this one too, among those here."""
        with self._lock:
            if made.name not in self._found:
                self._make_room(made.owner, made.size)
                self._found[made.name] = made
            self._seen[made.name] = self._clock()

    def lie_in(self, root: Path) -> None:
        """Write models into a folder that another process made, and takes away."""
        with self._lock:
            self._root = root

    def root(self) -> Path:
        """Return the folder in which they lie; it is made where it is not there."""
        with self._lock:
            return self._folder()

    def known(self, name: str) -> HealedModel | None:
        """Return a model by its name, or None where there is none."""
        with self._lock:
            return self._found.get(name)

    def owned(self, owner: str, name: str) -> HealedModel:
        """Return a session's model.

        Raises:
            ModelLoadError: when it is not this session's, or is not there any more.
        """
        found = next((one for one in self.of(owner) if one.name == name), None)
        if found is None:
            raise ModelLoadError(
                f"{name!r} is no healed model of this session: they belong to the session that made them, and are forgotten "
                "when that is gone. Choose a model from the list, or heal the plan again."
            )
        return found

    def opened(self, owner: str, name: str) -> LoadedModel:
        """Open a model for its session. Errors as `owned`."""
        found = self.owned(owner, name)
        loaded = load_model(str(found.path))
        # the path on this machine is nobody's business
        info = replace(loaded.info, name=name, title=found.title, source="healed in this session")
        return replace(loaded, info=info)

    def close(self) -> None:
        """Forget all models, and take their folder away."""
        with self._lock:
            self._found.clear()
            self._seen.clear()
            if self._root is not None:
                shutil.rmtree(self._root, ignore_errors=True)
                self._root = None

    def _make_room(self, owner: str, size: int) -> None:
        gone = [name for name, seen in self._seen.items() if self._clock() - seen > self._idle]
        mine = [one.name for one in self._found.values() if one.owner == owner and one.name not in gone]
        for name in (*gone, *mine[: max(0, len(mine) + 1 - MOST)]):
            self._forget(name)
        taken = sum(one.size for one in self._found.values())
        if taken + size > self._most_bytes():
            raise SettingsError(
                f"The healed model would take {size / MB:,.0f} MB, and {max(0, self._most_bytes() - taken) / MB:,.0f} MB are "
                f"left for healed models on this server (healed_mb in {FILE}); try again later, or heal on a command line."
            )

    def _forget(self, name: str) -> None:
        found = self._found.pop(name)
        self._seen.pop(name, None)
        shutil.rmtree(found.path, ignore_errors=True)

    def _folder(self) -> Path:
        if self._root is None:
            # several machines see them where the organiser's folder is on a disk of all of them
            place = limits().state_folder if limits().state else None
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
            self._root = Path(tempfile.mkdtemp(prefix="model-surgery-healed-", dir=place))
            atexit.register(self.close)
        return self._root


HEALED = HealedModels(lambda: limits().healed_mb * MB, 60.0 * limits().idle_minutes)


def is_healed(name: str) -> bool:
    """Whether a name is one of a healed model."""
    return name.startswith(PREFIX)
