"""The lens before surgery beside the lens after it: rows that belong together, differences, distances.

After surgery there may be more or fewer rows. A row of the operated model is compared with the base's row of the same
original layer; every run of a repeated layer is compared with that one row, and a donor's layer has none.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.errors import TextError
from surgery_core.lenses.metrics import METRICS
from surgery_core.lenses.reading import STOPPED, Follow, Lens, chunks, lens_window, rows_of
from surgery_core.lenses.trajectory import Array, Trajectory
from surgery_core.measure.divergence import js_divergence, log_probabilities, total_variation
from surgery_core.measure.readout import pieces
from surgery_core.states.residuals import residuals
from surgery_core.stopping import Progress, looking
from surgery_core.surgery.anatomy import device_of
from surgery_core.text import Text, encode


def matching_rows(before: Sequence[str], after: Sequence[str]) -> list[int | None]:
    """Return, for each row after surgery, the row before it of the same original layer, by their origins."""
    places = {origin: row for row, origin in enumerate(before)}
    return [places.get(origin) for origin in after]


def difference(before: Trajectory, after: Trajectory, metric: str) -> pd.DataFrame:
    """Return after minus before of one statistic, one line a cell of the operated model that has a partner.

    Columns: row, layer, position, token, target, top, top_before, before, after, difference. On a logarithmic
    statistic (`METRICS[metric].scale`) the difference is that of the natural logarithms.

    Raises:
        TextError: when the two did not read the same tokens.
    """
    if before.tokens != after.tokens:
        raise TextError("Before and after read different tokens; read the same text on both sides.")
    frame = after.frame()
    earlier = before.frame()
    partner = pd.Series(matching_rows(before.origins, after.origins), dtype="float")
    frame["partner"] = frame["row"].map(partner)
    frame = frame[frame["partner"].notna()].astype({"partner": int})
    columns = {"row": "partner", "top": "top_before", metric: "before"}
    earlier = earlier[["row", "position", "top", metric]].rename(columns=columns)
    joined = frame.rename(columns={metric: "after"}).merge(earlier, on=["partner", "position"], how="left")
    joined["difference"] = _change(joined["before"], joined["after"], metric)
    kept = ["row", "layer", "position", "token", "target", "top", "top_before", "before", "after", "difference"]
    return joined[kept].sort_values(["row", "position"], ignore_index=True)


def _change(before: pd.Series[float], after: pd.Series[float], metric: str) -> pd.Series[float]:
    if METRICS[metric].scale == "linear":
        return after - before
    floor = METRICS[metric].floor
    return after.clip(lower=floor).map(np.log) - before.clip(lower=floor).map(np.log)


def distances(
    lenses: tuple[Lens, Lens],
    models: tuple[nn.Module, nn.Module],
    tokenizer: Any,
    text: Text | str,
    *,
    follow: Follow = "layer",
    sublayers: bool = False,
    start: int = 0,
    length: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Array]:
    """Return how far what the lens reads after surgery is from what it read before, cell by cell.

    Args:
        lenses: of the base and of the operated model.
        models: the base and the operated model.
        tokenizer: their tokenizer.
        text: what both read.
        follow, sublayers, start: as for `read_lens`.
        length: most tokens of the window, as `max_tokens` of `read_lens`.
        stop: when set, the work ends with `Stopped`.
        on_progress: called with (rows compared, rows in all).

    Returns:
        `js` (Jensen-Shannon divergence in nats, 0 to ln 2) and `tv` (total variation, 0 to 1), each `[rows, seq]` with
        the rows of the operated model; NaN where a row has no partner.

    Raises:
        Stopped: when `stop` was set.
    """
    text = Text("The text", text) if isinstance(text, str) else text
    ids, _ = lens_window(models[0], encode(tokenizer, text), start, length)
    tokens, look = torch.tensor([ids], device=device_of(models[0])), looking(stop, STOPPED)
    streams = [residuals(model, tokens, sublayers=sublayers, look=look) for model in models]
    translators = [
        rows_of(lens, model, follow, sublayers=sublayers) for lens, model in zip(lenses, models, strict=True)
    ]
    partners = matching_rows(*([point.origin for point in stream.points] for stream in streams))
    found = {name: np.full((len(partners), len(ids)), np.nan, dtype=np.float32) for name in ("js", "tv")}
    with torch.inference_mode():
        vocab = lenses[0].decode(streams[0].states[-1:, :1], [None]).shape[-1]
        for after, before in enumerate(partners):
            if before is None:
                continue
            for _, columns in chunks(streams[1].states[:1], vocab, look):
                decoded = [
                    lens.decode(stream.states[row : row + 1, columns], rows[row : row + 1])
                    for lens, stream, rows, row in zip(lenses, streams, translators, (before, after), strict=True)
                ]
                for part in pieces(decoded[0]):
                    sides = [log_probabilities(logits[0, part]) for logits in decoded]
                    where = slice(columns.start + part.start, columns.start + part.stop)
                    found["js"][after, where] = js_divergence(*sides).cpu().numpy()
                    found["tv"][after, where] = total_variation(*sides).cpu().numpy()
            if on_progress is not None:
                on_progress(after + 1, len(partners))
    return found
