"""What a session holds: every value with its key in Streamlit's session state, its type, its default and its meaning.

Read and write a value as an attribute of `state`; `State.prompt` is the declaration itself, with the key for a widget:

    state.own = None
    st.text_area("Text", key=State.prompt.key)

A name that is not declared here is an error, and so is a value of another type. Keys that only their own widget and its
callback use stand in the widget's module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

import streamlit as st

from surgery_core.errors import SurgeryError
from surgery_core.lenses.fitted import Fitted
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.statistics.verdict import MARGIN
from surgery_core.text import EACH, FIRST_SET
from surgery_core.text_sources.found import FoundTexts
from surgery_ui.session.history import History, Left, Refused
from surgery_ui.session.least import Least
from surgery_ui.session.swapped import Swapped
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.work.channel import Channel
from surgery_ui.work.heal_jobs import Healed
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane
from surgery_ui.work.lens_jobs import LOGIT

Value = TypeVar("Value")
ModelKey = tuple[str, ...]
"""What caches key a model on: its name, revision, number format and device."""
_ABSENT = object()


@dataclass(frozen=True)
class Before:
    """A value that a field had, and when the one after it was drawn."""

    value: Any
    drawn: float | None = None


class Field(Generic[Value]):
    """One value of a session.

    Args:
        key: under which Streamlit holds it; browser tests and remembered tabs know it.
        kind: the class, or union of classes, of its values.
        default: what reading it gives before it is set.
        make: instead of a default, for what is changed in place: returns what it is set to where it is read first.
        outlives: whether a reload of the tab brings it back.
    """

    def __init__(
        self, key: str, kind: Any, *, default: Any = _ABSENT, make: Callable[[], Value] | None = None,
        outlives: bool = False,
    ) -> None:  # fmt: skip
        self.key, self.outlives = key, outlives
        self._kind, self._default, self._make = kind, default, make

    @overload
    def __get__(self, instance: None, owner: type) -> Field[Value]: ...
    @overload
    def __get__(self, instance: State, owner: type) -> Value: ...
    def __get__(self, instance: State | None, owner: type) -> Field[Value] | Value:
        return self if instance is None else self.read()

    def __set__(self, instance: State, value: Value) -> None:
        if not isinstance(value, self._kind):
            raise TypeError(f"The session's {self.key!r} cannot be of type {type(value).__name__}: {value!r:.80}")
        st.session_state[self.key] = value

    @property
    def is_set(self) -> bool:
        """Whether it has a value of its own."""
        return self.key in st.session_state

    def read(self) -> Value:
        """Return the value.

        Raises:
            LookupError: when it is not set and has no default.
        """
        value = st.session_state.get(self.key, _ABSENT)
        if value is _ABSENT and self._make is not None:
            value = st.session_state[self.key] = self._make()
        if value is _ABSENT:
            value = self._default
        if value is _ABSENT:
            raise LookupError(f"The session has no {self.key!r} yet.")
        return cast("Value", value)

    def take(self) -> Value:
        """Return the value, and be without it from now on."""
        value = self.read()
        st.session_state.pop(self.key, None)
        return value


class State:
    """The values of the session that is running; `state` is the only one."""

    __slots__ = ()

    # whose session it is
    owner = Field[str]("owner", str, outlives=True)
    """Under which name it asks for work; after a reload that of the session before."""
    session = Field[str]("session", str)
    """Its own name, under which it may write what its tab remembers."""
    tab_token = Field[str | None]("tab-token", str | None, default=None)
    """What the browser's tab showed; what outlives a reload is kept under it."""
    problems = Field[dict[str, SurgeryError]]("problems", dict, make=dict)
    """What is wrong, by the control beside which it is said."""

    channel = Field[Channel]("channel", Channel, make=Channel)
    """By which the browser gets the words of the texts early."""

    # the address
    address = Field[dict[str, str] | None]("address", dict | None, default=None)
    """Its parameters as they were written last; None in a new session."""
    written = Field[float]("written", float)
    """When they were, by the monotonic clock."""
    edited = Field[bool]("edited", bool, default=False)
    """Whether this run was asked for by a control, and not by an address."""
    wanted_plan = Field[str | None]("wanted_plan", str | None, default=None)
    """The notation that an address asked for, until its model is open."""
    comment = Field[str]("comment", str, default="")
    """A sentence for whoever opens the link."""
    wanted_revision = Field[str | None]("wanted_revision", str | None, default=None)
    """Beginning of the revision that an address was made with, until its model is open."""
    wanted_identity = Field[bool]("wanted-identity", bool, default=False)
    """Whether the unchanged model was asked for, until the model is open."""
    plan_said = Field[bool]("plan-said", bool, default=False)
    """Whether the newest address named a plan."""

    # the model and its plans
    model = Field[str]("model", str)
    """Name of the model that is wanted."""
    loaded = Field[LoadedModel | None]("loaded", LoadedModel | None, default=None)
    """The model that is open; None where none could be opened."""
    loaded_name = Field[str | None]("loaded_name", str | None, default=None)
    """The name under which it was opened."""
    history = Field[History]("history", History)
    """The plan of the open model, with undo and redo."""
    histories = Field[dict[ModelKey, History]]("histories", dict, make=dict, outlives=True)
    """The same of every model that was open here, by the model's key."""
    trays = Field[dict[ModelKey, tuple[Any, ...]]]("trays", dict, make=dict, outlives=True)
    """Plans that are kept side by side (`tray.Kept`), by the model's key; the dictionary is replaced, not changed."""
    looks = Field[tuple[Any, ...]]("looks", tuple, default=(), outlives=True)
    """What was looked at (`looks.Look`), the newest last."""
    wanted_tray = Field[str | None]("wanted_tray", str | None, default=None)
    """Plans side by side that an address asked for, until its model is open."""
    left = Field[Left | None]("left", Left | None, default=None)
    """The model that was open before, as long as that is worth a word."""
    refused = Field[Refused | None]("refused", Refused | None, default=None, outlives=True)
    """A link's plan that was not applied."""
    unproved = Field[frozenset[tuple[ModelKey, str]]]("unproved", frozenset, default=frozenset())
    """Models and plans whose numbers are shown although they were refused."""

    # the sidebar's fields
    picker = Field[str | None]("picker", str | None, default=None)
    """What the model's field shows."""
    notation = Field[str]("notation", str)
    """What the notation's field shows."""
    strip_edit = Field[int]("edit", int, default=0)
    """Number of the newest edit of the strip that was handled."""
    steps_seen = Field[tuple[str, int]]("steps-seen", tuple, default=("", 0))
    """Id of the browser's page and length of its log of undo and redo keys that were handled."""
    fields_before = Field[dict[str, tuple[Before, ...]]]("fields-before", dict, make=dict)
    """What fields showed before the session changed them, by their keys (see `echo`)."""
    fields_now = Field[dict[str, Any]]("fields-now", dict, make=dict)
    """Their newest values."""
    chosen = Field[dict[str, Any]]("chosen", dict, make=dict)
    """What was chosen last in every choice of one, by its key."""

    # the screen
    present = Field[bool]("present", bool, default=False)
    """Whether type is larger, for a projector."""
    came_bare = Field[bool]("came-bare", bool, default=False)
    """Whether the session began with an address that says nothing, as no link and no reload does."""
    kinds_loaded = Field[bool]("kinds-loaded", bool, default=False)
    """Whether its browser was given one of each kind of element, to load their code."""
    chart_specs = Field[dict[str, Any]]("chart-specs", dict, make=dict)
    """The newest specification of charts that take long to make, with what each was made of, by the chart's key."""
    tour_asked = Field[tuple[int, str]]("tour-asked", tuple, default=(0, ""))
    """How often the tour was asked for, and its chapter."""

    # the room
    room = Field[str]("room-code-now", str, default="", outlives=True)
    """Code of the room that was joined, or an empty text."""
    room_key = Field[str]("room-key", str, default="", outlives=True)
    """The organiser's key, where this session has it."""
    room_follows = Field[bool]("room-follows", bool, default=False, outlives=True)
    """Whether plans that the organiser pushes are taken over by themselves."""
    room_pushed = Field[int]("room-plan-number", int, default=0, outlives=True)
    """Number of the newest of them that was taken over or left."""
    room_step = Field[int | None]("room-step", int | None, default=None, outlives=True)
    """Number of the task that is shown; the first that is not done where none was chosen."""
    room_noted = Field[tuple[str, float]]("room-noted", tuple, default=("", -math.inf))
    """Page of which the room was last told that the person is there, and when, by the monotonic clock."""
    room_entered = Field[str]("room-entered", str, default="")
    """The plan that is on its way to the board."""
    room_said = Field[str]("room-said", str, default="")
    """What came of the last one."""

    prepared = Field[dict[str, Any]]("prepared", dict, make=dict)
    """Model and plan of which a large file was asked for, by the file's ending."""
    report = Field[str]("report", str, default="")
    """The report that was asked for: model, recipe and parts, as JSON."""

    # the gallery
    recipe_open = Field[str | None]("recipe-open", str | None, default=None)
    """Key of the card that is open."""
    recipes_run = Field[frozenset[tuple[ModelKey, str]]]("recipes-run", frozenset, default=frozenset(), outlives=True)
    """Models and keys of cards that were run here."""
    own_recipes = Field[dict[str, str]]("own-recipes", dict, make=dict, outlives=True)
    """Texts of the recipes that were dropped on the page, by their keys."""
    recipe_draft = Field[str]("recipe-draft", str, default="")
    """Text of a recipe that cannot be read yet."""
    go_to = Field[str]("go-to", str, default="")
    """Name of the page that is to be shown next."""

    # texts
    prompt = Field[str]("prompt", str)
    """The text that is continued."""
    settings = Field[GenerationSettings]("settings", GenerationSettings, default=GenerationSettings())
    """How it is continued."""
    chat = Field[bool | None]("chat", bool | None, default=None)
    """Whether prompts are put as messages; None: where the model has a chat template."""
    system = Field[str]("system", str, default="")
    """What an instruct model is told before the message."""
    text_set = Field[str]("text-set", str, default=FIRST_SET)
    """Name of the texts that plans are scored on: of a set that comes along, or the id of one of the person's own."""
    cut = Field[str]("cut", str, default=EACH)
    """How they are scored: each for itself, or as papers do it."""
    margin = Field[float]("margin", float, default=MARGIN)
    """Share of the perplexity within which two models count as the same."""
    own_sets = Field[dict[str, str]]("own-sets", dict, make=dict, outlives=True)
    """Titles of the person's own sets, by their ids on the server."""
    set_draft = Field[FoundTexts | None]("set-draft", FoundTexts | None, default=None)
    """What was found in files that were picked, until it is used."""
    own = Field[str | None]("own", str | None, default=None)
    """Id of the person's own text on the server."""
    detail = Field[int]("detail", int, default=0)
    """Number of the text that is shown token by token."""
    opened = Field[int]("opened", int, default=0)
    """How often a text was opened from its line in the table of scores."""

    # the Lens page
    lens = Field[str]("lens", str)
    """The text that the lens reads."""
    lens_kind = Field[str]("lens-kind", str, default=LOGIT)
    """Which lens reads; an id of `own_lenses` is one too."""
    lens_wanted = Field[str | None]("lens-wanted", str | None, default=None)
    """Id of a lens that is to read from the next run on."""
    own_lenses = Field[dict[ModelKey, dict[str, str]]]("own-lenses", dict, make=dict, outlives=True)
    """Titles of the lenses that were trained or opened here, by the model's key and the lens's id."""
    lens_job = Field[Job[Fitted] | None]("lens-job", Job | None, default=None)
    """A training under way."""
    lens_job_model = Field[LoadedModel]("lens-job-model", LoadedModel)
    """Its model."""
    lens_fetch = Field[tuple[Job[Fitted], LoadedModel, str] | None]("lens-fetch", tuple | None, default=None)
    """A lens on its way from the hub, the model that it is for, and its name there."""
    cell = Field[tuple[str, str, int]]("cell", tuple, default=("before", "", -1))
    """The chosen cell of the maps: side, layer's label and token."""
    swap = Field[Swapped | None]("swap", Swapped | None, default=None)
    """The word that is swapped."""
    page_width = Field[int | None]("page-width", int | None, default=None)
    """Room for the maps in the browser, in pixels."""

    # healing
    heal_job = Field[Job[Healed] | None]("heal-job", Job | None, default=None, outlives=True)
    """A heal under way."""
    heal_shown = Field[Healed | None]("heal-shown", Healed | None, default=None, outlives=True)
    """What came of the newest, until it is closed."""

    # sweeps
    sweeps = Field[list[Entry]]("sweeps", list, make=list, outlives=True)
    """All of them, the newest last; the list is replaced, not changed."""
    sweep_count = Field[int]("sweep-count", int, default=0, outlives=True)
    """Number of the newest."""
    sweep_starts = Field[int]("sweep-starts", int, default=0)
    """How many were started or shown by a click on the Sweep page; it scrolls to them then."""
    measured = Field[int]("measured", int, default=0)
    """How often what a reading estimates was measured by a click; the page scrolls to that."""
    sweeps_shown = Field[dict[Lane, int]]("sweeps-shown", dict, make=dict, outlives=True)
    """Number of the chosen one, of those that run in each lane; the newest where none is."""
    sweep_draft = Field[Entry | None]("sweep-draft", Entry | None, default=None)
    """The sweep that the controls ask for, before it is started."""
    sweep_uploads = Field[int]("sweep-uploads", int, default=0)
    """How many files were opened; each has a field of its own."""
    sweep_clicks = Field[int]("sweep-clicks", int, default=0)
    """How many plans were taken over from charts; a chart forgets its selection with each."""
    adopted = Field[str | None]("adopted", str | None, default=None)
    """A plan that was taken over, until the whole page is drawn anew."""
    adoption_said = Field[str | None]("adoption-said", str | None, default=None)
    """The same from then on, until it has been said."""
    log_chosen = Field[dict[str, bool]]("log-chosen", dict, make=dict)
    """Figures whose axis a person made logarithmic, or even."""
    least = Field[Least | None]("least", Least | None, default=None, outlives=True)
    """The newest search for the least important layer."""


state = State()


def fields() -> list[Field[Any]]:
    """Return all declarations."""
    return [one for one in vars(State).values() if isinstance(one, Field)]


def to_keep() -> dict[str, Any]:
    """Return what outlives a reload, by its keys: plans with undo, sweeps, own lenses; and whose work runs."""
    return {field.key: field.read() for field in fields() if field.outlives and field.is_set}


def bring_back(kept: Mapping[str, Any]) -> None:
    """Set what a tab had before it was loaded anew."""
    st.session_state.update({key: value for key, value in kept.items() if value is not None})
