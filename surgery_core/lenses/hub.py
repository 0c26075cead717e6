"""Lenses from the Hugging Face hub, in the places where the tuned-lens library keeps them.

The library looks for the lens of a model `org/name` under `lens/org/name/` of one repository, the space
`AlignmentResearch/tuned-lens`, or what the environment variables TUNED_LENS_REPO_ID and TUNED_LENS_REPO_TYPE name. A
repository that is itself a lens, with `config.json` and the parameters at its top, is read too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import httpx2
import huggingface_hub as hub
from huggingface_hub import errors as hub_errors

from surgery_core.errors import LensError

COLLECTION, COLLECTION_TYPE = "AlignmentResearch/tuned-lens", "space"
CONFIG, SAFE, PICKLED = "config.json", "params.safetensors", "params.pt"
_ABSENT = (hub_errors.RemoteEntryNotFoundError, hub_errors.RepositoryNotFoundError, hub_errors.RevisionNotFoundError)


@dataclass(frozen=True)
class _Place:
    """A folder of a repository on the hub."""

    repository: str
    kind: str
    folder: str | None


def fetch_lens(name: str, revision: str | None = None) -> Path:
    """Bring a lens's two files into the local cache, or find them there, and return their folder.

    Args:
        name: id of a model that the collection has a lens for, or of a repository that is a lens: `org/name`.
        revision: a branch, a tag or a commit; None for the main branch.

    Raises:
        LensError: when there is none, or the hub cannot be reached and it was not downloaded before.
    """
    for place in _places(name):
        try:
            # the parameters first: a model's own repository has a config too, but no such file
            _download(place, (SAFE, PICKLED), revision)
            return _download(place, (CONFIG,), revision).parent
        except hub_errors.GatedRepoError:
            raise LensError(
                f"The lens {name!r} is gated: accept its terms on its page on the hub, run `hf auth login`, try again."
            ) from None
        except _ABSENT:
            continue
        except (httpx2.HTTPError, hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled, OSError):
            raise LensError(
                f"The lens {name!r} cannot be fetched: the hub did not answer, and it was not downloaded before. "
                "Connect to the network, or give a folder."
            ) from None
    raise LensError(
        f"There is no lens for {name!r} in {_places(name)[0].repository!r} on the hub, nor a repository of that name "
        "that is one; check the spelling, or train a lens."
    )


def _places(name: str) -> tuple[_Place, ...]:
    repository = os.environ.get("TUNED_LENS_REPO_ID") or COLLECTION
    kind = os.environ.get("TUNED_LENS_REPO_TYPE") or COLLECTION_TYPE
    return _Place(repository, kind, f"lens/{name}"), _Place(name, "model", None)


def _download(place: _Place, names: tuple[str, ...], revision: str | None) -> Path:
    """Return the first of the files that is there."""
    for last, name in enumerate(names, start=1 - len(names)):
        try:
            path = hub.hf_hub_download(
                place.repository, name, repo_type=place.kind, subfolder=place.folder, revision=revision
            )
            return Path(path)
        except (hub_errors.RemoteEntryNotFoundError, hub_errors.LocalEntryNotFoundError):
            if last == 0:
                raise
    raise AssertionError("there is at least one name")
