"""What happens once, in the background, when the server starts."""

from __future__ import annotations

import gc
import logging
import threading

_log = logging.getLogger(__name__)


def start() -> threading.Thread:
    """Import the heavy libraries, open the default model and compute its base side, in a thread of their own."""
    thread = threading.Thread(target=_run, name="prewarm", daemon=True)
    thread.start()
    return thread


def _run() -> None:
    try:
        warm()
    except Exception:  # noqa: BLE001 - the server must come up; the first session shows what is wrong
        _log.exception("The default model could not be opened in advance.")


def warm() -> None:
    """Do the work of `start` and wait for it."""
    from surgery_core.devices import use_threads
    from surgery_core.generate import GenerationSettings
    from surgery_core.models import DEFAULT_MODEL
    from surgery_core.plan import LayerPlan
    from surgery_core.text import bundled_prompts, bundled_texts
    from surgery_ui import cached

    use_threads(1)
    # What was imported lives as long as the process; the garbage collector need not look at it again.
    gc.freeze()
    opening = cached.model_job("prewarm", DEFAULT_MODEL)
    opening.wait()
    loaded = opening.result
    plan = LayerPlan.identity(loaded.info.n_layers)
    jobs = [cached.table_job("prewarm", "table", loaded, bundled_texts())]
    for prompt in bundled_prompts()[:1]:
        jobs.append(cached.text_job("prewarm", "text", loaded, plan, prompt.text, GenerationSettings()))  # type: ignore[arg-type]
    for job in jobs:
        while not job.wait(1.0):
            job.look()
