"""An exported checkpoint pushed to the hub, and in one sentence why it was not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, get_session
from huggingface_hub import errors as hub_errors

from surgery_core.errors import InputError, ModelError
from surgery_core.models.hub import is_hub_id

PATIENCE = 120.0
"""Seconds without a sign of the hub after which it counts as out of reach; its own client waits for ever."""
_REASONS = {
    401: "the hub knows no valid token of yours; run `hf auth login`",
    402: "the hub asks for payment first; see your account on its page",
    403: "your token may not write there; make one that may, and run `hf auth login`",
    404: "the hub has no such place, or hides it from your token; check the name, and run `hf auth login`",
    409: "the repository was changed or made at the same moment",
    413: "the hub takes no files of this size",
    429: "the hub was asked too often; wait some minutes",
}
"""Why by the status of the hub's answer, and what to do first."""


def check_repo(name: str) -> None:
    """Refuse what is no name of a repository on the hub.

    Raises:
        InputError: it says what is.
    """
    if not is_hub_id(name):
        raise InputError(f"{name!r} is no name of a repository on the hub; write it as org/name.")


def push(folder: str | Path, repo: str, *, private: bool = True) -> str:
    """Push an exported folder to a repository on the hub, made where it is not there, and return its address.

    Raises:
        InputError: when that is no name of one.
        ModelError: when the hub refuses or cannot be reached; it says why, and how to push the folder later.
    """
    check_repo(repo)
    api = HfApi()
    try:
        with _patient():
            api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Made with Model Surgery")
    # what its client raises where an upload breaks off or an answer is none
    except (hub_errors.HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError, ValueError, LookupError) as error:
        again = shlex.join(["hf", "upload", repo, str(folder), *(["--private"] if private else [])])
        raise ModelError(
            f"{repo!r} was not pushed: {_reason(error)}; then push what is saved with `{again}`."
        ) from error
    return f"{api.endpoint}/{repo}"


@contextmanager
def _patient() -> Iterator[None]:
    session = get_session()
    before = session.timeout
    session.timeout = httpx2.Timeout(PATIENCE)
    try:
        yield
    finally:
        session.timeout = before


def _reason(error: BaseException) -> str:
    """Return why, and what to do first; never what the hub's client says, which may hold what was sent."""
    for one in _causes(error):
        if isinstance(one, hub_errors.HfHubHTTPError | httpx2.HTTPStatusError):
            status = one.response.status_code
            return _REASONS.get(status, f"the hub answered with error {status}; wait some minutes")
        if isinstance(one, hub_errors.OfflineModeIsEnabled):
            return "the hub is switched off (HF_HUB_OFFLINE); unset that"
        if isinstance(one, httpx2.TimeoutException):
            return "the hub does not answer; wait some minutes"
        if isinstance(one, httpx2.HTTPError):
            return "the hub cannot be reached, or the connection broke off; look at the network"
    return f"the upload broke off ({type(error).__name__}); look at the network"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
