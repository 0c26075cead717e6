"""`Bench`: a model, its tools, and a folder in which experiments are written down."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

import pandas as pd
from torch import nn

from surgery_core.bench.circumstances import model_facts
from surgery_core.bench.draft import Draft
from surgery_core.bench.experiment import Experiment, find_experiment, list_experiments
from surgery_core.bench.tables import overview, side_by_side
from surgery_core.bench.tools import BUILT_IN, Factory, known_tools, make_tool, require_tools
from surgery_core.errors import ExperimentError
from surgery_core.models.opening import LoadedModel

Args = ParamSpec("Args")
Result = TypeVar("Result")
Finder = Callable[[tuple[Any, ...]], "Bench"]
"""From a call's positional arguments to the bench whose tools and folder it uses."""

TOOLS = "bench_tools"
"""Attribute of a decorated function: the names of the tools that it is given."""


class Bench:
    """A model with tools for experiments on it, and a folder for what they found.

    Args:
        model: a causal language model, or a `LoadedModel`, which brings its tokenizer, name and revision along.
        save_dir: folder in which experiments are written down; made when the first one is.
        tokenizer: the model's, for the tools that read or write text.

    Attributes:
        model: the model object that every tool is bound to.
        tokenizer: or None.
        save_dir: the folder.
    """

    _added: ClassVar[dict[str, Factory]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._added = {}

    def __init__(self, model: Any, save_dir: str | Path = "experiments", tokenizer: Any = None) -> None:
        opened = model if isinstance(model, LoadedModel) else None
        self.model: Any = opened.model if opened else model
        self.tokenizer = opened.tokenizer if opened and tokenizer is None else tokenizer
        self.save_dir = Path(save_dir)
        if not isinstance(self.model, nn.Module):
            raise ExperimentError(
                f"A bench needs a model, not {type(model).__name__}; open one with load_model or transformers."
            )
        self._facts = model_facts(self.model, opened.info if opened else None)
        self._made: dict[str, Any] = {}

    @classmethod
    def add_tool(cls, name: str, factory: Factory) -> None:
        """Add a tool to all benches of this class and of those made of it; a tool that was added before is replaced.

        Args:
            name: what experiments call it, and their argument.
            factory: called with the model, and with the tokenizer where it has a parameter `tokenizer`.

        Raises:
            ExperimentError: when the name is no name of an argument, or one of the tools that every bench has.
        """
        if not name.isidentifier():
            raise ExperimentError(f"{name!r} cannot name a tool; write it like an argument, such as my_tool.")
        if name in BUILT_IN:
            raise ExperimentError(f"Every bench has a tool {name!r} already; choose another name.")
        cls._added[name] = factory

    @property
    def tools(self) -> tuple[str, ...]:
        """Return the names of the tools that there are."""
        return known_tools(self._factories())

    def tool(self, name: str) -> Any:
        """Return a tool, bound to the bench's model; the same one at every call.

        Raises:
            ExperimentError: when there is none of that name, or it needs a tokenizer and the bench has none.
        """
        factory = self._factories().get(name)
        known = self._made.get(name)
        if known is None or known[0] is not factory:
            known = self._made[name] = (factory, make_tool(name, self._factories(), self.model, self.tokenizer))
        return known[1]

    def use_tools(self, *names: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
        """Give a function these tools, each as the keyword argument of its name.

        Raises:
            ExperimentError: when there is no such tool, or the function has no argument of its name.
        """
        require_tools(names, self._factories())
        return lambda function: _with_tools(lambda args: self, names, function)

    def log_experiment(self, function: Callable[Args, Result]) -> Callable[Args, Result]:
        """Write each call of a function down: one new JSON file in `save_dir`, never an old one.

        The file is claimed before the function runs, so that a folder that cannot be written to is an error at once.

        Raises:
            ExperimentError: when the function yields or waits instead of returning its result, or the record cannot be
                written; the error then has the result.
        """
        return _logged(lambda args: self, function)

    def experiments(self) -> pd.DataFrame:
        """Return one line an experiment in `save_dir`, oldest first.

        Columns: name, number, started, seconds, outcome, tools, arguments, model, revision, commit, source, file. A file
        that cannot be read has its reason as outcome.
        """
        return overview(list_experiments(self.save_dir))

    def experiment(self, name: str) -> Experiment:
        """Return one experiment: the newest of a name, or a certain one, `name.v3`.

        Raises:
            ExperimentError: when there is none, or it cannot be read.
        """
        return find_experiment(self.save_dir, name)

    def compare(self, names: Iterable[str]) -> pd.DataFrame:
        """Return experiments side by side: one column each, a row for each argument, circumstance and figure.

        Args:
            names: as for `experiment`.

        Raises:
            ExperimentError: when there is no such experiment, or one cannot be read.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        return side_by_side({name: self.experiment(name) for name in wanted})

    def draft(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Draft:
        """Begin the record of a call."""
        given = {key: value for key, value in kwargs.items() if key not in tools_of(function)}
        return Draft(self.save_dir, function, args, given, tools_of(function), self._facts)

    def _factories(self) -> dict[str, Factory]:
        """Return the tools added to this class and to those that it is made of."""
        classes = [cls for cls in type(self).__mro__ if issubclass(cls, Bench)]
        return {name: factory for cls in reversed(classes) for name, factory in cls._added.items()}


BaseInterpretabilityBench = Bench
"""The name of this class in the tool where the example comes from."""


def use_tools(*names: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Give a method of a `Bench` these tools, each as the keyword argument of its name; errors at the first call."""
    return lambda function: _with_tools(_owner, names, function)


def log_experiment(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Write each call of a method of a `Bench` down, as `Bench.log_experiment` does for functions."""
    return _logged(_owner, function)


def tools_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the tools that a decorated function is given."""
    names: tuple[str, ...] = getattr(function, TOOLS, ())
    return names


def _owner(args: tuple[Any, ...]) -> Bench:
    if args and isinstance(args[0], Bench):
        return args[0]
    raise ExperimentError(
        "This decorator is for methods of a Bench; before a function, name the bench: @exp.use_tools(...)."
    )


def _with_tools(bench_of: Finder, names: tuple[str, ...], function: Callable[..., Result]) -> Callable[..., Result]:
    signature = inspect.signature(function)
    _require_arguments(function, signature, names)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Result:
        bench = bench_of(args)
        given = {name: bench.tool(name) for name in names if name not in kwargs}
        return function(*args, **given, **kwargs)

    seen = [parameter for name, parameter in signature.parameters.items() if name not in names]
    run.__signature__ = signature.replace(parameters=seen)  # type: ignore[attr-defined]
    for decorated in (function, run):
        setattr(decorated, TOOLS, (*tools_of(function), *(name for name in names if name not in tools_of(function))))
    return run


def _require_arguments(function: Callable[..., Any], signature: inspect.Signature, names: tuple[str, ...]) -> None:
    parameters = signature.parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in names:
        if name not in parameters or parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY:
            raise ExperimentError(
                f"{function.__name__} has no argument {name!r} for the tool of that name; add it: "
                f"def {function.__name__}(..., {name})."
            )


def _logged(bench_of: Finder, function: Callable[Args, Result]) -> Callable[Args, Result]:
    bare = inspect.unwrap(function)
    if inspect.isgeneratorfunction(bare) or inspect.iscoroutinefunction(bare) or inspect.isasyncgenfunction(bare):
        raise ExperimentError(
            f"{bare.__name__} yields or waits; log_experiment writes down what a function returns, so let it return a list."
        )

    @wraps(function)
    def run(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        draft = bench_of(args).draft(run, args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            draft.failed(error)
            raise
        draft.returned(result)
        return result

    return run
