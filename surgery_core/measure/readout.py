"""The one way from a model that runs to figures about the next token: loss, KL, agreement.

Three strategies, chosen by trying and not by the model's class. Most models end in a norm and a linear unembedding:
the model runs up to its last layer, and the vocabulary is walked in slices, so that a slice's logits for all positions
stay in the processor's cache and losses, KL and ranks need only sums over the slices. Where something else comes
behind the layers (a scale, a soft cap, a block), the model's own tail makes whole rows of logits, some positions at a
time. Where the last layer's state is not enough, the model runs whole.

Ties, which are frequent in half precision, are broken as `argmax` breaks them: of two tokens with the same logit the one
with the lower id comes first. So a prediction is kept exactly when greedy decoding would write the same token.

A position where the logits are not finite has no figures: all of them are NaN.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from surgery_core.errors import AnatomyError, PlanError
from surgery_core.measure.figures import BaseSide, Figures, SliceSums, ahead_of, joined, of_logits, summary
from surgery_core.states.last import last_state
from surgery_core.states.tail import Tail
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import adapters_around, plan_of, root_of, text_config
from surgery_core.surgery.behaviours import mix_in

CHUNK_ELEMENTS = 2**24
"""Most logits that are held at once where only statistics of them are wanted (64 MB in float32)."""

SLICE_ELEMENTS = {"cpu": 2**21, "cuda": 2**26}
"""Logits of one slice of the vocabulary: 8 MB in float32 on a CPU, which its cache holds; more on a GPU."""

ROWS = 128
"""Positions at least whose whole rows of logits are made at once, where `CHUNK_ELEMENTS` allows it: a product of fewer with
the unembedding takes as long as reading its weights does."""

NARROWEST_SLICE = 512
"""Columns of a slice at least, however many positions there are."""

Look = Callable[[], None]


def slice_elements(device: torch.device) -> int:
    """Return how many logits are made at once on a device where only sums over them are wanted."""
    return SLICE_ELEMENTS["cpu" if device.type == "cpu" else "cuda"]


def rows_at_once(vocab: int, device: torch.device) -> int:
    """Return of how many positions whole rows of logits are made at once."""
    return max(1, slice_elements(device) // vocab, min(ROWS, CHUNK_ELEMENTS // vocab))


def pieces(logits: torch.Tensor) -> Iterator[slice]:
    """Yield parts of the positions of logits `[rows, seq, vocab]` that a processor's cache holds, for many passes over them."""
    step = max(1, slice_elements(logits.device) // max(1, logits.shape[0] * logits.shape[2]))
    for at in range(0, logits.shape[1], step):
        yield slice(at, min(at + step, logits.shape[1]))


def _never() -> None:
    """Do not stop."""


class Passing:
    """An unembedding that hands on what it is given."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return `hidden` `[..., d_model]`."""
        return hidden


class Readout:
    """What a model does behind its layers, for figures of many positions.

    Args:
        model: a causal language model, or a view of one.

    Attributes:
        whole: whether the model has to run whole.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        self.unembed: Any = model.get_output_embeddings()  # type: ignore[operator]
        self.vocab = int(self.unembed.weight.shape[0]) if self.unembed is not None else _stated_vocab(model)
        weight = getattr(self.unembed, "weight", None)
        self.home = None if weight is None or weight.device.type == "meta" else weight.device
        self.adapters = adapters_around(model)
        tail = _tail(model)
        self.whole = tail is None
        self._norm: Tail | None = None if tail is None else self._split(tail)

    @functools.cached_property
    def tail(self) -> Tail | None:
        """Return what makes whole rows of logits, or None where the model has to run whole."""
        return None if self.whole else Tail(self.model)

    @property
    def slices(self) -> bool:
        """Whether the vocabulary can be walked in slices."""
        return self._norm is not None

    def of_view(self, view: nn.Module) -> Readout:
        """Return the readout of a view of the model: this one, where the same stands behind its layers."""
        same = len(plan_of(view)) and adapters_around(view) == self.adapters
        return self if same else Readout(view)

    def read(self, batch: Batch, look: Look = _never, model: nn.Module | None = None) -> torch.Tensor:
        """Run the model on a batch and return what `figures` takes of its n scored positions, `[n, width]`.

        Args:
            batch: padded windows and their scored positions.
            look: called between layers; it may raise to stop the work.
            model: a view of the same base to run instead; what stands behind its layers is the same.
        """
        look()
        runs = self.model if model is None else model
        with torch.inference_mode():
            if self.whole:
                logits = runs(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
                return logits[batch.rows.to(logits.device), batch.columns.to(logits.device)].float()  # type: ignore[no-any-return]
            return self.scored(batch, last_state(runs, batch.input_ids, batch.attention_mask, look))

    def scored(self, batch: Batch, states: torch.Tensor) -> torch.Tensor:
        """Return what `figures` takes, `[n, width]`, of states `[batch, seq, width]` as they leave the last layer."""
        rows, columns = batch.rows.to(states.device), batch.columns.to(states.device)
        return self.enter(states[rows, columns])

    def enter(self, states: torch.Tensor, *, grad: bool = False) -> torch.Tensor:
        """Return what `figures` takes for states `[..., width]` as they leave the last layer: normed where sliced.

        With `grad`, gradients flow back to the states.
        """
        if self._norm is None:
            return states.to(self.home or states.device)
        # where layers are spread over devices, a tied unembedding can be on another one than the norm
        return self._norm.logits(states[None], grad=grad)[0].to(self.home)

    def logits(self, entered: torch.Tensor, columns: slice = slice(None)) -> torch.Tensor:
        """Return logits `[n, columns]` in float32 for a slice of the vocabulary, by default all of it."""
        with torch.inference_mode():
            if self._norm is not None:
                bias = None if self.unembed.bias is None else self.unembed.bias[columns]
                sliced: torch.Tensor = nn.functional.linear(entered, self.unembed.weight[columns], bias)
                return sliced.float()
            whole = entered if self.tail is None else self.tail.logits(entered[None])[0]
            return whole[:, columns].float().to(entered.device)

    def base_side(self, entered: torch.Tensor, targets: torch.Tensor, *, keep: bool, look: Look = _never) -> BaseSide:
        """Return the base's side at n positions; with `keep`, its probabilities are kept.

        Args:
            entered: `[n, width]`, of `read`.
            targets: `[n]`, the right next tokens.
            keep: whether the probabilities `[n, vocab]` stay in memory.
            look: called between chunks; it may raise to stop the work.
        """
        targets = targets.to(entered.device)
        with torch.inference_mode():
            parts = [
                summary(self.logits(entered[part]), targets[part], keep) for part in self._parts(len(entered), look)
            ]
            nll, lse, entropy, top = (torch.cat([part[at] for part in parts]) for at in range(4))
            p = torch.cat([part[4] for part in parts]) if keep else None
            return BaseSide(self, entered, targets, nll, lse, entropy, top, p)

    def figures(
        self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide | None = None, look: Look = _never
    ) -> Figures:
        """Return the figures of n positions.

        Args:
            entered: `[n, width]`, of `read`.
            targets: `[n]`, the right next tokens.
            base: the base's side of the same positions, or None for the loss alone.
            look: called between chunks; it may raise to stop the work.
        """
        targets = targets.to(entered.device)
        if base is not None and base.readout.vocab != self.vocab:
            raise PlanError(
                f"One model has a vocabulary of {base.readout.vocab:,} tokens and the other of {self.vocab:,}, so their "
                "predictions cannot be compared; compare models with the same tokenizer."
            )
        with torch.inference_mode():
            if base is not None and self._is_base(entered, targets, base):
                return Figures(base.nll, base.nothing, base.nothing)
            base = None if base is None else base.on(entered.device)
            if self._norm is not None:
                return self._sliced(entered, targets, base, look)
            parts = [
                of_logits(self.logits(entered[part]), targets[part], None if base is None else base.part(part))
                for part in self._parts(len(entered), look)
            ]
        return joined(parts)

    def losses(
        self, entered: torch.Tensor, places: torch.Tensor, targets: torch.Tensor, look: Look = _never
    ) -> torch.Tensor:
        """Return the losses `[m]` in nats of m tokens, of which several may be asked for at the same position.

        The vocabulary is walked once a position, where `figures` walks it once a token.

        Args:
            entered: `[n, width]`, of `read` or `enter`.
            places: `[m]`, the position of each token, 0 to n - 1.
            targets: `[m]`, the tokens.
            look: called between chunks; it may raise to stop the work.
        """
        places, targets = places.to(entered.device), targets.to(entered.device)
        found = torch.full(places.shape, torch.nan, device=entered.device)
        with torch.inference_mode():
            for part in self._parts(len(entered), look):
                here = ((places >= part.start) & (places < part.stop)).nonzero()[:, 0]
                logits = self.logits(entered[part])
                lse, own = logits.logsumexp(-1), places[here] - part.start
                # as everywhere, a position whose logits are not finite has no figures
                found[here] = torch.where(lse.isfinite()[own], lse[own] - logits[own, targets[here]], torch.nan)
        return found

    def _is_base(self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide) -> bool:
        """Whether these are the base's own states before the same head: everything is the same then, to the bit."""
        shared = root_of(self.model) is root_of(base.readout.model) and self.slices == base.readout.slices
        shared = shared and self.adapters == base.readout.adapters
        if not shared or entered.device != base.entered.device:
            return False
        return torch.equal(entered, base.entered) and torch.equal(targets, base.targets)

    def _sliced(self, entered: torch.Tensor, targets: torch.Tensor, base: BaseSide | None, look: Look) -> Figures:
        sums = SliceSums(len(entered), targets, base, self._guess(entered, base))
        for columns in self._columns(len(entered)):
            look()
            sums.add(columns, self.logits(entered, columns))
        doubtful = sums.doubtful
        if base is not None and len(doubtful):
            # the products with single columns were rounded otherwise than those in the slices
            for rows in doubtful.split(max(1, CHUNK_ELEMENTS // self.vocab)):  # type: ignore[no-untyped-call]
                sums.ahead[rows] = ahead_of(self.logits(entered[rows]), base.top[rows])
        return sums.figures()

    def _guess(self, entered: torch.Tensor, base: BaseSide | None) -> torch.Tensor | None:
        """Return the logits `[n]` of the base's predictions, which are needed before their slices are reached."""
        if base is None:
            return None
        tokens, places = base.top.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        bias = None if self.unembed.bias is None else self.unembed.bias[tokens]
        logits = nn.functional.linear(entered, self.unembed.weight[tokens], bias).float()
        return logits.gather(-1, places[:, None])[:, 0]

    def _parts(self, n: int, look: Look) -> Iterator[slice]:
        step = max(1, CHUNK_ELEMENTS // self.vocab)
        for at in range(0, n, step):
            look()
            yield slice(at, at + step)

    def _columns(self, rows: int) -> Iterator[slice]:
        width = max(NARROWEST_SLICE, slice_elements(self.unembed.weight.device) // max(1, rows))
        for at in range(0, self.vocab, width):
            yield slice(at, min(at + width, self.vocab))

    def _split(self, tail: Tail) -> Tail | None:
        """Let a tail end before the unembedding; return None where logits are not that linear map's output."""
        if type(self.unembed) is not nn.Linear or self.unembed.weight.device.type == "meta":
            return None
        head, signature = tail.model.get_output_embeddings(), _behind(self.model, self.unembed)
        known = _SPLITS.get(root_of(self.model))
        if known is not None and known[0] == signature:
            if known[1]:
                mix_in(head, Passing)
            return tail if known[1] else None
        splits = self._splits(tail, head)
        if splits is not None:
            _SPLITS[root_of(self.model)] = signature, splits
        return None if splits is False else tail

    def _splits(self, tail: Tail, head: Any) -> bool | None:
        """Let a tail end before the unembedding, and return whether logits are that linear map's output.

        Weights that are not numbers say nothing about how they are used: None.
        """
        # a last layer's output has about this size; a soft cap or a scale shows at any
        generator = torch.Generator().manual_seed(0)
        probe = 8 * torch.randn((1, 4, tail.width), generator=generator)
        probe = probe.to(self.unembed.weight.device, self.unembed.weight.dtype)
        with torch.inference_mode():
            own = tail.logits(probe)[0].float()
            mix_in(head, Passing)
            normed = tail.logits(probe)[0]
            if normed.shape[-1] != self.unembed.weight.shape[1]:
                return False
            ours = self.unembed(normed).float()
        close = 1e-5 if normed.dtype == torch.float32 else 2e-2
        furthest, largest = float((ours - own).abs().max()), float(own.abs().max())
        return furthest <= close * largest if math.isfinite(furthest) else None


_SPLITS: WeakKeyDictionary[nn.Module, tuple[Hashable, bool]] = WeakKeyDictionary()
"""Whether logits of each model that was tried are its unembedding's output, with what was there when it was tried."""


def _behind(model: nn.Module, unembed: nn.Linear) -> Hashable:
    """Return what has to be as it was for a trial of what stands behind the layers to hold: classes, settings, adapters.

    Whether logits are a linear map's output does not hang on the weights of that map.
    """
    root = root_of(model)
    values = vars(text_config(root)).items()
    settings = frozenset((name, value) for name, value in values if isinstance(value, (bool, int, float, str)))
    return type(root), type(unembed), id(unembed.weight), unembed.weight.dtype, settings, adapters_around(model)


def _tail(model: nn.Module) -> Tail | None:
    """Return what stands behind the layers, or None where that needs more than the last layer's state."""
    try:
        return Tail(model)
    except (AnatomyError, PlanError):
        return None


def _stated_vocab(model: nn.Module) -> int:
    return int(text_config(model).vocab_size)


__all__ = ["BaseSide", "Figures", "Readout", "of_logits"]
