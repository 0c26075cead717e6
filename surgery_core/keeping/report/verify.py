"""Run what a file states again, and say of each figure whether it agrees.

Three kinds of files are read: a report, a recipe with figures, and the card of an exported checkpoint, by itself or in
its folder. Of that, the weights beside it are scored too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pandas as pd

from surgery_core.errors import ReportError
from surgery_core.keeping.report.carded import figures_text, shown_otherwise
from surgery_core.keeping.report.evidence import SETTINGS, Evidence, read_card, read_page, read_recipe
from surgery_core.keeping.report.figures import Stated, Tolerance
from surgery_core.keeping.report.findings import find
from surgery_core.keeping.report.page import page_digest
from surgery_core.keeping.report.sections import title_of
from surgery_core.keeping.report.stating import figures_of
from surgery_core.keeping.report.tolerances import tolerances_of
from surgery_core.measure.compare import score
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.parser import parse_slots
from surgery_core.recipes.made import made_with
from surgery_core.recipes.scored import texts_of
from surgery_core.stopping import Progress

Outcome = Literal["agrees", "differs", "edited", "shown otherwise", "not there", "not compared"]
MOST_BYTES = 20_000_000
"""Largest file that is read."""
CARD = "README.md"
_LONGEST = 48


@dataclass(frozen=True)
class Checked:
    """One line of a verification.

    Attributes:
        name: of the figure.
        stated, now: as a page shows them.
        tolerance: in words.
        outcome: `"agrees"`; `"differs"` by more than the tolerance; `"edited"`, its seal is broken; `"shown otherwise"`,
            the page shows something else than is stated; `"not there"`, the run has no such figure; `"not compared"`.
        why: more of it, where there is more.
    """

    name: str
    stated: str
    now: str
    tolerance: str
    outcome: Outcome
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the figure."""
        return self.outcome in ("agrees", "not compared")


@dataclass(frozen=True)
class Verification:
    """What came of a file: a line a figure, and sentences about what they rest on."""

    lines: tuple[Checked, ...]
    sentences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every figure agrees, and nothing was edited."""
        return all(line.holds for line in self.lines)

    def frame(self) -> pd.DataFrame:
        """Return one line a figure: name, stated, now, tolerance, outcome, why."""
        return pd.DataFrame([vars(line) for line in self.lines])


@dataclass(frozen=True)
class Read:
    """A file that was read: what it states, what it shows by name, and lines about how it was edited."""

    evidence: Evidence
    shown: Mapping[str, Sequence[str]]
    edits: tuple[Checked, ...] = ()
    weights: Path | None = None


def verify(
    path: str | Path, *, device: str = "auto", dtype: str | None = None, loaded: LoadedModel | None = None,
    on_progress: Progress | None = None, stop: threading.Event | None = None,
) -> Verification:  # fmt: skip
    """Run a report, a recipe with figures, or an exported checkpoint's card again.

    Args:
        path: the file, or the folder of a checkpoint.
        device: where to run, as for `load_model`.
        dtype: the number format; None for the one that the figures were made with.
        loaded: the model, when it is open already.
        on_progress: called with how much of the work is done, and of how much.
        stop: when set, the work ends with `Stopped`.

    Raises:
        ReportError: when the file cannot be read, or has no figures.
        RecipeError: when its recipe is none.
        ModelLoadError, PlanError, RefusedPlanError: as `run_recipe`.
    """
    read = read_file(Path(path))
    evidence, recipe = read.evidence, read.evidence.recipe
    made = evidence.made
    model = loaded or load_model(
        recipe.model, device=device, dtype=dtype or made.get("dtype", "auto"), revision=recipe.revision
    )
    found = find(recipe, evidence.asked, loaded=model, on_progress=on_progress, stop=stop)
    now = {one.name: one for one in figures_of(found)}
    stated = evidence.figures or tuple(_loose(evidence, now))
    lines = [_checked(one, now.get(one.name), evidence, read.shown) for one in stated]
    lines += _saved(read, model, stated, stop)
    settled = [*read.edits, *([_revision(made, model)] if made else [])]
    return Verification((*settled, *lines), tuple(_sentences(made, made_with(model.info))))


def read_file(path: Path) -> Read:
    """Return what a file states.

    Raises:
        ReportError: when it is missing, too large, of no known kind, or has no figures.
        RecipeError: when its recipe is none.
    """
    if path.is_dir():
        path = path / CARD
    text = _text(path)
    kind = path.suffix.lower()
    if kind in (".html", ".htm"):
        return _page(text)
    if kind == ".md":
        return _card(text, path.parent)
    if kind == ".toml":
        evidence = read_recipe(text)
        return Read(evidence, {}, tuple(_edits(evidence)))
    raise ReportError(
        f"{str(path)!r} is no .html, .toml, .md or folder; give a report, a recipe or a checkpoint's card."
    )


def _lines(text: str) -> str:
    """Return a text with the line ends of Unix: a file may have got others on its way."""
    return text.replace("\r\n", "\n")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    if len(data) > MOST_BYTES:
        raise ReportError(f"{str(path)!r} is larger than {MOST_BYTES:,} bytes, so it is no report of this program.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ReportError(f"{str(path)!r} is not UTF-8 text; give the file as it was written.") from None


def _page(text: str) -> Read:
    evidence, rest = read_page(text)
    reader = _Says()
    reader.feed(_lines(rest))
    reader.close()
    recipe = evidence.recipe
    own = {"title": title_of(recipe), "comment": recipe.note, "recipe": recipe.dumps()}
    edits = [*_edits(evidence)]
    for name in own:
        there = "".join(reader.found.get(name, ()))
        if there != _lines(own[name]):
            edits.append(Checked(name, _cut(own[name]), _cut(there), "exact", "shown otherwise"))
    missing = [one.name for one in evidence.figures if one.name not in reader.found]
    if missing or page_digest(rest) != evidence.page:
        what = (
            f"it no longer shows {missing[0]!r}" if missing else "a figure that is named here, or something else of it"
        )
        edits.append(Checked("the page", "as it was written", "edited", "exact", "edited", what))
    return Read(evidence, reader.found, tuple(edits))


def _card(text: str, folder: Path) -> Read:
    evidence = read_card(text)
    edits = [*_edits(evidence)]
    for name, wanted, there in shown_otherwise(evidence, figures_text(text)):
        edits.append(Checked(name, _cut(wanted), _cut(there), "exact", "shown otherwise"))
    return Read(evidence, {}, tuple(edits), folder if (folder / "config.json").is_file() else None)


def _edits(evidence: Evidence) -> Iterator[Checked]:
    if SETTINGS in evidence.edited:
        yield Checked(SETTINGS, "as they were written", "edited", "exact", "edited", "their seal is broken")


def _checked(one: Stated, now: Stated | None, evidence: Evidence, page: Mapping[str, Sequence[str]]) -> Checked:
    """Return the line of a figure: what was edited counts before what differs."""
    said = _cut(one.shown)
    if now is None:
        return Checked(one.name, said, "", one.tolerance.words, "not there", "the run has no such figure")
    new = _cut(now.shown, beside=one.shown)
    agrees = one.agrees(now.value)
    if one.name in evidence.edited:
        why = "its seal is broken" if agrees else "its seal is broken, and it differs"
        return Checked(one.name, said, new, one.tolerance.words, "edited", why)
    other = next((there for there in page.get(one.name, ()) if there != _lines(one.shown)), None)
    if other is not None:
        why = f"the page shows {_cut(other, beside=one.shown)!r}"
        return Checked(one.name, said, new, one.tolerance.words, "shown otherwise", why)
    loose = one.tolerance.kind == "free" or one.tolerance == Tolerance("beginning", 0.0)
    if loose and one.value != now.value:
        return Checked(one.name, said, new, one.tolerance.words, "not compared", _LOOSE[one.tolerance.kind])
    return Checked(
        one.name, _digits(one, said), _digits(now, new), one.tolerance.words, "agrees" if agrees else "differs"
    )


def _digits(one: Stated, otherwise: str) -> str:
    """Return a number with enough digits to see what a tolerance allows."""
    if isinstance(one.value, str):
        return otherwise
    return f"{one.value:.4%}" if one.unit == "share" else f"{one.value:.7g}"


def _loose(evidence: Evidence, now: Mapping[str, Stated]) -> Iterator[Stated]:
    """Yield the bare numbers of a recipe as figures: within half of their last digit, and what the arithmetic allows."""
    for name, (value, half) in evidence.loose.items():
        known = now.get(name)
        if known is None or isinstance(known.value, str):
            raise ReportError(f"There is no figure {name!r}; there are: {', '.join(list(now)[:14])}, and more.")
        own = known.tolerance
        room = own.by * abs(value) if own.kind == "relative" else own.by
        yield Stated(name, value, Tolerance("absolute", half + room), known.unit)


def _saved(
    read: Read, model: LoadedModel, stated: Sequence[Stated], stop: threading.Event | None
) -> Iterator[Checked]:  # fmt: skip
    """Yield the line of the weights that lie beside a card."""
    if read.weights is None:
        return
    wanted = next((one for one in stated if one.name == "perplexity after"), None)
    if wanted is None:
        return
    saved = load_model(str(read.weights), device=model.info.device, dtype=model.info.dtype)
    value = score(saved.model, saved.tokenizer, texts_of(read.evidence.recipe), stop=stop).perplexity
    one = Stated("perplexity of the saved weights", wanted.value, _as_saved(wanted.tolerance, read, saved))
    outcome: Outcome = "agrees" if one.agrees(value) else "differs"
    yield Checked(one.name, _digits(one, ""), f"{value:.7g}", one.tolerance.words, outcome)


def _as_saved(usual: Tolerance, read: Read, saved: LoadedModel) -> Tolerance:
    """Return the tolerance of saved weights: a factor that was folded into them was rounded to their number format."""
    scaled = any(
        layer.scale != 1 for slot in parse_slots(read.evidence.recipe.plan or "", 10**6) for layer in slot.layers
    )
    stored = tolerances_of(saved.info.stored_as or saved.info.dtype)
    return Tolerance("relative", stored.perplexity) if scaled else usual


def _revision(made: Mapping[str, str], model: LoadedModel) -> Checked:
    stated, now = made["revision"], model.info.revision
    if stated == now:
        return Checked("model revision", stated, now, "exact", "agrees")
    why = f"the figures are of another revision of {model.info.name!r}, so they may differ"
    return Checked("model revision", stated, now, "exact", "differs", why)


def _sentences(made: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if not made:
        return
    if made["revision"] != now["revision"]:
        yield (
            f"The figures were stated of {made['model']} at revision {made['revision']}; here it is at {now['revision']}. "
            "Open that revision to check them, or make the report again."
        )
    other = [f"{name} {made[name]} there and {now[name]} here" for name in ("dtype", "device", "surgery_core", "torch", "transformers")
             if made[name] != now[name]]  # fmt: skip
    if other:
        yield f"Stated and run with different things: {', '.join(other)}."
    if made["dtype"] != now["dtype"]:
        yield "Tolerances are of one number format; with another one figures may differ. Leave --dtype out to run in the same."


def _cut(text: str, beside: str = "") -> str:
    """Return a text on one line, from a little before where it differs from another one."""
    start = 0
    if beside and text != beside and len(text) > _LONGEST:
        same = next(
            (at for at, (a, b) in enumerate(zip(text, beside, strict=False)) if a != b), min(len(text), len(beside))
        )
        start = max(0, same - _LONGEST // 2)
    part = " ".join(text[start : start + _LONGEST].split())
    return ("…" if start else "") + part + ("…" if start + _LONGEST < len(text) else "")


_LOOSE = {
    "free": "it was sampled, and a choice hangs on the last digit",
    "beginning": "already its first token hardly leads the next likely one",
}
"""Why a text is not compared."""


class _Says(HTMLParser):
    """Collects what the elements of a page show that name it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, list[str]] = {}
        self._open: list[tuple[str, str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin to collect, or note that an element of the same kind lies within."""
        name = dict(attrs).get("data-says")
        if name is not None:
            self._open.append((name, tag, 0))
            self.found.setdefault(name, []).append("")
        elif self._open and self._open[-1][1] == tag:
            name, tag, depth = self._open[-1]
            self._open[-1] = (name, tag, depth + 1)

    def handle_endtag(self, tag: str) -> None:
        """End collecting where the element ends."""
        if self._open and self._open[-1][1] == tag:
            name, _, depth = self._open.pop()
            if depth:
                self._open.append((name, tag, depth - 1))

    def handle_data(self, data: str) -> None:
        """Collect a text."""
        if self._open:
            self.found[self._open[-1][0]][-1] += data
