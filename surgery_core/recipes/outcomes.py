"""What the recipes that come along came to on a model: kept beside them, so that a page shows it without computing.

One file a model, `outcomes/MODEL.json`, written by `gallery --write` and never by hand. Figures keep six significant
digits, pictures at most `MOST_MARKS` marks of four.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from surgery_core.errors import RecipeError
from surgery_core.models.offered import DEFAULT_MODEL
from surgery_core.recipes import gallery as coming_along
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.studies.finding import Figure, Finding, Outcome, Picture
from surgery_core.whole_files import write_whole

FOLDER = "outcomes"
"""Name of the folder beside the recipes."""
MOST_MARKS = 1500
"""Most marks of a picture that are kept; of more, every second, third, ... is."""
_DIGITS, _MARK_DIGITS = 6, 4


@dataclass(frozen=True, eq=False)
class KeptOutcome:
    """What one recipe came to on one model.

    Attributes:
        finding: its figures and picture, rounded.
        outcome: whether the claim holds there; None where the recipe has none.
        seconds: how long the study took.
        measured: the day, as 2026-11-26.
        texts: how many texts were read.
        digest: of what was asked (`asked`), by which a store that is out of date is noticed.
    """

    finding: Finding
    outcome: Outcome | None
    seconds: float
    measured: str
    texts: int
    digest: str

    @classmethod
    def of(cls, recipe: Recipe, result: StudyResult, n_texts: int) -> KeptOutcome:
        """Return a result as it is kept, measured today."""
        found = result.finding
        finding = replace(
            found, figure=_rounded(found.figure), others=tuple(map(_rounded, found.others)), frame=_bounded(found)
        )
        today = date.today().isoformat()
        return cls(finding, result.outcome, round(result.seconds, 1), today, n_texts, asked(recipe))

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON holds it; what is no number is null."""
        found = self.finding
        frame = {str(name): [_plain(value, _MARK_DIGITS) for value in column] for name, column in found.frame.items()}
        return {
            "outcome": self.outcome, "figure": _figure(found.figure), "others": [_figure(one) for one in found.others],
            "note": found.note, "picture": asdict(found.picture), "frame": frame, "seconds": self.seconds,
            "measured": self.measured, "texts": self.texts, "digest": self.digest,
        }  # fmt: skip

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> KeptOutcome:
        """Return what `plain` wrote."""
        figures = [
            Figure(**{name: _number(value) for name, value in one.items()}) for one in (held["figure"], *held["others"])
        ]
        finding = Finding(
            figures[0], tuple(figures[1:]), pd.DataFrame(held["frame"]), Picture(**held["picture"]), held["note"]
        )
        return cls(finding, held["outcome"], held["seconds"], held["measured"], held["texts"], held["digest"])


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What recipes came to on one model.

    Attributes:
        made: with what: the model's facts and the versions.
        by_key: an outcome a recipe.
        refused: why the model cannot answer a recipe, by its key.
    """

    made: Mapping[str, str]
    by_key: Mapping[str, KeptOutcome]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self.made["model"]


def asked(recipe: Recipe) -> str:
    """Return 16 digits that change when what a recipe measures does, whatever its words are."""
    study = None if recipe.study is None else recipe.study.table() | recipe.study.options
    texts = None if recipe.text_set is None else recipe.text_set.table()
    own = [[text.title, text.text] for text in recipe.own_texts]
    claim = None if recipe.claim is None else {**recipe.claim.table(), "says": ""}
    held = json.dumps([study, texts, recipe.texts, own, recipe.cut, recipe.seed, claim], sort_keys=True)
    return hashlib.sha256(held.encode()).hexdigest()[:16]


def read_outcomes(model: str, folder: Path | None = None) -> Outcomes | None:
    """Return what is kept of a model, or None where nothing is.

    Args:
        model: its name; of a path or an id on the hub the last part.
        folder: where outcomes lie; by default beside the recipes.

    Raises:
        RecipeError: when the file cannot be read.
    """
    path = outcomes_file(model, folder)
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Outcomes:
    """Return what a file holds; `changed` tells it from what it was before."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        by_key = {key: KeptOutcome.read(one) for key, one in held["recipes"].items()}
        return Outcomes(held["made"], by_key, held["refused"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{path.name} is no file of outcomes ({type(error).__name__}: {error}); write it again with gallery --write."
        ) from error


def all_outcomes(folder: Path | None = None) -> tuple[Outcomes, ...]:
    """Return what is kept of every model, the bundled one first. Errors as `read_outcomes`."""
    where = coming_along.RECIPES_FOLDER / FOLDER if folder is None else folder
    names = sorted((path.stem for path in where.glob("*.json")), key=lambda name: (name != DEFAULT_MODEL, name))
    found = (read_outcomes(name, folder) for name in names)
    return tuple(one for one in found if one is not None)


def write_outcomes(outcomes: Outcomes, folder: Path | None = None) -> Path:
    """Write what recipes came to, in place of what was there.

    Raises:
        RecipeError: when the file cannot be written.
    """
    by_key = {key: one.plain() for key, one in sorted(outcomes.by_key.items())}
    held = {"made": dict(outcomes.made), "refused": dict(sorted(outcomes.refused.items())), "recipes": by_key}
    path = outcomes_file(outcomes.model, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(path, (_lines(held) + "\n").encode("utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be written: {error.strerror}; give another folder.") from error


def outcomes_file(model: str, folder: Path | None = None) -> Path:
    """Return where the outcomes of a model lie."""
    return (coming_along.RECIPES_FOLDER / FOLDER if folder is None else folder) / f"{short_name(model)}.json"


def short_name(model: str) -> str:
    """Return the last part of a path, or of an id on the hub: where a model lies is nobody's business."""
    return model.rstrip("/").rpartition("/")[2]


def _lines(held: dict[str, Any]) -> str:
    """Return JSON with a line a recipe, so that a change of one is a change of one line."""
    recipes = ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(one, ensure_ascii=False, allow_nan=False)}"
        for key, one in held["recipes"].items()
    )
    head = ",\n".join(f'"{name}": {json.dumps(held[name], ensure_ascii=False)}' for name in ("made", "refused"))
    return f'{{{head},\n"recipes": {{\n{recipes}\n}}}}'


def _bounded(found: Finding) -> pd.DataFrame:
    """Return the columns that a picture draws, of at most `MOST_MARKS` marks."""
    picture = found.picture
    wanted = [picture.x, picture.y, picture.series, picture.value, picture.low, picture.high]
    frame = found.frame[list(dict.fromkeys(name for name in wanted if name))]
    return frame.iloc[:: -(-len(frame) // MOST_MARKS) or 1].reset_index(drop=True)


def _rounded(figure: Figure) -> Figure:
    value, low, high = (_round(part, _DIGITS) for part in (figure.value, figure.low, figure.high))
    return replace(figure, value=value, low=low, high=high)


def _round(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value


def _figure(figure: Figure) -> dict[str, Any]:
    return {name: _plain(value, _DIGITS) for name, value in asdict(figure).items()}


def _plain(value: Any, digits: int) -> Any:
    """Return a value as JSON holds it."""
    item = value.item() if hasattr(value, "item") else value
    if isinstance(item, float):
        return _round(item, digits) if math.isfinite(item) else None
    return item


def _number(value: Any) -> Any:
    return math.nan if value is None else value
