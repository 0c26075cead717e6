"""One person's session: the model, the plan with undo and redo, the texts, and the address that restores them.

The plan is held here and in the address (`?model=...&plan=...`). A run begins with `begin()`: it takes over an
address that changed (a link, a hand edit, the browser's back button), opens the model, and writes the address back.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import streamlit as st

from surgery_core.errors import SurgeryError, TextError
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.statistics.verdict import MARGIN
from surgery_core.surgery.view import check_plan
from surgery_core.text import EACH, FIRST_SET, Text, TextSet, text_sets
from surgery_ui.session import echo, own_texts, plans, room, switching, tray
from surgery_ui.session.address import LOOKS, MAX_COMMENT, SHARED_LENSES, Address
from surgery_ui.session.first import default_prompt, first_model
from surgery_ui.session.history import History
from surgery_ui.session.memory import TABS
from surgery_ui.session.state import State, state, to_keep
from surgery_ui.work import closing
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.channel import Channel
from surgery_ui.work.diary import note, note_refusal

ADDRESS_DELAY = 0.3
"""Seconds within which a browser that was told a new address may still send the old one by itself."""


@dataclass(frozen=True)
class Experiment:
    """What a page works on in one run."""

    owner: str
    loaded: LoadedModel
    plan: LayerPlan

    @property
    def identity(self) -> LayerPlan:
        """Return the plan of the unchanged model."""
        return LayerPlan.identity(self.plan.n_layers)

    @property
    def is_stitched(self) -> bool:
        """Return whether the plan has stitches, so that it can be seen beside the plain cut."""
        return self.plan != self.plan.unstitched


def begin() -> None:
    """Start a run: take over the address, open the model, write the address."""
    if not State.owner.is_set:
        state.owner = state.session = uuid.uuid4().hex
        state.channel = Channel()  # by which sessions are counted too
    parameters = st.query_params.to_dict()
    if fresh := state.address is None:
        state.came_bare = not parameters
    if fresh or _is_news(parameters):
        _adopt(Address.read(parameters), fresh=fresh)
    room.pin()
    switching.open_model()
    _compare_revision()
    _take_plan()
    _take_tray()
    if (now := experiment()) is not None:
        used = now.plan.donors.union(*(one.plan.donors for one in tray.kept()))
        closing.note_use(now.owner, used | {now.loaded.info.name})
    _write_address()
    if state.tab_token is not None:
        TABS.keep(state.tab_token, state.session, to_keep())
    state.edited = False


def presents() -> bool:
    """Return whether type is larger; also before the address of a new session was taken over."""
    return state.present if state.address is not None else st.query_params.get("present") == "1"


def experiment() -> Experiment | None:
    """Return the model and plan of this session, or None where no model could be opened."""
    loaded = state.loaded
    return None if loaded is None else Experiment(state.owner, loaded, state.history.plan)


def require() -> Experiment:
    """Return the model and plan of this session; a run without a model ends here."""
    found = experiment()
    if found is None:
        st.stop()
    return found


def address() -> Address:
    """Return the address that restores this session."""
    now = experiment()
    return Address(
        model=now.loaded.info.name if now else None,
        plan=str(now.plan) if now else None,
        prompt=state.prompt if state.prompt != default_prompt() else None,
        lens=state.lens if state.lens != default_prompt() else None,
        own=state.own,
        settings=state.settings,
        chat=state.chat,
        system=state.system or None,
        texts=state.text_set if state.text_set != FIRST_SET else None,
        cut=state.cut,
        margin=state.margin,
        look=_look(),
        comment=state.comment or None,
        tray=(tray.written() if now else "") or None,
        recipe=state.recipe_open,
        present=state.present,
        room=state.room or None,
    )


def link() -> Address:
    """Return the address for somebody else: with the person's own text, and the revision that figures are of.

    How large type is belongs to the person's own screen.
    """
    now = experiment()
    return replace(
        address(), present=None, room=None, text=own_text(), revision=now.loaded.info.revision[:12] if now else None
    )


def own_text() -> Text | None:
    """Return the person's own text, if there is one."""
    if state.own is None:
        return None
    try:
        return cached.own_text(state.own)
    except TextError as error:
        state.own = None
        state.problems["own"] = error
        return None


def text_set() -> TextSet:
    """Return the set of texts that plans are scored on; the first where the server has let go of it."""
    _require_set()
    return own_texts.find(state.text_set) or text_sets()[FIRST_SET]


def scored_texts() -> tuple[Text, ...]:
    """Return what plans are scored on: the texts of the set, each for itself or as papers do it."""
    return text_set().scored(state.cut)


def history() -> History:
    """Return the plans of this session for the open model."""
    return plans.current()


def change(control: str, edit: Callable[[LayerPlan], LayerPlan]) -> bool:
    """Change the plan by an edit that a control asked for; an error stays beside that control.

    Returns:
        Whether the edit was possible.
    """
    touch()
    problems = state.problems
    problems.pop(control, None)
    try:
        plan = edit(history().plan)
        _require_possible(plan)
    except SurgeryError as error:
        problems[control] = error
        note_refusal(state.owner, control, error)
        return False
    _step(history().edit(plan), control)
    return True


def undo() -> None:
    """Go one plan back."""
    _step(history().undo(), "undo")
    touch()


def redo() -> None:
    """Go one undone plan forward."""
    _step(history().redo(), "redo")
    touch()


def reset() -> None:
    """Go back to the unchanged model; the way there can be undone."""
    change("notation", lambda plan: LayerPlan.identity(plan.n_layers))


def take_along() -> None:
    """Use the plan of the model that was left on this one."""
    before = switching.left()
    if before is not None:
        change("model", lambda plan: LayerPlan.parse(str(before.history.plan), plan.n_layers))


def use_refused() -> None:
    """Use a link's plan that was for another model on this one."""
    found = switching.refused()
    if found is not None and change("refused", lambda plan: LayerPlan.parse(found.plan, plan.n_layers)):
        dismiss_refused()


def dismiss_refused() -> None:
    """Forget a link's plan that was not applied."""
    touch()
    state.refused = None
    state.problems.pop("refused", None)


def open_recipe(recipe: Recipe) -> None:
    """Take over a recipe's model, plan, text, prompt and settings, as if a link named them."""
    touch()
    own = cached.keep_own_text(recipe.own_texts[0]) if recipe.own_texts else None
    if recipe.text_set is not None and recipe.text_set.texts:
        own_texts.add(recipe.text_set.found())
    settings = replace(recipe.settings, chat=False, system="")
    named = own_texts.set_of(recipe)
    _adopt(
        Address(
            recipe.model, recipe.plan, prompt=recipe.prompts[0] if recipe.prompts else None,
            lens=recipe.lens or state.lens, own=own, settings=settings, chat=recipe.chat,
            system=recipe.system or None, comment=recipe.note[:MAX_COMMENT] or None, revision=recipe.revision,
            texts=None if named is None else named.name, cut=recipe.cut, margin=recipe.margin,
            tray=tray.as_text((one.name, one.plan) for one in recipe.plans) or None, present=state.present,
        ),
        fresh=True,
    )  # fmt: skip
    state.wanted_identity = recipe.plan is None


def touch() -> None:
    """Say that this run was asked for by a control; the callback of every control that has no other."""
    state.edited = True


def is_edit() -> bool:
    """Return whether this run was asked for by a control, and not by one that opens another model."""
    return state.edited and state.loaded_name == state.model


def problem(control: str) -> SurgeryError | None:
    """Return what is wrong beside a control."""
    return state.problems.get(control)


def set_problem(control: str, error: SurgeryError | None) -> None:
    """Set or clear what is wrong beside a control."""
    touch()
    state.problems.pop(control, None)
    if error is not None:
        state.problems[control] = error
        note_refusal(state.owner, control, error)


def _is_news(parameters: dict[str, str]) -> bool:
    """Return whether an address was written by somebody else than this session.

    A navigation click empties it. A quick edit may arrive with the address of before the last one, because the
    browser had not heard of the newer one yet: what a control sends is therefore newer than the address with it.
    """
    fresh = time.monotonic() - state.written < ADDRESS_DELAY
    return bool(parameters) and parameters != state.address and not state.edited and not fresh


def _write_address() -> None:
    now = address().parameters()
    if now != state.address:
        state.written = time.monotonic()
    state.address = now
    if st.query_params.to_dict() != now:
        st.query_params.from_dict(now)


def _adopt(found: Address, fresh: bool) -> None:
    """Take over what an address says. What it does not say keeps its value, or gets its default in a new session."""
    state.problems.pop("address", None)
    if found.problems:
        state.problems["address"] = SurgeryError(" ".join(found.problems))
    state.model = found.model or (state.model if State.model.is_set else first_model())
    state.wanted_plan, state.plan_said = found.plan, found.plan is not None
    state.wanted_identity = False
    state.settings = found.settings if fresh or found.settings != GenerationSettings() else state.settings
    for field, said in ((State.prompt, found.prompt), (State.lens, found.lens)):
        echo.put(field.key, said if said is not None else default_prompt() if fresh else field.read())
    own = found.own if found.text is None else cached.keep_own_text(found.text)
    state.own = own or (None if fresh else state.own)
    for name, value in found.look:
        st.session_state[LOOKS[name][0]] = value == "True" if name == "inside" else value
    state.recipe_open = found.recipe
    state.comment = found.comment or ("" if fresh else state.comment)
    state.wanted_revision = found.revision
    state.wanted_tray = found.tray
    state.chat = found.chat if found.chat is not None or fresh else state.chat
    state.present = state.present and not fresh if found.present is None else found.present
    room.adopt(found.room)
    state.system = found.system or ("" if fresh else state.system)
    state.text_set = found.texts or (FIRST_SET if fresh else state.text_set)
    state.cut = found.cut or (EACH if fresh else state.cut)
    state.margin = found.margin or (MARGIN if fresh else state.margin)
    _require_set()


def _require_set() -> None:
    """Say so where an address names texts that the server does not have, and use the first set."""
    if own_texts.find(state.text_set) is None:
        said = [str(state.problems["address"])] if "address" in state.problems else []
        state.problems["address"] = SurgeryError(" ".join([*said, own_texts.missing(state.text_set)]))
        state.text_set = FIRST_SET


def _look() -> tuple[tuple[str, str], ...]:
    """Return how the Lens page reads, as far as it means something to others: a lens of one's own does not."""
    shown = st.session_state
    found = {name: str(shown[key]) for name, (key, _) in LOOKS.items() if shown.get(key) is not None}
    return tuple((name, value) for name, value in found.items() if name != "reading" or value in SHARED_LENSES)


def _compare_revision() -> None:
    """Say where a link was made with another revision of its model."""
    wanted = State.wanted_revision.take()
    if wanted is None or state.loaded is None or state.loaded_name != state.model:
        return
    info = state.loaded.info
    if not info.revision.startswith(wanted):
        state.problems["address"] = SurgeryError(
            f"This was made with revision {wanted[:12]} of {info.title}; this is {info.revision[:12]}, so figures may differ."
        )


def _take_plan() -> None:
    """Parse and adopt the plan that an address asked for, once the model is there."""
    wanted, unchanged = State.wanted_plan.take(), State.wanted_identity.take()
    if unchanged and state.loaded is not None:
        change("notation", lambda plan: LayerPlan.identity(plan.n_layers))
    if wanted is None or state.loaded is None:
        return
    if not change("notation", lambda plan: LayerPlan.parse(wanted, plan.n_layers)):
        echo.put(State.notation.key, wanted)


def _take_tray() -> None:
    """Adopt the plans side by side that an address asked for, once the model is there."""
    wanted = State.wanted_tray.take()
    if wanted is None or state.loaded is None:
        return
    found, problems = tray.read(wanted, state.loaded.info.n_layers)
    tray.take(found)
    if problems:
        state.problems["address"] = SurgeryError(" ".join(problems))


def _step(new: History, control: str) -> None:
    """Make a history the current one; with a new plan the model that was left is no longer worth a word."""
    if new.plan != history().plan:
        state.left = None
        note("edit", state.owner, control=control, model=state.model, plan=str(new.plan))
    plans.keep(new)


def _require_possible(plan: LayerPlan) -> None:
    """Refuse a plan that the open model cannot run. Nothing runs here: means are measured by the jobs that need them.

    Raises:
        PlanError: as for `operate`.
    """
    check_plan(plans.open_model().model, plan, {name: one.model for name, one in cached.donors(plan).items()})
