"""Small studies for tests of what stands around studies: recipes, their runs, charts, stores, pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

from surgery_core.errors import SettingsError
from surgery_core.stopping import raise_if_stopped
from surgery_core.studies import every
from surgery_core.studies.finding import Figure, Finding, Picture, mean_figure
from surgery_core.studies.study import Study, StudySetup


def loss_of(model: torch.nn.Module, tokenizer: object, text: str) -> float:
    """Return the mean loss a token with plain torch."""
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])  # type: ignore[operator]
    with torch.no_grad():
        logits = model(ids).logits.double()
    return float(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))


def _losses(setup: StudySetup) -> Finding:
    times, losses = int(setup.options["times"]), []  # type: ignore[arg-type]
    for at, text in enumerate(setup.texts):
        raise_if_stopped(setup.stop, "The study was stopped.")
        losses.append(times * loss_of(setup.model, setup.tokenizer, text.text))
        if setup.on_progress is not None:
            setup.on_progress(at + 1, len(setup.texts))
    frame = pd.DataFrame(
        {"text": range(len(losses)), "loss": losses, "low": np.array(losses) - 0.1, "high": np.array(losses) + 0.1}
    )
    picture = Picture("bars", "text", "loss", x_title="Text", y_title="Nats a token", low="low", high="high")
    most = Figure("The hardest text", max(losses), n_units=len(losses))
    return Finding(mean_figure("Nats a token", np.array(losses)), (most,), frame, picture, "Of the texts as they are.")


def _needs_lens(setup: StudySetup) -> Finding:
    if setup.lens is None:
        raise SettingsError("This study reads through a tuned lens and there is none; train one with train-lens.")
    return _losses(StudySetup(setup.model, setup.tokenizer, setup.texts, {"times": 1}))


LOSSES = Study(
    "losses",
    "How hard texts are",
    "The mean loss of texts.",
    _losses,
    {"times": 1, "weights": [1.0, 2.0], "share": 0.5, "how": "all"},
)
LENSED = Study("lensed", "Through the lens", "Needs a lens.", _needs_lens)


SMALL = (LOSSES, LENSED)


@contextmanager
def small_studies() -> Iterator[None]:
    """Have only these studies while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(every, "STUDIES", SMALL)
        yield
