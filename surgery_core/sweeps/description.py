"""A sweep as a value that can be handed to another process: what to run, without the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.means import mean_contributions
from surgery_core.states.shared_beginnings import DEFAULT_MEMORY
from surgery_core.sweeps.file import SweepFile, SweepIdentity, columns_of, model_name
from surgery_core.sweeps.kinds import sweep_kind, sweep_points, usual_best
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text, bundled_texts


@dataclass(frozen=True)
class SweepJob:
    """What to sweep, by names and values.

    Attributes:
        model: a name for `load_model`.
        kind: key of a kind of sweep.
        texts: what is scored.
        options: what the kind may need.
        start: the plan that is changed, in notation; None for the unchanged model.
        measures: what is measured.
        shorten: whether a long sweep looks for the best plans only (`usual_best`) where `measures` does not say.
        revision, device, dtype: as for `load_model`.
        memory: bytes of hidden states that may be kept.
        calibration: what stitches are fitted on; None for the usual texts.
    """

    model: str
    kind: str
    texts: tuple[Text, ...] = field(default_factory=bundled_texts)
    options: SweepOptions = field(default_factory=SweepOptions)
    start: str | None = None
    measures: SweepMeasures = field(default_factory=SweepMeasures)
    shorten: bool = False
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    memory: int = DEFAULT_MEMORY
    calibration: tuple[Text, ...] | None = None

    def load(self) -> LoadedModel:
        """Return the model, loaded. Errors as `load_model`."""
        return load_model(self.model, revision=self.revision, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Description:
    """What a results file and a schedule need to know of a sweep before it runs; and how its texts were cut, in words."""

    identity: SweepIdentity
    columns: tuple[str, ...]
    numbers: tuple[int, ...]
    note: str = ""


class OpenSweep:
    """A job with its model in memory.

    Args:
        job: what to sweep.
        loaded: its model, where that is loaded already.

    Raises:
        PlanError: when the starting plan does not parse or names another model's layers.
        SettingsError: when the kind does not fit the model.
        TextError: when a text cannot be scored.
    """

    def __init__(self, job: SweepJob, loaded: LoadedModel | None = None) -> None:
        loaded = loaded or job.load()
        model, tokenizer, n_layers = loaded.model, loaded.tokenizer, loaded.info.n_layers
        start = LayerPlan.identity(n_layers) if job.start is None else LayerPlan.parse(job.start, n_layers)
        averaged = any(layer.mean for slot in start for layer in slot.layers)
        points, measures = sweep_points(job.kind, start, job.options), job.measures
        if job.shorten and measures.best is None:
            measures = replace(measures, best=usual_best(sweep_kind(job.kind), len(points)))
        self.sweep = Sweep(
            model, tokenizer, job.texts, points, start=start, measures=measures,
            means=mean_contributions(model, tokenizer, bundled_texts()) if averaged else None, memory=job.memory,
            calibration=job.calibration,
        )  # fmt: skip
        identity = SweepIdentity.of(model_name(loaded.info), job.kind, self.sweep, job.options)
        numbers, cut = tuple(point.number for point in self.sweep.points), self.sweep.setup.encoded.cut
        self.description = Description(
            identity, tuple(columns_of(self.sweep)), numbers, "" if cut is None else cut.sentence
        )

    def rows(self, numbers: Sequence[int]) -> Iterator[SweepRow]:
        """Yield the starting plan's row and those of some points, as soon as each is known."""
        wanted = set(numbers)
        return self.sweep.rows(done=[number for number in self.description.numbers if number not in wanted])


class InOrder:
    """Puts rows that come in any order into a results file in the order of their numbers.

    Args:
        description: of the sweep.
        path: the file; None keeps the rows in memory only.

    Raises:
        SweepFileError: when the file holds another sweep, is broken, or cannot be written.
    """

    def __init__(self, description: Description, path: Path | None) -> None:
        self._description = description
        self.file = SweepFile(path, list(description.columns), description.identity) if path is not None else None
        self.rows: dict[int, SweepRow] = {row.number: row for row in (self.file.rows if self.file else ())}
        self.expected = [number for number in (-1, *description.numbers) if number not in self.rows]
        self._waiting: dict[int, SweepRow] = {}

    def identity(self) -> dict[str, str]:
        """Return the columns that name the sweep."""
        return self._description.identity.columns()

    @property
    def note(self) -> str:
        """Return how the texts were joined and cut, in words; empty where each was scored for itself."""
        return self._description.note

    @property
    def missing(self) -> list[int]:
        """Return the numbers of the points whose rows have not come."""
        return [number for number in self.expected if number not in self._waiting and number >= 0]

    def put(self, row: SweepRow) -> bool:
        """Take a row; return whether it is new. Rows are written as soon as all before them are."""
        if row.number in self.rows or row.number in self._waiting:
            return False
        self._waiting[row.number] = row
        while self.expected and self.expected[0] in self._waiting:
            ready = self._waiting.pop(self.expected.pop(0))
            if self.file is not None:
                self.file.append(ready)
            self.rows[ready.number] = ready
        return True
