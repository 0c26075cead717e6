"""What an organiser allows on a server: one file, `surgery.toml`, and an environment variable for each of its keys.

The file is the one that `MODEL_SURGERY_CONFIG` names, or `surgery.toml` where the server was started; the repository's
has every key with its default. `MODEL_SURGERY_TOKENS=128` goes before `tokens` in the file. Nothing here imports
Streamlit.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from surgery_core.errors import ModelLoadError, SettingsError

FILE = "surgery.toml"
FILE_VARIABLE = "MODEL_SURGERY_CONFIG"
"""Environment variable with the path of the organiser's file."""
PREFIX = "MODEL_SURGERY_"
MB = 1_000_000
THREADS, RAY = "threads", "ray"
ROOMS_FILE = "rooms.sqlite"
"""Name of the file with the rooms, in the state folder."""


@dataclass(frozen=True)
class Limits:
    """What may be done on a server. Every number is at least its lowest value in `LEAST` and at most that in `MOST`.

    Attributes:
        allowed: names of the models that may be opened; empty for all that are offered, and those on the hub.
        hub: whether models and lenses may be fetched from the hub.
        paths: whether a person may type the path of a model on the server.
        model_mb: memory that a model may take, in MB; 0 for as much as is free.
        open_models: models that stay open at most.
        text_kb: size of one text of a person's own, in kB.
        tokens: tokens that a text may be continued by.
        sweep_plans: plans that a sweep may have.
        jobs: sweeps, removals, runs of the gallery and trainings that one session may have at a time.
        training: whether lenses may be trained, and models healed.
        healed_mb: disk that healed models may take, all together, in MB.
        cache_mb: memory that results are kept in, in MB.
        idle_minutes: how long what a browser's tab had is kept for its return.
        download_mb: size up to which a page hands out checkpoints, in MB; 0 for none.
        framed_by: origins of pages that may show the app in a frame; empty for none but its own.
        log: where lines of JSON go that say what happens: a file, "-" for the server's output, empty for nowhere.
        log_texts: whether those lines have what sentences of errors say, which may be what a person wrote.
        state: folder for what outlives the server: rooms, answers, boards; empty for the user's own.
        engine: what computes: "threads" of the server's process, or workers on "ray".
        workers: edits that are computed at a time, each by a worker of its own on Ray; 0 for one a processor core.
        ray_address: of a running Ray cluster; empty for one of the server's own, on its machine.
        ray_threads: processor cores that each worker on Ray takes.
        ray_gpus: GPUs that each worker on Ray takes.
    """

    allowed: tuple[str, ...] = ()
    hub: bool = True
    paths: bool = False
    model_mb: int = 0
    open_models: int = 3
    text_kb: int = 1_000
    tokens: int = 512
    sweep_plans: int = 4_096
    jobs: int = 4
    training: bool = True
    healed_mb: int = 2_000
    cache_mb: int = 1_000
    idle_minutes: int = 720
    download_mb: int = 200
    framed_by: tuple[str, ...] = ()
    log: str = ""
    log_texts: bool = False
    state: str = ""
    engine: str = THREADS
    workers: int = 0
    ray_address: str = ""
    ray_threads: int = 1
    ray_gpus: int = 0

    @property
    def at_once(self) -> int:
        """Return how many edits are computed at a time."""
        return self.workers or max(1, os.cpu_count() or 1)

    def check_model(self, name: str, here: Callable[[str], bool]) -> None:
        """Refuse a model that may not be opened.

        Args:
            name: what it is opened by.
            here: tells whether a name leads to a model on the server.

        Raises:
            ModelLoadError: naming the limit and what is allowed.
        """
        if self.allowed and name not in self.allowed:
            raise ModelLoadError(
                f"{name!r:.200} is not open to visitors of this server (allowed in {FILE}: {', '.join(self.allowed)}); choose "
                "one of those, or ask the organiser."
            )
        if not self.hub and not here(name):
            raise ModelLoadError(
                f"{name!r:.200} is not on this server, and it fetches nothing from the hub (hub in {FILE}); choose a model from "
                "the list."
            )

    @property
    def state_folder(self) -> Path:
        """Return the folder for what outlives the server."""
        own = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(self.state or f"{own}/model-surgery").expanduser()

    def check_hub(self, name: str) -> None:
        """Refuse what would be fetched from the hub, where that is not allowed.

        Raises:
            SettingsError: naming the limit.
        """
        if not self.hub:
            raise SettingsError(f"{name!r} would come from the hub, and this server fetches nothing (hub in {FILE}).")

    def check_plans(self, count: int) -> None:
        """Refuse a sweep of too many plans.

        Raises:
            SettingsError: naming the limit.
        """
        if count > self.sweep_plans:
            raise SettingsError(
                f"This sweep has {count:,} plans, and this server allows {self.sweep_plans:,} (sweep_plans in {FILE}); "
                "choose a smaller one."
            )

    def check_jobs(self, running: int) -> None:
        """Refuse one more piece of long work where a session has as many as it may have.

        Raises:
            SettingsError: naming the limit.
        """
        if running >= self.jobs:
            raise SettingsError(
                f"You have {running} long runs going, as many as this server allows a person (jobs in {FILE}); wait for "
                "one, or cancel it."
            )

    def check_training(self, what: Literal["lenses", "models"] = "lenses") -> None:
        """Refuse the training of a lens or of a model, where that is not allowed.

        Raises:
            SettingsError: naming the limit.
        """
        if not self.training:
            instead = "open a file of one instead" if what == "lenses" else "heal on a command line instead"
            raise SettingsError(f"No {what} are trained on this server (training in {FILE}); {instead}.")


LEAST: Mapping[str, int] = {
    "model_mb": 0, "open_models": 1, "text_kb": 1, "tokens": 1, "sweep_plans": 1, "jobs": 1, "cache_mb": 10,
    "idle_minutes": 1, "download_mb": 0, "healed_mb": 0, "workers": 0, "ray_threads": 1, "ray_gpus": 0,
}  # fmt: skip
MOST: Mapping[str, int] = {
    "model_mb": 100_000_000, "open_models": 100, "text_kb": 1_000, "tokens": 512, "sweep_plans": 4_096, "jobs": 100,
    "cache_mb": 100_000_000, "idle_minutes": 100_000, "download_mb": 100_000, "healed_mb": 100_000_000, "workers": 256,
    "ray_threads": 256, "ray_gpus": 16,
}  # fmt: skip

CHOICES: Mapping[str, tuple[str, ...]] = {"engine": (THREADS, RAY)}
"""What some texts may be."""
LISTS: Mapping[str, tuple[str, str]] = {
    "allowed": (r"(?s).+", '["fable"]'),
    "framed_by": (r"https?://(\*\.)?[a-zA-Z0-9.-]+(:\d{1,5})?", '["https://example.org"]'),
}
"""What each entry of a list has to be, and an example of a list."""
SPACE_VARIABLE, SPACES = "SPACE_ID", "https://huggingface.co"
"""Environment variable that a Space on Hugging Face has, and the site whose pages show Spaces in a frame."""


def read_limits(environment: Mapping[str, str]) -> Limits:
    """Return what an environment and its file allow.

    Raises:
        SettingsError: naming the key, its value and what is allowed; for a file that is named and is not there, too.
    """
    given, where = _file(environment)
    values = {name: _checked(name, value, where) for name, value in given.items()}
    for name in KINDS:
        if (text := environment.get(PREFIX + name.upper())) is not None:
            values[name] = _checked(name, _read(name, text), f"the environment ({PREFIX}{name.upper()})")
    if SPACE_VARIABLE in environment:
        values["framed_by"] = (*values.get("framed_by", ()), SPACES)
    return Limits(**values)


@lru_cache(maxsize=1)
def limits() -> Limits:
    """Return what this server's organiser allows, read once. Errors as `read_limits`."""
    return _told[-1] if _told else read_limits(os.environ)


def tell(found: Limits) -> None:
    """Have these hold in this process, which is a worker of a server: it does not read them itself."""
    _told[:] = [found]
    limits.cache_clear()


_told: list[Limits] = []

KINDS: Mapping[str, type] = {one.name: type(one.default) for one in fields(Limits)}
"""Of every key, the type of its value."""


def _file(environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    named = environment.get(FILE_VARIABLE, "")
    path = Path(named or FILE).expanduser()
    if not named and not path.is_file():
        return {}, FILE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); {FILE_VARIABLE} names it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}.") from None
    if unknown := sorted(found.keys() - KINDS.keys()):
        raise SettingsError(f"{path} has {unknown[0]!r}, which is no limit; there are {', '.join(KINDS)}.")
    return found, str(path)


def _read(name: str, text: str) -> object:
    """Return a variable's text as the value that a file would have; what does not read stays text."""
    text = text.strip()
    if KINDS[name] is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if KINDS[name] is str:
        return text
    if KINDS[name] is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return int(text) if text.isascii() and text.removeprefix("-").isdecimal() else text


def _checked(name: str, value: object, where: str) -> Any:
    if KINDS[name] is tuple:
        form, example = LISTS[name]
        if isinstance(value, list) and all(isinstance(one, str) and re.fullmatch(form, one) for one in value):
            return tuple(value)
        raise SettingsError(f"{name} is {value!r} in {where}; give a list such as {example}.")
    if name in CHOICES:
        if value in CHOICES[name]:
            return value
        raise SettingsError(f"{name} is {value!r} in {where}; give {' or '.join(map(repr, CHOICES[name]))}.")
    if KINDS[name] is str:
        if isinstance(value, str) and "\0" not in value:
            return value
        raise SettingsError(f"{name} is {value!r} in {where}; give a text.")
    if KINDS[name] is bool:
        if isinstance(value, bool):
            return value
        raise SettingsError(f"{name} is {value!r} in {where}; give true or false.")
    if type(value) is not int or not LEAST[name] <= value <= MOST[name]:
        raise SettingsError(
            f"{name} is {value!r} in {where}; give a whole number from {LEAST[name]:,} to {MOST[name]:,}."
        )
    return value
