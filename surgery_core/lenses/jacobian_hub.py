"""Jacobian lenses from the Hugging Face hub: Neuronpedia's collection, looked through for a model.

A lens lies in a folder of the collection's own naming, as `NAME_jacobian_lens.pt` or, fitted on a fixed number of texts,
`NAME_jacobian_lens_n1000.pt`, where NAME is the last part of the model's id; the `config.yaml` beside it says the whole id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import httpx2
import huggingface_hub as hub
from huggingface_hub import errors as hub_errors

from surgery_core.bounded import Unreadable, read_yaml
from surgery_core.errors import LensError

COLLECTION = "neuronpedia/jacobian-lens"
_UNREACHED = (httpx2.HTTPError, hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled, OSError)


@dataclass(frozen=True)
class Fetched:
    """A lens's file in the local cache, and the id of the model that it is of."""

    file: Path
    model: str


def fetch_jacobians(model: str, revision: str | None = None) -> Fetched:
    """Bring the lens of a model into the local cache, or find it there.

    Args:
        model: a hub id, `org/name`.
        revision: a branch, a tag or a commit of the collection; None for the main branch.

    Raises:
        LensError: when the collection has none for this model, or the hub cannot be reached.
    """
    try:
        for path in _candidates(model, hub.HfApi().list_repo_files(COLLECTION, revision=revision)):
            if _said_model(path, revision) in (None, model):
                return Fetched(Path(hub.hf_hub_download(COLLECTION, path, revision=revision)), model)
    except (hub_errors.RepositoryNotFoundError, hub_errors.RevisionNotFoundError):
        raise LensError(
            f"The hub has no {COLLECTION!r}{f' at {revision!r}' if revision else ''}; give a file."
        ) from None
    except _UNREACHED:
        raise LensError(
            f"The Jacobian lens of {model!r} cannot be fetched: the hub did not answer. Connect to the network, or give a "
            "file or folder."
        ) from None
    raise LensError(
        f"There is no Jacobian lens for {model!r} in {COLLECTION!r} on the hub; check the spelling, or fit one."
    )


def _candidates(model: str, files: list[str]) -> list[str]:
    """Return the files that may be a model's lens, those of the most texts first."""
    name = re.compile(re.escape(model.rpartition("/")[2]) + r"_jacobian_lens(?:_n(\d+))?\.pt", re.IGNORECASE)
    found = [(match, path) for path in files if (match := name.fullmatch(path.rpartition("/")[2]))]
    return [path for match, path in sorted(found, key=lambda one: (-int(one[0][1] or 0), one[1]))]


def _said_model(path: str, revision: str | None) -> str | None:
    """Return the id of the model that stands beside a lens, or None where none does."""
    beside = f"{path.rpartition('/')[0]}/config.yaml"
    try:
        file = hub.hf_hub_download(COLLECTION, beside, revision=revision)
        said = read_yaml(Path(file).read_text(encoding="utf-8"))
    except (hub_errors.RemoteEntryNotFoundError, Unreadable, UnicodeDecodeError):
        return None
    found = said.get("hf_model_name") if isinstance(said, dict) else None
    return found if isinstance(found, str) else None
