"""Tools: what an experiment asks for by name, made for the bench's model.

A factory is called with the model, and with the tokenizer where it has a parameter of that name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from surgery_core.errors import ExperimentError, LensError
from surgery_core.lenses.files import lens_beside, load_lens
from surgery_core.lenses.jacobian import JacobianLens
from surgery_core.lenses.jacobian_files import jacobians_beside, load_jacobians
from surgery_core.lenses.jacobian_fit import JacobianFit, fit_jacobians
from surgery_core.lenses.reading import Lens, LogitLens, read_lens
from surgery_core.lenses.training import LensTraining, train_lens
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.lenses.tuned import Translators, TunedLens
from surgery_core.measure.compare import compare, score
from surgery_core.measure.generation import complete, generate
from surgery_core.measure.importance import importance
from surgery_core.measure.results import Comparison
from surgery_core.measure.skills import score_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.plugins import load_plugin, plugins
from surgery_core.proof.preflight import prove
from surgery_core.surgery.in_place import ModelSurgery
from surgery_core.surgery.view import operate
from surgery_core.sweeps.sweep import sweep
from surgery_core.text import Text, TextsLike, bundled_texts

Factory = Callable[..., Any]


class LensTool:
    """A lens and the model that it reads: `tool(text)` is a `Trajectory`.

    Attributes:
        lens: the lens itself.
    """

    def __init__(self, lens: Lens, model: nn.Module, tokenizer: Any) -> None:
        self.lens, self.model, self.tokenizer = lens, model, tokenizer

    def __call__(self, text: Text | str, **options: Any) -> Trajectory:
        """Read a text at every layer of the model as it is now; options and errors as for `read_lens`."""
        return read_lens(self.lens, self.model, self.tokenizer, text, **options)


class TunedLensTool:
    """The tuned lens that came with the model, or one that is loaded or trained: `tool(text)` is a `Trajectory`."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.translators = _translators_beside(model)

    @property
    def lens(self) -> TunedLens:
        """Return the lens itself.

        Raises:
            LensError: when there is none yet, or it is for another model.
        """
        if self.translators is None:
            raise LensError(
                "This model came with no tuned lens; name one with tuned_lens.load(folder), or make one with "
                "tuned_lens.train(texts)."
            )
        return TunedLens(self.model, self.translators)

    def __call__(self, text: Text | str, **options: Any) -> Trajectory:
        """Read a text at every layer of the model as it is now; options and errors as for `read_lens`."""
        return read_lens(self.lens, self.model, self.tokenizer, text, **options)

    def load(self, name: str | Path) -> TunedLensTool:
        """Read through the lens of this folder or hub id from now on; errors as for `load_lens`."""
        self.translators = load_lens(name)
        return self

    def train(self, texts: TextsLike, settings: LensTraining | None = None) -> TunedLensTool:
        """Train a lens on texts and read through it from now on; errors as for `train_lens`."""
        self.translators = train_lens(self.model, self.tokenizer, texts, settings)
        return self


class JacobianLensTool:
    """The Jacobian lens that came with the model, or one that is loaded or fitted: `tool(text)` is a `Trajectory`."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        folder = jacobians_beside(getattr(model, "name_or_path", ""))
        self.fitted = load_jacobians(folder) if folder is not None else None

    @property
    def lens(self) -> JacobianLens:
        """Return the lens itself.

        Raises:
            LensError: when there is none yet, or it is for another model.
        """
        if self.fitted is None:
            raise LensError(
                "This model came with no Jacobian lens; name one with jacobian_lens.load(folder), or make one with "
                "jacobian_lens.fit(texts)."
            )
        return JacobianLens(self.model, self.fitted)

    def __call__(self, text: Text | str, **options: Any) -> Trajectory:
        """Read a text at every layer of the model as it is now; options and errors as for `read_lens`."""
        return read_lens(self.lens, self.model, self.tokenizer, text, **options)

    def load(self, name: str | Path) -> JacobianLensTool:
        """Read through the lens of this folder, file or hub id from now on; errors as for `load_jacobians`."""
        self.fitted = load_jacobians(name)
        return self

    def fit(self, texts: TextsLike, settings: JacobianFit | None = None) -> JacobianLensTool:
        """Fit a lens on texts and read through it from now on; errors as for `fit_jacobian_lens`."""
        self.fitted = fit_jacobians(self.model, self.tokenizer, texts, settings)
        return self


def _compare(model: nn.Module, tokenizer: Any) -> Callable[..., Comparison]:
    def compared(operated: nn.Module | LayerPlan | str, texts: TextsLike | None = None, **options: Any) -> Comparison:
        """Compare the bench's model with a view of it, or with what a plan makes of it, by default over bundled texts."""
        view = operate(model, operated) if isinstance(operated, (LayerPlan, str)) else operated
        return compare(model, view, tokenizer, bundled_texts() if texts is None else texts, **options)

    return compared


BUILT_IN: Mapping[str, Factory] = {
    "surgery": lambda model: ModelSurgery(model),
    "operate": lambda model: partial(operate, model),
    "prove": lambda model, tokenizer: partial(prove, model, tokenizer),
    "logit_lens": lambda model, tokenizer: LensTool(LogitLens(model), model, tokenizer),
    "tuned_lens": lambda model, tokenizer: TunedLensTool(model, tokenizer),
    "jacobian_lens": lambda model, tokenizer: JacobianLensTool(model, tokenizer),
    "score": lambda model, tokenizer: partial(score, model, tokenizer),
    "compare": _compare,
    "generate": lambda model, tokenizer: partial(generate, model, tokenizer),
    "complete": lambda model, tokenizer: partial(complete, model, tokenizer),
    "sweep": lambda model, tokenizer: partial(sweep, model, tokenizer),
    "importance": lambda model, tokenizer: partial(importance, model, tokenizer),
    "skills": lambda model, tokenizer: partial(score_skills, model, tokenizer),
}
"""The tools that every bench has."""


def known_tools(added: Mapping[str, Factory]) -> tuple[str, ...]:
    """Return the names of all tools: built in, added, and those of other packages."""
    return tuple(dict.fromkeys((*BUILT_IN, *added, *plugins("tools"))))


def require_tools(names: tuple[str, ...], added: Mapping[str, Factory]) -> None:
    """Refuse names that are no tool.

    Raises:
        ExperimentError: naming the first one, and all that there are.
    """
    known = known_tools(added)
    for name in names:
        if name not in known:
            raise ExperimentError(f"There is no tool {name!r}; there are: {', '.join(known)}.")


def make_tool(name: str, added: Mapping[str, Factory], model: nn.Module, tokenizer: Any) -> Any:
    """Return a tool for a model.

    Raises:
        ExperimentError: when there is no such tool, or it needs a tokenizer and there is none.
        InputError: when the package that declares it cannot be imported.
    """
    require_tools((name,), added)
    factory = BUILT_IN.get(name) or added.get(name) or load_plugin(plugins("tools")[name])
    if "tokenizer" not in inspect.signature(factory).parameters:
        return factory(model)
    if tokenizer is None:
        raise ExperimentError(
            f"The tool {name!r} needs a tokenizer; make the bench with one: Bench(model, tokenizer=tokenizer)."
        )
    return factory(model, tokenizer=tokenizer)


def _translators_beside(model: nn.Module) -> Translators | None:
    folder = lens_beside(getattr(model, "name_or_path", ""))
    return load_lens(folder) if folder is not None else None
