"""The commands `lens` and `train-lens`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from surgery_core.cli.commands import first_prompt, load, operated, read_file
from surgery_core.cli.output import Output, frame_rows, progress, table
from surgery_core.cli.texts import add_sources, chosen_set
from surgery_core.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from surgery_core.lenses.fitted import Fitted
    from surgery_core.lenses.reading import Lens
    from surgery_core.models.opening import LoadedModel
    from surgery_core.text import Text

SIDES = ("before", "after")
_NO_STATISTIC = ("text", "tokens", "row", "layer", "origin", "depth")
_SHOWN = ("row", "layer", "cross_entropy", "entropy", "kl", "rank")
"""Columns of averages that a table has; --json and --csv have all."""
_JS = "The last table is the Jensen-Shannon divergence of each cell from the unchanged model's, in nats, 0 to 0.693."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `lens` has besides the model and the plan."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prompt", metavar="TEXT", help="the text to read")
    what.add_argument("--text", metavar="FILE", help="a file to read, - for standard input")
    what.add_argument(
        "--averages", action="store_true", help="read whole texts instead, and show each layer's mean over their tokens"
    )
    what.add_argument(
        "--quality", action="store_true",
        help="how far this lens and the logit lens are from the unchanged model's output, by the layer that is entered",
    )  # fmt: skip
    how = parser.add_argument_group("how it is read")
    through = how.add_mutually_exclusive_group()
    through.add_argument("--tuned", metavar="LENS", help="through this tuned lens: a folder, or a hub id org/name")
    through.add_argument(
        "--jacobian",
        metavar="LENS",
        help="through this Jacobian lens: a folder, a file of the reference, or the hub id org/name of its model",
    )
    how.add_argument(
        "--follow", choices=("layer", "position"), default="layer",
        help="what translators of a tuned or Jacobian lens follow after surgery (default: layer)",
    )  # fmt: skip
    how.add_argument("--inside", action="store_true", help="read inside layers too, after their attention")
    how.add_argument("--start", type=int, default=0, metavar="N", help="begin at this token (default: 0)")
    how.add_argument("--positions", type=int, default=8, metavar="N", help="show the last N tokens (default: 8)")
    how.add_argument(
        "--pick",
        metavar="TOKEN",
        help="this token's log-probability in each cell too, as `picked`, with --json or --csv",
    )
    how.add_argument(
        "--before", action="store_true", help="show the unchanged model too, and how far each cell moved from it"
    )
    add_sources(parser.add_argument_group("which texts, with --averages or --quality"))


def lens(arguments: argparse.Namespace) -> Output:
    """Return what each layer would predict next at the last tokens of a text, or each layer's means over texts."""
    if arguments.positions < 1:
        raise SettingsError(f"--positions is {arguments.positions}; it must be at least 1.")
    if arguments.pick is not None and (arguments.averages or arguments.quality):
        raise SettingsError("--pick is about the cells of one text; leave it out with --averages and --quality.")
    if arguments.averages:
        return _averages(arguments)
    if arguments.quality:
        return _quality(arguments)
    return _read(arguments, None if arguments.text is None else read_file(arguments.text).text)


def train_lens(arguments: argparse.Namespace) -> Output:
    """Train a tuned lens, save it, and return how well both lenses read each layer."""
    from surgery_core.lenses.files import save_lens
    from surgery_core.lenses.quality import lens_quality
    from surgery_core.lenses.training import LensTraining
    from surgery_core.lenses.training import train_lens as train
    from surgery_core.text import bundled_texts

    given = {name: getattr(arguments, name) for name in ("steps", "seed") if getattr(arguments, name) is not None}
    settings = LensTraining(**given)
    own, chosen = tuple(read_file(path) for path in arguments.text or ()), chosen_set(arguments)
    if own and chosen is not None:
        raise SettingsError("Give --text, --texts or --dataset, not two of them.")
    texts = own or (bundled_texts() if chosen is None else chosen.scored())
    loaded = load(arguments)
    with progress("Training") as update:
        trained = train(
            loaded.model,
            loaded.tokenizer,
            texts,
            settings,
            name=loaded.info.name,
            on_progress=lambda state: update(state.step, state.steps),
        )
    save_lens(trained, arguments.to)
    rows = frame_rows(lens_quality(loaded.model, loaded.tokenizer, trained, bundled_texts()))
    return Output(f"Saved in {arguments.to}. KL to the output, in nats:\n\n{table(rows)}", rows, rows)


def _read(arguments: argparse.Namespace, text: str | None) -> Output:
    from surgery_core.lenses.reading import one_token, read_lens
    from surgery_core.text import chat_text, visible

    loaded = load(arguments)
    picked = None if arguments.pick is None else one_token(loaded.tokenizer, arguments.pick)
    given = (arguments.prompt if arguments.prompt is not None else first_prompt()) if text is None else text
    read_from = chat_text(loaded.tokenizer, given, arguments.system or "") if arguments.chat else given
    tables, rows, remarks = [], [], []
    for side, model in _sides(loaded, arguments):
        read = read_lens(
            _lens(model, arguments), model, loaded.tokenizer, read_from, follow=arguments.follow,
            sublayers=arguments.inside, picked=picked, start=arguments.start,
        )  # fmt: skip
        frame = read.frame()
        if side:
            frame = frame.assign(**_moved(loaded, model, arguments, read_from))
        frame = frame[frame["position"] > frame["position"].max() - arguments.positions]
        tables.append(
            [
                _named(side) | {"layer": cells["layer"].iloc[0]}
                | {f"{at} {visible(token)}": visible(top) for at, token, top in _columns(cells, "position", "token", "top")}
                for _, cells in frame.groupby("row")
            ]
        )  # fmt: skip
        if side == SIDES[1]:
            tables.append(
                [
                    {"layer": cells["layer"].iloc[0]}
                    | {f"{at} {visible(token)}": far for at, token, far in _columns(cells, "position", "token", "js")}
                    for _, cells in frame.groupby("row")
                ]
            )
            remarks.append(_JS)
        rows += [_named(side) | row for row in frame_rows(frame)]
        remarks += [remark for remark in (read.note, read.not_finite) if remark and remark not in remarks]
    return Output("\n\n".join([*map(table, tables), *remarks]), rows, rows)


def _moved(loaded: LoadedModel, model: Any, arguments: argparse.Namespace, text: Text | str) -> dict[str, Any]:
    """Return the columns that say how far cells moved from the unchanged model's; nothing is known of its own."""
    from surgery_core.lenses.before_after import distances

    if model is loaded.model:
        return {"js": math.nan, "tv": math.nan}
    models = loaded.model, model
    lenses = _lens(models[0], arguments), _lens(models[1], arguments)
    found = distances(
        lenses,
        models,
        loaded.tokenizer,
        text,
        follow=arguments.follow,
        sublayers=arguments.inside,
        start=arguments.start,
    )
    return {name: values.ravel() for name, values in found.items()}


def _quality(arguments: argparse.Namespace) -> Output:
    """Return how far the given lens and the logit lens are from the output."""
    from surgery_core.lenses.quality import lens_quality, summed_quality
    from surgery_core.text import bundled_texts

    fitted = _fitted(arguments)
    if fitted is None:
        raise SettingsError("--quality is about a lens that was fitted; say which with --tuned or --jacobian.")
    if arguments.plan is not None:
        raise SettingsError("--quality is about the unchanged model; leave out --plan.")
    chosen, loaded = chosen_set(arguments), load(arguments)
    texts = bundled_texts() if chosen is None else chosen.scored()
    with progress("Reading texts") as update:
        found = lens_quality(loaded.model, loaded.tokenizer, fitted, texts, on_progress=update)
    logit, other = summed_quality(found)
    said = f"KL(final || lens) in nats a token. Over all layers: logit lens {logit:.3f}, this one {other:.3f}."
    return Output(f"{table(frame_rows(found))}\n\n{said}", frame_rows(found), frame_rows(found))


def _averages(arguments: argparse.Namespace) -> Output:
    from surgery_core.lenses.averages import lens_averages, mean_depth
    from surgery_core.text import bundled_texts

    if arguments.inside or arguments.start:
        raise SettingsError("Averages are over whole texts, behind every layer; leave out --inside and --start.")
    chosen, loaded = chosen_set(arguments), load(arguments)
    texts = bundled_texts() if chosen is None else chosen.scored()
    rows: list[dict[str, Any]] = []
    said = []
    for side, model in _sides(loaded, arguments):
        with progress("Reading texts") as update:
            frame = lens_averages(
                _lens(model, arguments), model, loaded.tokenizer, texts, follow=arguments.follow, on_progress=update
            )  # fmt: skip
        rows += [_named(side) | row for row in _by_layer(frame)]
        when = f" {side}" if side else ""
        said.append(f"Mean prediction depth{when}, in layers: {mean_depth(frame):.2f}.")
    shown = [{name: value for name, value in row.items() if name in ("side", *_SHOWN)} for row in rows]
    return Output("\n\n".join([table(shown), *said]), rows, rows)


def _by_layer(averages: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a line a row of the stream: the mean of each statistic over all tokens, and the middle 80 % of the texts."""
    from surgery_core.lenses.averages import spread

    lines: dict[int, dict[str, Any]] = {}
    for name in averages.columns.drop([name for name in _NO_STATISTIC if name in averages]):
        for row, layer, mean, low, high in _columns(spread(averages, name), "row", "layer", "mean", "low", "high"):
            line = lines.setdefault(int(row), {"row": int(row), "layer": layer})
            line |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return [lines[row] for row in sorted(lines)]


def _sides(loaded: LoadedModel, arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the models that are read, with their names where there are two."""
    if arguments.before:
        yield SIDES[0], loaded.model
    yield SIDES[1] if arguments.before else "", operated(loaded, arguments)


def _named(side: str) -> dict[str, Any]:
    return {"side": side} if side else {}


def _lens(model: Any, arguments: argparse.Namespace) -> Lens:
    from surgery_core.lenses.fitted import lens_for
    from surgery_core.lenses.reading import LogitLens

    fitted = _fitted(arguments)
    return LogitLens(model) if fitted is None else lens_for(model, fitted)


def _fitted(arguments: argparse.Namespace) -> Fitted | None:
    """Return the fitted lens that is asked for, or None for the logit lens."""
    from surgery_core.lenses.files import load_lens
    from surgery_core.lenses.jacobian_files import load_jacobians

    if arguments.jacobian is not None:
        return load_jacobians(arguments.jacobian)
    return None if arguments.tuned is None else load_lens(arguments.tuned)


def _columns(frame: pd.DataFrame, *names: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(frame[name] for name in names), strict=True)
