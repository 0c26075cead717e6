"""Every kind of job in one table: which pool runs it, in which lanes, how many results stay, what an edit lets go of.

A job's kind is the first part of its key. A lane is a place of one person's: a request takes it, and what was asked for
there before is let go. A pool refuses work of a kind, or in a lane, that does not stand here. Nothing here imports
Streamlit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

from surgery_ui.work.limits import limits

MOST_MODELS = limits().open_models
"""Models that stay open at most."""
PATIENCE = 30.0
"""Seconds after which a job that no page looks at stops itself, where its kind says nothing else."""


GRACE, SILENCE = 30.0, 1800.0
"""Seconds after which a worker is given up that does not end although it was told to, and one that says nothing."""
LONG_GRACE, LONG_SILENCE = 900.0, 7200.0
"""The same where a step may be long: in training, whose last step is kept, and in somebody else's code, which says nothing."""


class Workers(StrEnum):
    """The pools, by the name of their threads."""

    MODELS = "models"
    WORK = "work"
    SWEEPS = "sweeps"
    TRAINING = "lenses"
    FETCHING = "lens-hub"


class Turn(IntEnum):
    """What of one person's waiting work is done first."""

    WORDS = 0
    """The texts of an edit: everybody's first words, and they are short."""
    FIGURES = 1
    """What stands at the head of a page."""
    REST = 2
    """Texts beyond their first words, which wait while other people have no words or figures yet."""
    THEN = 3
    """What a page shows in detail, and whatever was asked for by a button."""
    LAST = 4
    """What nobody reads at once: checks and timings."""


class Tells(StrEnum):
    """How a page knows how far work is, and how long it goes on."""

    PROGRESS = "progress"
    """It reports steps done and steps in all."""
    PIECES = "pieces"
    """Its pieces come one after the other, and their number is known."""
    CLOCK = "clock"
    """Somebody else's code does it, which tells nothing; the time is estimated from its size or from the last time."""
    SHORT = "short"
    """It takes less than a second, also on a model of a hundred million parameters."""


class Lane(StrEnum):
    """The lanes of all pools."""

    MODEL = "model"
    TEXT_BEFORE = "before"
    TEXT_AFTER = "after"
    TEXT_CUT = "cut"
    TEXT_SWAPPED = "swapped"
    TABLE_AHEAD = "table"
    SCORES = "scores"
    OWN_SCORES = "own-scores"
    CUT_SCORES = "cut-scores"
    OWN_CUT_SCORES = "own-cut-scores"
    LAYERS_BEFORE = "layers-before"
    LAYERS_AFTER = "layers-after"
    LENS_BEFORE = "lens-before"
    LENS_AFTER = "lens-after"
    LENS_DISTANCES = "lens-distances"
    AVERAGES_BEFORE = "averages-before"
    AVERAGES_AFTER = "averages-after"
    LENS_QUALITY = "lens-quality"
    PREFLIGHT = "preflight"
    PROOF = "proof"
    ROOM_SCORES = "room-scores"
    ROOM_PROOF = "room-proof"
    CHECKPOINT = "checkpoint"
    GGUF = "gguf"
    MERGEKIT = "mergekit"
    REPORT = "report"
    TEXT_COUNTS = "text-counts"
    SPEEDS = "speeds"
    COSTS = "costs"
    COSTS_OWN = "costs-own"
    COSTS_AVERAGES = "costs-averages"
    IMPORTANCE = "importance"
    SKILLS_BEFORE = "skills-before"
    SKILLS_AFTER = "skills-after"
    SWEEP = "sweep"
    SEARCH = "search"
    STUDY = "study"
    LENS_TRAINING = "lens-training"
    LENS_FETCH = "lens-fetch"
    HEALING = "healing"


TRAY = 6
"""Plans side by side at most."""


def tray_lanes(what: str) -> tuple[str, ...]:
    """Return the lanes of what is computed for plans side by side: one for each plan, and none is that of the page's own."""
    return tuple(f"tray-{what}-{at}" for at in range(TRAY))


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        key: first part of the keys of its jobs.
        pool: whose workers do it.
        kept: how many of its finished jobs are kept, for whoever asks again.
        about: what it computes; for what outlives an edit of the plan, why.
        dropped: lanes that an edit of the plan lets go of, since what they compute is of the plan of before.
        held: lanes that outlive an edit of the plan.
        patience: seconds after which a job that no page looks at stops itself.
        turn: what of one person's waiting work is done first.
        tells: how a page knows how far it is.
    """

    key: str
    pool: Workers
    kept: int
    about: str
    dropped: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    patience: float = PATIENCE
    turn: Turn = Turn.THEN
    tells: Tells = Tells.PROGRESS

    @property
    def lanes(self) -> tuple[str, ...]:
        """Return the lanes in which it may be asked for; none where only other jobs need it."""
        return *self.dropped, *self.held

    @property
    def grace(self) -> float:
        """Return the seconds after which a worker is given up that was told to end and does not."""
        return LONG_GRACE if self.tells in (Tells.CLOCK, Tells.PIECES) else GRACE

    @property
    def silence(self) -> float:
        """Return the seconds after which a worker is given up that has said nothing."""
        return LONG_SILENCE if self.tells in (Tells.CLOCK, Tells.PIECES) else SILENCE


TABLE = (
    Kind(
        "model", Workers.MODELS, MOST_MODELS,
        "A model, opened. Plans are of models: an edit is of the one that is open, and another one goes on opening.",
        held=(Lane.MODEL,), tells=Tells.CLOCK,
    ),
    Kind(
        "text", Workers.WORK, 256,
        "A prompt continued; where a plan has stitches, also without them. The unchanged model's text is the same for every "
        "plan, and plans side by side stay.",
        dropped=(Lane.TEXT_AFTER, Lane.TEXT_CUT, Lane.TEXT_SWAPPED), held=(Lane.TEXT_BEFORE, *tray_lanes("text")),
        turn=Turn.WORDS,
    ),
    Kind(
        "base", Workers.WORK, 6,
        "Predictions of the unchanged model over texts, for every plan that is compared with it. It holds them and the "
        "model itself. No lane: it goes when nothing that is wanted needs it.", turn=Turn.FIGURES,
    ),
    Kind(
        "stitches", Workers.WORK, 16,
        "The stitches of a plan, fitted once for all that is shown of it. No lane: they go when nothing that is wanted needs "
        "them.", turn=Turn.FIGURES,
    ),
    Kind(
        "table", Workers.WORK, 16,
        "Texts scored under the unchanged model. On a page it stands where the figures of the next plan will, and gives "
        "way to them; when the server starts it is asked for ahead.",
        dropped=(Lane.SCORES, Lane.OWN_SCORES), held=(Lane.TABLE_AHEAD,), turn=Turn.FIGURES, tells=Tells.SHORT,
    ),
    Kind(
        "comparison", Workers.WORK, 64,
        "A plan compared with the unchanged model over texts. Plans side by side, and those for a board, are not the one that is "
        "edited; the plan without its stitches goes with it.",
        dropped=(Lane.SCORES, Lane.OWN_SCORES, Lane.CUT_SCORES, Lane.OWN_CUT_SCORES),
        held=(Lane.ROOM_SCORES, *tray_lanes("scores")), turn=Turn.FIGURES,
    ),
    Kind(
        "lens", Workers.WORK, 24,
        "Layers read on a text, for the maps and for one text in detail. Those of the unchanged model are the same for "
        "every plan.",
        dropped=(Lane.LENS_AFTER, Lane.LAYERS_AFTER), held=(Lane.LENS_BEFORE, Lane.LAYERS_BEFORE, *tray_lanes("layers")),
    ),
    Kind(
        "distances", Workers.WORK, 8, "Cell by cell, how far the lens's reading after surgery is from that before.",
        dropped=(Lane.LENS_DISTANCES,),
    ),
    Kind(
        "averages", Workers.WORK, 24,
        "Means of the lens's readings over texts. Those of the unchanged model are the same for every plan.",
        dropped=(Lane.AVERAGES_AFTER,), held=(Lane.AVERAGES_BEFORE,),
    ),
    Kind(
        "quality", Workers.WORK, 16,
        "How far lenses are from the output of the unchanged model, which no edit changes.",
        held=(Lane.LENS_QUALITY,),
    ),
    Kind(
        "preflight", Workers.WORK, 8,
        "The checks of a model. They try a plan of their own, so an edit has nothing to do with them.",
        held=(Lane.PREFLIGHT,), turn=Turn.LAST,
    ),
    Kind(
        "proof", Workers.WORK, 128,
        "Whether the numbers of a plan are right; of plans side by side, each of them, and of one for a board.",
        dropped=(Lane.PROOF,), held=(Lane.ROOM_PROOF, *tray_lanes("proof")), turn=Turn.LAST,
    ),
    Kind("nearest", Workers.WORK, 32, "The nearest plan that is allowed to one that is not.", dropped=(Lane.PROOF,), turn=Turn.LAST),
    Kind(
        "checkpoint", Workers.WORK, 2,
        "A plan's model as a zip to download, which may be large.",
        dropped=(Lane.CHECKPOINT,),
    ),
    Kind(
        "gguf", Workers.WORK, 2,
        "A plan's model as a GGUF file to download, which may be large.",
        dropped=(Lane.GGUF,),
    ),
    Kind(
        "report", Workers.WORK, 4, "Everything that a report of a plan shows, measured from the beginning.",
        dropped=(Lane.REPORT,),
    ),
    Kind("mergekit", Workers.WORK, 32, "A plan as a file of mergekit.", dropped=(Lane.MERGEKIT,), tells=Tells.SHORT),
    Kind(
        "counts", Workers.WORK, 16, "Tokens of texts that were picked, which no plan changes.",
        held=(Lane.TEXT_COUNTS,),
    ),
    Kind(
        "speeds", Workers.WORK, 8,
        "A model, timed once for everybody and for every plan. On a large one that takes longer than a look at a page.",
        held=(Lane.SPEEDS,), turn=Turn.LAST, patience=300.0,
    ),
    Kind(
        "costs", Workers.WORK, 64,
        "What work over texts costs on a model, counted for every plan: an estimate for the next one needs it as well.",
        held=(Lane.COSTS,), turn=Turn.LAST, tells=Tells.SHORT,
    ),
    Kind(
        "reading", Workers.WORK, 64,
        "The same from the beginnings of long texts. It is of no plan either, and the next one waits for the same texts.",
        held=(Lane.COSTS_OWN, Lane.COSTS_AVERAGES), turn=Turn.LAST, tells=Tells.SHORT,
    ),
    Kind(
        "skills", Workers.WORK, 64,
        "Every prompt of the skills asked. The answers of the unchanged model are the same for every plan.",
        dropped=(Lane.SKILLS_AFTER,), held=(Lane.SKILLS_BEFORE, *tray_lanes("skills")),
    ),
    Kind(
        "sweep", Workers.SWEEPS, 16,
        "Many plans measured. It keeps the plan that it was started from, and goes on while a person edits.",
        held=(Lane.SWEEP,),
    ),
    Kind(
        "search", Workers.SWEEPS, 8,
        "Layers removed one at a time. Like a sweep, it goes on while a person edits.",
        held=(Lane.SEARCH,),
    ),
    Kind(
        "importance", Workers.SWEEPS, 16,
        "What each layer of a plan does to the residual stream. Like a sweep, it keeps the plan that it was started from.",
        held=(Lane.IMPORTANCE,),
    ),
    Kind(
        "study", Workers.SWEEPS, 64,
        "A recipe of the gallery, run on the unchanged model. It goes on while its person looks at other pages.",
        held=(Lane.STUDY,), patience=600.0,
    ),
    Kind(
        "lens-training", Workers.TRAINING, 8,
        "A tuned lens, trained on the unchanged model. It goes on while its person edits and looks at other pages.",
        held=(Lane.LENS_TRAINING,), patience=1800.0, tells=Tells.PIECES,
    ),
    Kind(
        "healing", Workers.TRAINING, 4,
        "A plan healed. It keeps the plan that it was started from, and goes on while its person edits and looks at other "
        "pages.",
        held=(Lane.HEALING,), patience=1800.0, tells=Tells.PIECES,
    ),
    Kind(
        "lens-fetch", Workers.FETCHING, 8,
        "A lens from the hub, which is of no plan. A download takes longer than a look at another page.",
        held=(Lane.LENS_FETCH,), patience=120.0, tells=Tells.CLOCK,
    ),
)  # fmt: skip


def kinds_of(pool: Workers) -> Mapping[str, Kind]:
    """Return the kinds that a pool does, by their keys."""
    return MappingProxyType({kind.key: kind for kind in TABLE if kind.pool == pool})


PLAN_LANES = tuple(dict.fromkeys(lane for kind in TABLE for lane in kind.dropped))
"""Lanes that an edit of the plan lets go of. All are lanes of the pool `WORK`."""
