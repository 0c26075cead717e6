"""What to sweep: the kind, its options, the texts, what is measured; the time that takes; and the Start button."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from surgery_core.errors import InputError, SettingsError
from surgery_core.measure.skills import Skill, load_skills
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.race import looks_at
from surgery_core.sweeps.kinds import BEST, longest_block, most_times, sweep_kind, usual_best
from surgery_core.sweeps.options import DAMPINGS, FACTORS, SweepOptions
from surgery_core.sweeps.request import Request, SweepRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import PAPERS, Text, as_papers, bundled_prompts
from surgery_ui.parts import sweep_shelf
from surgery_ui.parts.asked_sweep import (
    BASE,
    BLOCK,
    DAMPING,
    FACTORS_TYPED,
    FAMILY,
    KEEPS_SUM,
    LOOPS,
    OWN,
    PARTS,
    PARTS_TYPED,
    PICK,
    PROMPT,
    SHUFFLE,
    SKILLS,
    STRIP,
    TIMES,
    WRITES,
    best_key,
    from_key,
    kind_key,
    open_lane,
    picked_key,
    texts_key,
)  # fmt: skip
from surgery_ui.parts.choices import segments
from surgery_ui.parts.estimate import Estimate, estimate_of
from surgery_ui.parts.own_text import own_text_form
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.parts.text_sets import cut_caption, set_choice
from surgery_ui.session import echo, session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words


def request_form(now: session.Experiment) -> SweepRequest | None:
    """Show the controls and return what they ask for, or None where something is wrong or missing."""
    family = _family(sweep_words.families(adapter=now.loaded.info.adapter is not None))
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        kind = _kind(family)
        start = start_choice(now, "sweep")
        options = _options(kind, start)
    st.caption(sweep_kind(kind).about)
    measured = st.container(horizontal=True, gap="medium", vertical_alignment="bottom")
    with measured:
        which = text_choice("sweep")
        measures = _measures()
    texts = chosen_texts(now, "sweep", which)
    if not texts or _too_short(kind, start):
        return None
    try:
        request = SweepRequest(kind, options(), start, texts, measures)
        n_plans = len(request.points)
    except InputError as error:
        st.error(present.plain(str(error)))
        return None
    with measured:
        best = _best(kind, n_plans, len(texts))
    return request if best is None else replace(request, measures=replace(measures, best=best))


def _best(kind: str, n_plans: int, n_texts: int) -> int | None:
    """Show whether only the best plans are looked for, where that saves something, and return how many."""
    if n_plans <= BEST or len(looks_at(n_texts)) < 2:
        return None
    key = best_key(kind)
    st.session_state.setdefault(key, usual_best(sweep_kind(kind), n_plans) is not None)
    only = st.toggle(
        f"Only the best {BEST}", key=key, persist_state="session", on_change=session.touch,
        help=f"Texts are taken in rounds, and a plan that is surely not among the {BEST} of the least loss is left early, "
        "with the figures of the texts until then. With sixty texts that takes well under half of the time.",
    )  # fmt: skip
    return BEST if only else None


def _too_short(kind: str, start: LayerPlan) -> bool:
    """Say so where a plan has too few layers for a kind of sweep."""
    wanted = sweep_kind(kind)
    if len(start) >= wanted.least:
        return False
    st.info(
        f"{wanted.title} needs {sweep_words.counted(wanted.least, 'layer')} or more, and this plan has {len(start)}. "
        "Choose another sweep, or put layers back in the sidebar."
    )
    return True


def start_row(now: session.Experiment, request: Request | None, *, key: str) -> Estimate:
    """Show the Start button of the open tab, with the time beside it that this would take; return that, to be drawn.

    Args:
        now: what the page works on.
        request: what the controls ask for; None where they ask for nothing that can be done.
        key: of the button; problems are said under it.
    """
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        button, line = st.container(width="content"), st.empty()
    estimate = estimate_of(now, request, line)
    estimate.show()
    with button:
        _start_button(now, request, estimate, key=key)
    return estimate


def _start_button(now: session.Experiment, request: Request | None, estimate: Estimate, *, key: str) -> None:
    """Show the Start button of the open tab; while what it starts runs, it says so.

    Args:
        now: what the page works on.
        request: what the controls ask for.
        estimate: of that.
        key: of the button; problems are said under it.
    """
    running = sweep_shelf.sync(open_lane())
    st.button(
        "Start",
        key=key,
        type=emphasis(),
        icon=":material/play_arrow:",
        disabled=request is None or running is not None,
        help=None if running is None else f"“{running.name}” is running.",
        on_click=_begin,
        args=(now, request, estimate, key),
    )
    show_problem(key)


def text_choice(name: str) -> str:
    """Show which texts are scored and return the choice."""
    return set_choice(texts_key(name), more=(PICK, OWN))


def chosen_texts(now: session.Experiment, name: str, which: str | None = None) -> tuple[Text, ...]:
    """Show what a choice of texts needs and return the texts as they are scored; none where nothing is chosen."""
    which = text_choice(name) if which is None else which
    texts = _texts_of(now, name, which)
    cut_caption(now)
    if which not in (PICK, OWN):
        return session.scored_texts()
    return (as_papers(texts),) if texts and state.cut == PAPERS else texts


def _texts_of(now: session.Experiment, name: str, which: str) -> tuple[Text, ...]:
    bundled = session.text_set().scored()
    if which == PICK:
        titles = [text.title for text in bundled]
        _keep_known(picked_key(name), titles)
        picked = st.multiselect(
            "Texts to score",
            titles,
            st.session_state[picked_key(name)],
            key=picked_key(name),
            persist_state="session",
            on_change=session.touch,
        )
        if not picked:
            st.error("No text is chosen; pick at least one.")
        return tuple(text for text in bundled if text.title in picked)
    if which == OWN:
        own_text_form(now)
        own = session.own_text()
        if own is None:
            st.info("There is no text of your own yet; paste or upload one above.")
        return (own,) if own is not None else ()
    return bundled


def _keep_known(key: str, titles: Sequence[str]) -> None:
    """Leave in a field of picked texts only what is offered: the first three, where others are offered than before."""
    picked = st.session_state.get(key)
    known = [title for title in picked or () if title in titles]
    echo.hold(key, list(titles[:3]) if picked is None or (picked and not known) else known)


def _begin(now: session.Experiment, request: Request, estimate: Estimate, control: str) -> None:
    sweep_shelf.begin(control, now, request, costs=estimate.costs)


def _family(families: Collection[str]) -> str:
    return str(segments("What is done to the layers", list(families), FAMILY))


def _kind(family: str) -> str:
    key = kind_key(family)
    kinds = sweep_words.families()[family]
    st.session_state.setdefault(key, kinds[0])
    kind = st.selectbox(
        "Sweep", kinds, key=key, format_func=lambda one: sweep_kind(one).title, persist_state="session",
        on_change=session.touch, width=280,
    )  # fmt: skip
    return str(kind)


def start_choice(now: session.Experiment, name: str, label: str = "Starts from") -> LayerPlan:
    """Show which plan is worked on, where the strip has been changed, and return it."""
    if now.plan.is_identity:
        return now.plan
    chosen = segments(label, (STRIP, BASE), from_key(name))
    return now.plan if chosen == STRIP else now.identity


def _options(kind: str, start: LayerPlan) -> Any:
    """Show the options that a kind needs and return what makes them; a mistyped one is an error then."""
    needs, length = sweep_kind(kind).needs, len(start)
    given: dict[str, Any] = {}
    if "layer" in needs and length:
        labels = slot_labels(start)
        label = "First layer" if "length" in needs else "Layer"
        given["layer"] = _choice(label, range(length), f"sweep-layer-{length}", length // 2, labels)
    if "length" in needs and length:
        most = length - given["layer"]
        given["length"] = _number("Layers in the block", 1, most, BLOCK, min(most, max(1, length // 4)))
    if "max_length" in needs:
        given["max_length"] = _number(
            "Longest block", 1, max(1, length), f"sweep-length-{length}", longest_block(kind, length)
        )
    if "times" in needs:
        block = given.get("max_length", given.get("length", 1))
        label, key, usual = ("Runs at most", LOOPS, 4) if "length" in needs else ("Runs how often", TIMES, 2)
        most = most_times(kind, length, block)
        given["times"] = _number(label, 2, most, key, min(usual, most))
    if "damping" in needs:
        given["damping"] = _damping(given["times"])
    if "seed" in needs:
        given["seed"] = _number("Seed of shuffles", 0, 2**31 - 1, SHUFFLE, 0)
    typed = _factors(kind) if "factors" in needs else None
    return lambda: SweepOptions(**given | ({} if typed is None else {"factors": read_factors(typed)}))


def _choice(label: str, options: range, key: str, default: int, names: list[str]) -> int:
    st.session_state.setdefault(key, default)
    return int(
        st.selectbox(
            label, options, key=key, format_func=names.__getitem__, width=140, persist_state="session",
            on_change=session.touch,
        )
    )  # fmt: skip


def _number(label: str, least: int, most: int, key: str, default: int) -> int:
    echo.hold(key, min(st.session_state.get(key, default), most))
    return int(
        st.number_input(
            label,
            least,
            most,
            st.session_state[key],
            key=key,
            step=1,
            width=190,
            persist_state="session",
            on_change=session.touch,
        )
    )


def _damping(times: int) -> float | None:
    """Show which part of what a repeat adds is taken, and return it; None while it is left at what keeps the sum."""
    chosen = segments(
        "Part taken each time", (KEEPS_SUM, *(f"{part:g}" for part in PARTS)), DAMPING,
        help=f"With {KEEPS_SUM} all steps together are as long as one whole run: 1/{times} each here.",
    )  # fmt: skip
    return None if chosen == KEEPS_SUM else float(chosen)


def _factors(kind: str) -> str:
    label, key, usual = (
        ("Parts", PARTS_TYPED, DAMPINGS) if kind == "loop-block" else ("Factors", FACTORS_TYPED, FACTORS)
    )
    st.session_state.setdefault(key, ", ".join(f"{factor:g}" for factor in usual))
    return str(st.text_input(label, key=key, width=360, persist_state="session", on_change=session.touch))


def read_factors(typed: str) -> tuple[float, ...]:
    """Read factors that a person typed.

    Raises:
        SettingsError: for anything but numbers, naming it.
    """
    found = []
    for item in typed.replace(";", ",").split(","):
        try:
            found.append(float(item))
        except ValueError:
            raise SettingsError(f"{item.strip()!r} is not a number; write factors such as 0, 0.5, 2.") from None
    return tuple(found)


def _measures() -> SweepMeasures:
    prompts = {prompt.title: prompt.text for prompt in bundled_prompts()}
    skills = st.toggle(
        "Ask the skills too", key=SKILLS, persist_state="session", on_change=session.touch,
        help="Every plan also answers the labelled prompts of the Skills page. Takes longer.",
    )  # fmt: skip
    text = st.toggle(
        "Let it write too", key=WRITES, persist_state="session", on_change=session.touch,
        help="Every plan also continues a prompt; measured is how varied its text is. Takes longer.",
    )  # fmt: skip
    measures = SweepMeasures(skills=_all_skills() if skills else ())
    if text and prompts:
        st.session_state.setdefault(PROMPT, next(iter(prompts)))
        title = st.selectbox(
            "Prompt", list(prompts), key=PROMPT, width=220, persist_state="session",
            on_change=session.touch,
        )  # fmt: skip
        measures = replace(measures, prompt=prompts[title])
    return measures


@st.cache_resource(show_spinner=False)
def _all_skills() -> tuple[Skill, ...]:
    return load_skills()
