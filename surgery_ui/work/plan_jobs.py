"""What is computed once and shared: models, the base side, texts and comparisons.

Everything is keyed on the model's key (name, revision, dtype, device), the plan's notation, the text and the
settings, and everything is bounded. Results live in the pool that computed them.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st

from surgery_core.errors import RefusedPlanError, TextError
from surgery_core.measure.compare import Reference, compare, reference
from surgery_core.measure.generation import Generation, complete
from surgery_core.measure.results import Comparison, ScoreTable
from surgery_core.models.offered import ModelChoice, list_models, offered, path_of, stamp_of
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.nearest import nearest_plan
from surgery_core.proof.preflight import PreflightReport, preflight, prove
from surgery_core.states.means import mean_contributions
from surgery_core.states.shared_prompt import SharedPrompt
from surgery_core.stopping import Progress, looking
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.ingredients import Ingredients, Means
from surgery_core.surgery.recording import watched
from surgery_core.surgery.stitches import Stitches
from surgery_core.surgery.view import operate
from surgery_core.suture.calibration import calibration_texts, check_apart
from surgery_core.suture.report import StitchReport, stitch_report
from surgery_core.suture.stitch import stitch
from surgery_core.text import Text, TextSet, bundled_texts, encode
from surgery_core.text_sources.counts import TextCounts, count_texts
from surgery_ui.work.asked import Named
from surgery_ui.work.engine import ENGINE
from surgery_ui.work.healed import HEALED, is_healed
from surgery_ui.work.job import Job, Key, Work
from surgery_ui.work.kept import Kept
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.limits import MB, limits
from surgery_ui.work.pool import Pool
from surgery_ui.work.task import Task

OPENED_AT_ONCE = 4
"""Models that are fetched at a time: nobody waits for somebody else's slow hub. Their weights are read one after the other."""
MODELS = Pool(OPENED_AT_ONCE, kinds_of(Workers.MODELS), Workers.MODELS)
WORK = Pool(
    limits().at_once, kinds_of(Workers.WORK), Workers.WORK, limits().cache_mb * MB * 3 // 4,
    elsewhere=ENGINE.sender(Workers.WORK),
)  # fmt: skip
AGAIN = 5.0
"""Seconds for which a model that could not be opened is not tried again: every run of a page asks for it."""
MAX_OWN_TEXTS = 64
MAX_OWN_SETS = 48
MAX_STITCHED = 16
"""Plans of which the fitted projections are kept: one projection for each of their stitches."""
MAX_PROMPTS = 2
"""Prompts of which it is kept what models have read of them, up to 128 MB each."""


_means: Kept[Means] = Kept(4)
_stitches: Kept[StitchReport] = Kept(MAX_STITCHED)
_prompts: Kept[SharedPrompt] = Kept(MAX_PROMPTS)
_own_texts: Kept[Text] = Kept(MAX_OWN_TEXTS)
_own_sets: Kept[TextSet] = Kept(MAX_OWN_SETS)


def model_job(owner: str, name: str, place: str = "") -> Job[LoadedModel]:
    """Open a model that may be opened here, again where its files have changed since; a healed one for its owner alone.

    `place` is who asks where that is not its owner.
    """
    place = place or owner
    if is_healed(name):
        return MODELS.request(
            place, Lane.MODEL, ("model", name, owner), lambda job: _opened_healed(owner, name), anew=True
        )
    # what was opened under other limits is not open under these; what is open needs its files no more
    key = ("model", name, stamp_of(name) or _stamp_when_opened(name), limits())
    MODELS.forget(lambda other: other[:2] == key[:2] and other != key)
    failed = MODELS.outcome(key)
    if failed is not None and failed.error is not None and time.monotonic() - (failed.ended or 0.0) > AGAIN:
        failed.refuse_reuse()
    return MODELS.request(place, Lane.MODEL, key, lambda job: _opened(name), anew=True)


def _stamp_when_opened(name: str) -> str:
    """Return the stamp of a model that is open and whose files are gone, or an empty one."""
    keys = [job.key for job in MODELS.finished("model") if job.key[1] == name]
    return next((str(key[2]) for key in keys if key[3:] == (limits(),)), "")


def choices() -> tuple[ModelChoice, ...]:
    """Return the models that lie ready and may be opened here."""
    allowed = limits().allowed
    return tuple(one for one in list_models() if not allowed or one.name in allowed)


def _opened(name: str) -> LoadedModel:
    allowed = limits()
    allowed.check_model(name, lambda one: one in offered() or (allowed.paths and path_of(one) is not None))
    if ENGINE.elsewhere:
        return ENGINE.open(Named(name))
    most = allowed.model_mb * MB if allowed.model_mb else None
    return load_model(name, allow_paths=allowed.paths, most_bytes=most)


def _opened_healed(owner: str, name: str) -> LoadedModel:
    if ENGINE.elsewhere:
        return ENGINE.open(Named(name, healed=HEALED.owned(owner, name)))
    return HEALED.opened(owner, name)


def may_see(owner: str, name: str) -> bool:
    """Return whether a session may know of an open model: of every one but those that others have healed."""
    return not is_healed(name) or any(one.name == name for one in HEALED.of(owner))


def open_models() -> list[LoadedModel]:
    """Return the models that are in memory."""
    return [job.result for job in MODELS.finished("model")]


ENGINE.models = open_models


def donors(plan: LayerPlan) -> dict[str, LoadedModel]:
    """Return the open models that a plan takes layers from; one that is not open is left out."""
    return {one.info.name: one for one in open_models() if one.info.name in plan.donors} if plan.donors else {}


def plan_key(plan: LayerPlan) -> tuple[Hashable, ...]:
    """Return what a cache must key a plan on: its notation, and which models its donors are."""
    return str(plan), *sorted(donor.info.key for donor in donors(plan).values())


def ingredients(loaded: LoadedModel, plan: LayerPlan, stop: threading.Event | None = None) -> Ingredients:
    """Return the open donors, the means and the stitches that a plan asks for; the latter are computed on first use.

    Raises:
        RefusedPlanError: when a stitch cannot be made, or makes nothing better.
        Stopped: when `stop` was set while stitches were fitted.
    """
    averaged = any(layer.mean for slot in plan for layer in slot.layers)
    means = mean_side(loaded) if averaged else None
    stitches = None if plan == plan.unstitched else stitched_side(loaded, plan, stop)
    return Ingredients({name: one.model for name, one in donors(plan).items()}, means, stitches)


def view(loaded: LoadedModel, plan: LayerPlan, stop: threading.Event | None = None) -> Any:
    """Return the model that a plan describes, with the means, donors and stitches that it asks for.

    Raises:
        PlanError: when the plan cannot run on this model, or names a model that is not open.
        Stopped: when `stop` was set while stitches were fitted.
    """
    return operate(loaded.model, plan, **ingredients(loaded, plan, stop).named)


def text_job(
    owner: str, lane: str, loaded: LoadedModel, plan: LayerPlan, prompt: str, settings: GenerationSettings
) -> Job[Generation]:
    """Continue a prompt under a plan; the job's text grows while it runs."""
    key = ("text", loaded.info.key, plan_key(plan), prompt, settings)
    return WORK.request(owner, lane, key, Task(_write, loaded, plan, prompt, settings), _needed_stitches(loaded, plan))


def _write(
    job: Job[Generation], loaded: LoadedModel, plan: LayerPlan, prompt: str, settings: GenerationSettings
) -> Generation:
    job.raise_what_failed()
    key = id(loaded.model), prompt, settings.chat, settings.system
    shared = _prompts.get(key, lambda: SharedPrompt(loaded.model))
    return written(
        loaded, view(loaded, plan, job.stop), prompt, settings, on_text=job.write, stop=job.stop,
        on_progress=job.report, shared=shared,
    )  # fmt: skip


def written(
    loaded: LoadedModel, model: Any, prompt: str, settings: GenerationSettings, *, on_text: Callable[[str], None],
    stop: threading.Event, on_progress: Progress, shared: SharedPrompt | None = None,
) -> Generation:  # fmt: skip
    """Return what a model or a view writes behind a prompt, as `complete`; it stops before the next layer, not token."""
    look = looking(stop)
    with watched(find_layers(model)[1], lambda number, call: look()):
        return complete(
            model,
            loaded.tokenizer,
            prompt,
            settings,
            on_text=on_text,
            stop=stop,
            shared=shared,
            on_progress=on_progress,
        )


def let_go(name: str, key: Key) -> None:
    """Forget a model, what was kept that holds it, and what models have read of prompts, which may be much."""
    MODELS.forget(lambda other: other[0] == "model" and other[1] == name)
    WORK.forget(lambda other: other[0] == "base" and other[1] == key)
    _prompts.clear()


def table_job(owner: str, lane: str, loaded: LoadedModel, texts: tuple[Text, ...]) -> Job[ScoreTable]:
    """Score texts under the unchanged model."""
    return WORK.request(owner, lane, ("table", loaded.info.key, texts), Task(_table), _base_side(loaded, texts))


def _table(job: Job[ScoreTable]) -> ScoreTable:
    table: ScoreTable = job.needs[0].result.table
    return table


def comparison_job(
    owner: str, lane: str, loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...]
) -> Job[Comparison]:
    """Compare a plan with the unchanged model over texts."""
    key = ("comparison", loaded.info.key, plan_key(plan), texts)
    needs = _base_side(loaded, texts) | _needed_stitches(loaded, plan)
    return WORK.request(owner, lane, key, Task(_compare, loaded, plan, texts), needs)


def _compare(job: Job[Comparison], loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...]) -> Comparison:
    if plan != plan.unstitched:
        check_apart(calibration_texts(), texts)
    job.raise_what_failed()
    base, model = job.needs[0].result, view(loaded, plan, job.stop)
    found = compare(base, model, loaded.tokenizer, texts, stop=job.stop, on_progress=job.report)
    # verdicts of many texts take a while; the comparison keeps them for the page, which must not wait
    found.frame(), found.verdict()
    return found


def _base_side(loaded: LoadedModel, texts: tuple[Text, ...]) -> dict[Key, Work[Reference]]:
    """Return the work that scores texts under the unchanged model, once for every plan that is compared with it."""
    # What was kept of a model that has been closed would hold it in memory.
    here = {loaded.info.key, *(one.info.key for one in open_models())}
    WORK.forget(lambda key: key[0] == "base" and key[1] not in here)
    return {("base", loaded.info.key, texts): Task(_base, loaded, texts)}


def _base(job: Job[Reference], loaded: LoadedModel, texts: tuple[Text, ...]) -> Reference:
    return reference(loaded.model, loaded.tokenizer, texts, stop=job.stop, on_progress=job.report)


def plan_seconds(loaded: LoadedModel, texts: tuple[Text, ...], plan: LayerPlan) -> float | None:
    """Return how long a plan is scored on texts at most: as long for each layer as the unchanged model, where that is known."""
    base = WORK.outcome(("base", loaded.info.key, texts))
    if base is None or base.took is None:
        return None
    layers = sum(len(slot.layers) for slot in plan)
    return base.took * max(1.0, layers / max(1, plan.n_layers))


def preflight_job(owner: str, loaded: LoadedModel) -> Job[PreflightReport]:
    """Find out, once for each model, whether surgery on it can be trusted."""
    return WORK.request(owner, Lane.PREFLIGHT, ("preflight", loaded.info.key), Task(_preflight, loaded))


def _preflight(job: Job[PreflightReport], loaded: LoadedModel) -> PreflightReport:
    return preflight(loaded.model, loaded.tokenizer, stop=job.stop, on_progress=job.report)


def proof_key(loaded: LoadedModel, plan: LayerPlan) -> tuple[Hashable, ...]:
    """Return the key under which it is kept whether a plan's numbers are right."""
    return "proof", loaded.info.key, plan_key(plan)


def proof_job(owner: str, lane: str, loaded: LoadedModel, plan: LayerPlan) -> Job[PreflightReport]:
    """Find out, once for each plan, whether its numbers are right; the job's error is the refusal."""
    work = Task(_prove, loaded, plan)
    return WORK.request(owner, lane, proof_key(loaded, plan), work, _needed_stitches(loaded, plan))


def _prove(job: Job[PreflightReport], loaded: LoadedModel, plan: LayerPlan) -> PreflightReport:
    job.raise_what_failed()
    given = ingredients(loaded, plan, job.stop)
    return prove(loaded.model, loaded.tokenizer, plan, **given.named, stop=job.stop, on_progress=job.report)


def refusal(loaded: LoadedModel, plan: LayerPlan) -> RefusedPlanError | None:
    """Return why a plan is refused, where that has been found out; nothing is computed."""
    job = None if plan.is_identity else WORK.outcome(proof_key(loaded, plan))
    return job.error if job is not None and isinstance(job.error, RefusedPlanError) else None


def nearest_job(owner: str, loaded: LoadedModel, plan: LayerPlan) -> Job[LayerPlan | None]:
    """Look for the nearest plan that is allowed."""
    key = ("nearest", loaded.info.key, plan_key(plan))
    return WORK.request(owner, Lane.PROOF, key, Task(_nearest, loaded, plan))


def _nearest(job: Job[LayerPlan | None], loaded: LoadedModel, plan: LayerPlan) -> LayerPlan | None:
    try:
        given = ingredients(loaded, plan, job.stop)
    except RefusedPlanError as refused:
        # of stitches that make nothing better the refusal names the plan that is left
        return refused.nearest if isinstance(refused.nearest, LayerPlan) else plan.unstitched
    return nearest_plan(loaded.model, loaded.tokenizer, plan, given, stop=job.stop, on_progress=job.report)


def _needed_stitches(loaded: LoadedModel, plan: LayerPlan) -> dict[Key, Work[Any]]:
    """Return the work that a plan's stitches take, once for all that is shown of it; nothing where it has none."""
    if plan == plan.unstitched:
        return {}
    return {("stitches", loaded.info.key, str(plan)): Task(_stitches_of, loaded, plan)}


def _stitches_of(job: Job[Stitches], loaded: LoadedModel, plan: LayerPlan) -> Stitches:
    return stitched_side(loaded, plan, job.stop, job.report)


def stitched_side(
    loaded: LoadedModel, plan: LayerPlan, stop: threading.Event | None = None, on_progress: Progress | None = None
) -> Stitches:  # fmt: skip
    """Return the stitches of a plan, fitted once on the bundled stories.

    Raises:
        RefusedPlanError: when one cannot be made, or makes nothing better.
        Stopped: when `stop` was set.
    """

    def fitted() -> StitchReport:
        return stitch_report(
            stitch(loaded.model, plan, loaded.tokenizer, calibration_texts(), stop=stop, on_progress=on_progress)
        )

    report = _stitches.get((loaded.info.key, str(plan)), fitted)
    if report.stitches.plan != plan:
        raise RefusedPlanError(report.sentence, report.stitches.plan)
    return report.stitches


def mean_side(loaded: LoadedModel) -> Means:
    """Return the mean contributions of the unchanged model's layers over the bundled texts, made once."""
    return _means.get(loaded.info.key, lambda: mean_contributions(loaded.model, loaded.tokenizer, bundled_texts()))


def count_tokens(loaded: LoadedModel, text: Text) -> int:
    """Return how many tokens a model reads a text as; counted once for each text."""
    digest = hashlib.sha256(text.text.encode("utf-8", "surrogatepass")).digest()
    return _token_count((*loaded.info.key, str(text.formatted)), digest, text, loaded)


@st.cache_data(max_entries=256, show_spinner=False)
def _token_count(key: tuple[str, ...], digest: bytes, _text: Text, _loaded: LoadedModel) -> int:
    return len(encode(_loaded.tokenizer, _text, least=0))


def count_job(owner: str, loaded: LoadedModel, texts: tuple[Text, ...]) -> Job[TextCounts]:
    """Count the tokens of texts."""
    return WORK.request(owner, Lane.TEXT_COUNTS, ("counts", loaded.info.key, texts), Task(_count, loaded, texts))


def _count(job: Job[TextCounts], loaded: LoadedModel, texts: tuple[Text, ...]) -> TextCounts:
    return count_texts(loaded.tokenizer, texts, stop=job.stop, on_progress=job.report)


def keep_own_set(chosen: TextSet) -> None:
    """Keep a person's set of texts on the server, under its name, by which a reload or a link finds it again."""
    _own_sets.put(chosen.name, chosen)


def own_set(name: str) -> TextSet | None:
    """Return the set that was kept under a name, or None where the server no longer has it."""
    return _own_sets.find(name)


def keep_own_text(text: Text) -> str:
    """Keep a person's text on the server and return the id under which a reload or a link finds it again."""
    digest = hashlib.sha256(f"{text.title}\0{text.text}".encode()).hexdigest()[:32]
    _own_texts.put(digest, text)
    return digest


def own_text(digest: str) -> Text:
    """Return the text that was kept under an id.

    Raises:
        TextError: when the server no longer has it.
    """
    if (found := _own_texts.find(digest)) is None:
        raise TextError("The text of this link is no longer on the server; paste or upload it again.")
    return found
