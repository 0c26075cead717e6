"""Models from the Hugging Face hub: what a repository holds, and its files in the local cache.

Only configuration, tokenizer and safetensors files are ever fetched, so that a pickle or a script in a repository
never reaches this machine. A revision is resolved to a commit first; every file then comes from that one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import httpx2
import huggingface_hub as hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import validate_repo_id

from surgery_core.errors import ModelLoadError
from surgery_core.models.adapter_checkpoint import CONFIG as ADAPTER_CONFIG
from surgery_core.models.adapter_checkpoint import WEIGHTS as ADAPTER
from surgery_core.models.adapter_checkpoint import is_adapter, read_adapter_config, require_weights
from surgery_core.models.checkpoint import (
    INDEX,
    SINGLE,
    Config,
    choose_weights,
    index_files,
    read_config,
    require_tokenizer,
)

_TEXT_FILES = ("*.json", "*.txt", "*.jinja", "tokenizer.model", "spiece.model", "README.md")
_TIMEOUT = 10.0
# the hub's storage client, which is compiled, raises RuntimeError
_BROKEN_CONNECTION = (httpx2.HTTPError, hub_errors.LocalEntryNotFoundError, hub_errors.XetDownloadError, RuntimeError)


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository in the local cache.

    Attributes:
        path: the folder of its files, or the one file that was asked for.
        revision: the commit's hash.
    """

    path: Path
    revision: str


def is_hub_id(name: str) -> bool:
    """Return whether `name` has the form `org/name` that the hub uses."""
    try:
        validate_repo_id(name)
    except hub_errors.HFValidationError:
        return False
    return "/" in name


def hub_file(name: str) -> tuple[str, str] | None:
    """Return repository and file of a GGUF file on the hub, from `org/name:file.gguf` or `org/name/file.gguf`."""
    repository, _, file = name.partition(":")
    if not file:
        parts = name.split("/")
        repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    inside = file and not {"", ".", ".."} & set(file.split("/"))
    return (repository, file) if inside and file.lower().endswith(".gguf") and is_hub_id(repository) else None


def fetch_gguf(name: str, place: tuple[str, str], revision: str | None, check: Callable[[int], None]) -> Snapshot:
    """Bring one GGUF file into the local cache, or find it there when there is no network.

    Args:
        name: what the person typed.
        place: repository and file, as `hub_file` returns them.
        revision: a branch, a tag or a commit; None for the main branch.
        check: called with the file's bytes before it is fetched; it raises to refuse the model.

    Raises:
        ModelLoadError: missing, gated, or not reachable and not in the cache.
    """
    repository, file = place
    try:
        with _explained(repository, revision):
            info = hub.HfApi().model_info(repository, revision=revision, timeout=_TIMEOUT, files_metadata=True)
            sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
            if file not in sizes:
                raise _no_file(repository, file, sizes)
            check(sizes[file])
            folder = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=[escape(file)]))
    except _Unreachable as problem:
        return cached_gguf(name, place, revision, str(problem))
    return Snapshot(folder / file, folder.name)


def _no_file(repository: str, file: str, sizes: Iterable[str]) -> ModelLoadError:
    others = sorted(one for one in sizes if one.lower().endswith(".gguf"))
    have = f"it has {', '.join(others[:8])}" if others else "it has no GGUF file at all"
    return ModelLoadError(f"{repository!r} on the hub has no file {file!r}; {have}.")


def cached_gguf(name: str, place: tuple[str, str], revision: str | None, problem: str) -> Snapshot:
    """Find one GGUF file in the local cache.

    Args:
        name, place, revision: as for `fetch_gguf`.
        problem: why it is looked for there, as the beginning of a sentence.

    Raises:
        ModelLoadError: when it is not there.
    """
    repository, file = place
    try:
        wanted = [escape(file)]
        folder = Path(
            hub.snapshot_download(repository, revision=revision, local_files_only=True, allow_patterns=wanted)
        )
    except hub_errors.LocalEntryNotFoundError:
        raise _not_here(name, problem) from None
    if not (folder / file).is_file():
        raise _not_here(name, problem)
    return Snapshot(folder / file, folder.name)


def _not_here(name: str, problem: str) -> ModelLoadError:
    return ModelLoadError(
        f"{problem}, and {name!r} has not been downloaded before; "
        "connect to the network or try again later, or choose a model from the list."
    )


def fetch(name: str, revision: str | None, check: Callable[[Config | None, int], None]) -> Snapshot:
    """Bring a model's files into the local cache, or find them there when there is no network.

    Args:
        name: the hub id, `org/name`.
        revision: a branch, a tag or a commit; None for the main branch.
        check: called with the config (None for an adapter) and the bytes of the weight files before any of those is
            fetched; it raises to refuse the model.

    Raises:
        ModelLoadError: missing, gated, without safetensors, or not reachable and not in the cache.
    """
    try:
        with _explained(name, revision):
            info = hub.HfApi().model_info(name, revision=revision, timeout=_TIMEOUT, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
            commit = str(info.sha)
            weights = _wanted_weights(name, commit, sizes)
            config = None if weights == (ADAPTER,) else _config(name, commit)
            check(config, sum(sizes.get(file, 0) for file in weights))
            return _download(name, revision, weights)
    except _Unreachable as problem:
        return _cached(name, revision, str(problem))


def _wanted_weights(name: str, commit: str, sizes: dict[str, int]) -> tuple[str, ...]:
    """Return the weight files to fetch, after refusing a repository that cannot be opened."""
    if is_adapter(sizes):
        return _adapter_weights(name, commit, sizes)
    packed = sorted(file for file in sizes if file.lower().endswith(".gguf"))
    if packed and not {SINGLE, INDEX} & sizes.keys():
        raise ModelLoadError(f"{name!r} on the hub has only GGUF files; give one of them, such as {name}:{packed[0]}.")
    if "config.json" not in sizes:
        raise ModelLoadError(
            f"{name!r} on the hub has no config.json, so it is not a transformers model; choose another."
        )
    first = choose_weights(sizes, name)
    require_tokenizer(sizes, name)
    if first == SINGLE:
        return (SINGLE,)
    index = index_files(Path(hub.hf_hub_download(name, INDEX, revision=commit)), name)
    missing = [file for file in index if file not in sizes]
    if missing:
        raise ModelLoadError(f"{name!r} on the hub is incomplete: {missing[0]} is missing; choose another model.")
    return index


def _adapter_weights(name: str, commit: str, sizes: Iterable[str]) -> tuple[str, ...]:
    """Return the weight file of an adapter, after refusing one that cannot be opened."""
    require_weights(sizes, name)
    read_adapter_config(Path(hub.hf_hub_download(name, ADAPTER_CONFIG, revision=commit)).parent, name)
    return (ADAPTER,)


def _config(name: str, commit: str) -> Config:
    return read_config(Path(hub.hf_hub_download(name, "config.json", revision=commit)), name)


def _download(name: str, revision: str | None, weights: tuple[str, ...]) -> Snapshot:
    folder = hub.snapshot_download(
        name, revision=revision, allow_patterns=[*_TEXT_FILES, *weights], ignore_patterns=["*/*"]
    )
    # the cache names a snapshot's folder by its commit, and remembers which branch or tag led there
    return Snapshot(Path(folder), Path(folder).name)


def _cached(name: str, revision: str | None, problem: str) -> Snapshot:
    try:
        folder = Path(
            hub.snapshot_download(
                name,
                revision=revision,
                local_files_only=True,
                allow_patterns=["config.json", SINGLE, INDEX, ADAPTER_CONFIG, ADAPTER],
            )
        )
    except hub_errors.LocalEntryNotFoundError:
        raise _not_here(name, problem) from None
    return Snapshot(folder, folder.name)


class _Unreachable(Exception):
    """The hub did not answer; says why, as the start of a sentence."""


@contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub's client raises into one sentence that says what to do."""
    try:
        yield
    except hub_errors.GatedRepoError as error:
        raise ModelLoadError(
            f"{name!r} is gated: accept its terms on its page on the hub, "
            "run `hf auth login` on this machine, then try again."
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise ModelLoadError(
            f"{name!r} has no revision {revision!r}; leave the revision out to take the newest."
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ModelLoadError(
            f"There is no public model {name!r} on the hub; "
            "check the spelling, or run `hf auth login` if it is private."
        ) from error
    except hub_errors.OfflineModeIsEnabled as error:
        raise _Unreachable("The hub is switched off (HF_HUB_OFFLINE)") from error
    except hub_errors.HfHubHTTPError as error:
        raise _refusal(name, error) from error
    except _BROKEN_CONNECTION as error:
        raise _Unreachable("The hub cannot be reached") from error
    except OSError as error:
        raise ModelLoadError(
            f"{name!r} could not be stored: {error.strerror or error}; free some disk space, then try again."
        ) from error


def _refusal(name: str, error: hub_errors.HfHubHTTPError) -> Exception:
    status = error.response.status_code
    if status in (401, 403):
        return ModelLoadError(
            f"The hub denies access to {name!r}; accept its terms on its page, "
            "run `hf auth login` on this machine, then try again."
        )
    if status == 404:
        return ModelLoadError(f"There is no public model {name!r} on the hub; check the spelling.")
    if status == 429:
        return _Unreachable("The hub answered that there are too many requests (error 429)")
    return _Unreachable(f"The hub answered with error {status}")
