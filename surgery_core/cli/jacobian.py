"""The command `fit-lens`: a Jacobian lens of a model, or of a plan of it; or several parts made one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery_core.cli.commands import load, operated, read_file
from surgery_core.cli.output import Output, progress
from surgery_core.cli.texts import add_sources, chosen_set
from surgery_core.errors import SettingsError

if TYPE_CHECKING:
    from surgery_core.lenses.jacobian import Jacobians
    from surgery_core.lenses.jacobian_fit import FitProgress
    from surgery_core.lenses.jacobian_on_ray import RayTexts
    from surgery_core.models.opening import LoadedModel
    from surgery_core.text import TextsLike

_SETTINGS = ("tokens", "skip", "target", "least", "tolerance")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `fit-lens` has besides the model and the plan."""
    parser.add_argument(
        "--to",
        required=True,
        metavar="PATH",
        help="where the lens is written: a folder, or a file of the reference, *.pt",
    )
    parser.add_argument(
        "--merge", nargs="+", metavar="LENS", help="fit nothing: make one lens of these, fitted on different texts"
    )
    parser.add_argument("--text", action="append", metavar="FILE", help="what to fit on (default: the bundled texts)")
    add_sources(parser)
    how = parser.add_argument_group("how it is fitted")
    how.add_argument("--state", metavar="FILE", help="keep what is done here after every text, and go on from it")
    how.add_argument(
        "--tokens", type=int, metavar="N", help="length of the pieces that texts are cut into (default: 128)"
    )
    how.add_argument(
        "--skip", type=int, metavar="N", help="tokens at a piece's beginning that are left out (default: 16)"
    )
    how.add_argument(
        "--target", type=int, metavar="N", help="the layer to whose output states are carried (default: -1)"
    )
    how.add_argument(
        "--least", type=int, metavar="N", help="pieces before which it does not end by itself (default: 100)"
    )
    how.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="end when the mean changes by less than this share (default: 0.002)",
    )
    where = parser.add_argument_group("where it runs")
    where.add_argument("--engine", choices=("local", "ray"), default="local", help="this process, or a Ray cluster")
    where.add_argument("--workers", type=int, default=2, metavar="N", help="workers on Ray (default: 2)")
    where.add_argument("--address", metavar="HOST", help="of a running Ray cluster (default: one on this machine)")


def fit_lens(arguments: argparse.Namespace) -> Output:
    """Fit a Jacobian lens, or merge parts, save it, and return what came of it."""
    from surgery_core.lenses.jacobian import merge_jacobians
    from surgery_core.lenses.jacobian_files import load_jacobians, save_jacobians

    if arguments.merge is not None:
        fitted = merge_jacobians([load_jacobians(part) for part in arguments.merge])
        short: tuple[str, ...] = ()
    else:
        fitted, short = _fitted(arguments)
    save_jacobians(fitted, arguments.to)
    row = {
        "layers": len(fitted.layers), "texts": fitted.n_texts, "change": fitted.change, "plan": fitted.plan,
        "short": list(short),
    }  # fmt: skip
    said = [f"Saved in {arguments.to}: {len(fitted.layers)} matrices, the mean of {fitted.n_texts} texts."]
    if fitted.change == fitted.change:
        said.append(f"The mean changed by {fitted.change:.2%} with a text at last.")
    if short:
        said.append(f"Too short, and left out: {', '.join(short)}.")
    return Output(" ".join(said), [row], [row])


def _fitted(arguments: argparse.Namespace) -> tuple[Jacobians, tuple[str, ...]]:
    from surgery_core.lenses.jacobian_fit import JacobianFit, fit_jacobians

    given = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
    settings, texts = JacobianFit(**given, cut=True), _texts(arguments)
    loaded = load(arguments)
    short: list[str] = []
    with progress("Fitting") as update:

        def report(now: FitProgress) -> None:
            short[:] = now.short
            update(now.text, now.texts)

        with _reader(arguments, loaded) as read:
            fitted = fit_jacobians(
                operated(loaded, arguments), loaded.tokenizer, texts, settings, name=loaded.info.name,
                state=arguments.state, on_progress=report, read=read,
            )  # fmt: skip
    return fitted, tuple(short)


@contextmanager
def _reader(arguments: argparse.Namespace, loaded: LoadedModel) -> Iterator[RayTexts | None]:
    """Give what reads texts on a cluster; None for this process."""
    if arguments.engine == "local":
        yield None
        return
    from surgery_core.lenses.jacobian_on_ray import FitJob, FitWorker, RayTexts
    from surgery_core.models.cluster import Cluster
    from surgery_core.plans.plan import LayerPlan

    info = loaded.info
    plan = (
        LayerPlan.parse(arguments.plan, info.n_layers)
        if arguments.plan is not None
        else LayerPlan.identity(info.n_layers)
    )
    if plan.donors or plan != plan.unstitched or any(layer.mean for slot in plan for layer in slot.layers):
        raise SettingsError(
            f"On Ray a lens is fitted on plans of the model's own layers, and {plan} needs more; leave --engine out."
        )
    job = FitJob(info.source, str(plan), info.revision if info.kind == "hub" else None, info.device, info.dtype)
    with Cluster(FitWorker, workers=arguments.workers, address=arguments.address) as cluster:
        yield RayTexts(cluster, job)


def _texts(arguments: argparse.Namespace) -> TextsLike:
    from surgery_core.text import bundled_texts

    own, chosen = tuple(read_file(path) for path in arguments.text or ()), chosen_set(arguments)
    if own and chosen is not None:
        raise SettingsError("Give --text, --texts or --dataset, not two of them.")
    found: Any = own or (bundled_texts() if chosen is None else chosen.scored())
    return found  # type: ignore[no-any-return]
