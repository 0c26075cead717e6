"""What happens once, when the server starts: models given on the command line, and the first one opened ahead."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery_core.errors import SettingsError
from surgery_core.models.offered import FOLDERS_VARIABLE
from surgery_ui.session.first import FIRST_VARIABLE, default_prompt, first_model

if TYPE_CHECKING:
    from surgery_core.models.opening import LoadedModel
    from surgery_ui.work.job import Job

M_ARENA_MAX, ARENAS = -8, 2
"""glibc's number for the most places that memory is taken from (`mallopt`, malloc.h), and how many."""
_log = logging.getLogger(__name__)
UNCAUGHT = "Uncaught app execution"
"""What Streamlit says of an error of a page, with all that is known of it."""


def check_limits() -> None:
    """Read what the organiser allows.

    Raises:
        SystemExit: where that cannot be read; the server does not start.
    """
    from surgery_ui.work.limits import limits

    try:
        allowed = limits()
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    if not allowed.hub:
        # an adapter names its base, and a model of the cache its branch: nothing of either is asked for
        os.environ["HF_HUB_OFFLINE"] = "1"
    if allowed.allowed and first_model() not in allowed.allowed:
        os.environ[FIRST_VARIABLE] = allowed.allowed[0]


def offer(paths: Sequence[str]) -> None:
    """Offer the checkpoints in these folders, and open the first one at first: `streamlit run app.py -- FOLDER`.

    Raises:
        SystemExit: where there is no such folder; the server does not start.
    """
    folders = [Path(path).expanduser().resolve() for path in paths]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise SystemExit(
            f"There is no folder {', '.join(missing)}. Give the folder of a checkpoint, or one with several."
        )
    if folders:
        listed = filter(None, os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep))
        os.environ[FOLDERS_VARIABLE] = os.pathsep.join([*map(str, folders), *listed])
        if (folders[0] / "config.json").is_file():
            os.environ[FIRST_VARIABLE] = folders[0].name


def quieten() -> None:
    """Have Streamlit not print errors of pages, which may have what a person wrote; `tell_of` prints them without."""
    logging.getLogger("streamlit.error_util").addFilter(lambda record: record.getMessage() != UNCAUGHT)


def share_memory() -> bool:
    """Have all threads take memory from few places, where the C library can be told so (glibc); return whether it was.

    Otherwise each thread has a place of its own and keeps what it once needed there: a server whose texts give way to
    each other has dozens of threads.
    """
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS))


def tell_of(error: Exception) -> bool:
    """Write that a page failed, and say so on it with the id that the log and the organiser's page have."""
    import streamlit as st

    from surgery_ui.work.diary import note_fault

    fault = note_fault(error, "page")
    st.error(
        f"Something went wrong on the server (error {fault.id}); its log has the details. Reload the page; your plan is in "
        "its address."
    )
    return True


def prewarm() -> threading.Thread:
    """Import the heavy libraries, open the first model and compute its base side, in a thread of their own."""
    thread = threading.Thread(target=_run, name="prewarm", daemon=True)
    thread.start()
    return thread


def _run() -> None:
    try:
        warm()
    except Exception:  # noqa: BLE001 - the server must come up; the first session shows what is wrong
        _log.exception("The first model could not be opened in advance.")


def warm() -> None:
    """Do the work of `prewarm` and wait for it."""
    from surgery_core.models.devices import use_threads
    from surgery_core.statistics import get_ready
    from surgery_ui.work import plan_jobs as cached

    use_threads(1)
    opening = cached.model_job("prewarm", first_model())
    opening.wait()
    # What is there now lives as long as the process; the garbage collector need not look at it again.
    gc.freeze()
    for job in (*_first_page(opening.result), cached.preflight_job("prewarm", opening.result)):
        while not job.wait(1.0):
            job.look()
    get_ready()


def _first_page(loaded: LoadedModel) -> list[Job[Any]]:
    """Request what the first page shows, and the first preset, so that the first edit finds everything warm."""
    from surgery_core.plans.generation_settings import GenerationSettings
    from surgery_core.plans.plan import LayerPlan
    from surgery_core.plans.presets import PRESETS
    from surgery_core.text import bundled_texts, has_chat_template
    from surgery_ui.work import plan_jobs as cached
    from surgery_ui.work.kinds import Lane

    texts, prompt, settings = (
        bundled_texts(),
        default_prompt(),
        GenerationSettings(chat=has_chat_template(loaded.tokenizer)),
    )
    plans = (LayerPlan.identity(loaded.info.n_layers), PRESETS[0].apply(loaded.info.n_layers))
    jobs: list[Job[Any]] = [cached.table_job("prewarm", Lane.TABLE_AHEAD, loaded, texts)]
    for lane, plan in zip((Lane.TEXT_BEFORE, Lane.TEXT_AFTER), plans, strict=True):
        jobs.append(cached.text_job("prewarm", lane, loaded, plan, prompt, settings))
    return [*jobs, cached.comparison_job("prewarm", Lane.SCORES, loaded, plans[1], texts)]
