"""Generate text from a model, streaming, stoppable and reproducible."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from surgery_core.errors import Stopped, TextError
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.states.shared_prompt import SharedPrompt
from surgery_core.stopping import Progress, looking
from surgery_core.surgery.anatomy import context_length, device_of
from surgery_core.text import Text, chat_text, encode

_UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Generation:
    """A continuation.

    Attributes:
        prompt: what was continued.
        text: the new text.
        n_tokens: number of new tokens.
        ended: `"length"`, `"end of text"` (the model ended it) or `"stopped"` (the caller did).
        seconds: wall time of the whole generation.
        first_token_seconds: wall time until the first new token.
    """

    prompt: str
    text: str
    n_tokens: int
    ended: str
    seconds: float
    first_token_seconds: float


def complete(
    model: Any,
    tokenizer: Any,
    prompt: str,
    settings: GenerationSettings | None = None,
    *,
    on_text: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    shared: SharedPrompt | None = None,
    on_progress: Progress | None = None,
) -> Generation:
    """Continue a prompt and return the whole continuation; `on_text` gets each piece as it is written.

    Args:
        model: the base, or a view.
        tokenizer: of the model.
        prompt: what is continued.
        settings: how; by default 64 tokens, the likeliest each.
        on_text: told of each piece.
        stop: set to end the text after the token, or before the layer, that is running.
        shared: what the base and its views have read of this prompt; layers that are the same read it once.
        on_progress: told how many tokens are written, and how many may be.

    Raises:
        TextError: when the prompt has no token, or prompt and new tokens do not fit the model's context.
    """
    settings = settings or GenerationSettings()
    stop = stop or threading.Event()
    ids = prompt_ids(model, tokenizer, prompt, settings)
    began = time.perf_counter()
    tell = on_progress or (lambda done, total: None)
    writer = _Writer(
        tokenizer, on_text or (lambda piece: None), began, lambda done: tell(done, settings.max_new_tokens)
    )
    criteria = StoppingCriteriaList([_Stop(stop)])
    inputs = torch.tensor([ids], device=device_of(model))
    with torch.inference_mode(), suppress(Stopped):
        reader = model if shared is None else shared.reader(model, ids, looking(stop))
        _configured(reader, tokenizer, settings).generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            logits_processor=_sampler(settings),
            stopping_criteria=criteria,
            streamer=writer,
        )
    new = writer.ids or []
    ended = "stopped" if stop.is_set() else "length" if len(new) >= settings.max_new_tokens else "end of text"
    if ended == "length" and new and new[-1] in _end_tokens(model, tokenizer):
        ended = "end of text"
    return Generation(prompt, writer.text, len(new), ended, time.perf_counter() - began, writer.first or 0.0)


def generate(
    model: Any,
    tokenizer: Any,
    prompt: str,
    settings: GenerationSettings | None = None,
    *,
    stop: threading.Event | None = None,
) -> Iterator[str]:
    """Yield the continuation of a prompt piece by piece, as it is written. Closing the iterator stops the model.

    Raises:
        TextError: when the prompt has no token, or prompt and new tokens do not fit the model's context.
    """
    stop = stop or threading.Event()
    pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
    prompt_ids(model, tokenizer, prompt, settings or GenerationSettings())

    def work() -> None:
        try:
            complete(model, tokenizer, prompt, settings, on_text=pieces.put, stop=stop)
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread, which raises it
            pieces.put(error)
        else:
            pieces.put(None)

    threading.Thread(target=work, daemon=True).start()
    return _drain(pieces, stop)


def prompt_ids(model: Any, tokenizer: Any, prompt: str, settings: GenerationSettings) -> list[int]:
    """Return the prompt's token ids, in the model's chat template where that is asked for.

    An empty prompt is the tokenizer's start-of-text token, where it has one.

    Raises:
        TextError: when there is no token to start from, or prompt and new tokens do not fit the model's context.
    """
    if "\0" in prompt:
        raise TextError("The prompt contains a NUL byte, so it is not plain text. Remove it.")
    text = chat_text(tokenizer, prompt, settings.system) if settings.chat else Text("The prompt", prompt)
    ids = encode(tokenizer, text, least=0)
    if not ids:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise TextError("The prompt is empty, and this model has no start-of-text token. Write a few words.")
        ids = [start]
    limit = context_length(model)
    if limit is not None and len(ids) + settings.max_new_tokens > limit:
        raise TextError(_too_long(len(ids), settings.max_new_tokens, limit))
    return ids


def _too_long(prompt: int, new: int, limit: int) -> str:
    room = limit - new
    advice = f"shorten the prompt to {room:,} tokens" if room > 0 else "ask for fewer new tokens"
    return f"The prompt has {prompt:,} tokens and {new:,} new ones are asked for, but the model reads at most {limit:,}: {advice}."


def _drain(pieces: queue.SimpleQueue[str | BaseException | None], stop: threading.Event) -> Iterator[str]:
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        stop.set()


def _configured(model: Any, tokenizer: Any, settings: GenerationSettings) -> Any:
    """Return a shallow copy of the model with a greedy generation config of its own.

    transformers fills what a config leaves open from the model's, and a checkpoint's own sampling defaults (beams,
    repetition penalty) must not change what was asked for.
    """
    own = model.generation_config
    private = copy.copy(model)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    private.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        bos_token_id=own.bos_token_id,
        pad_token_id=pad if pad is not None else 0,
        use_cache=True,
    )
    return private


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    own = model.generation_config.eos_token_id
    own = tokenizer.eos_token_id if own is None else own
    return [] if own is None else own if isinstance(own, list) else [own]


def _sampler(settings: GenerationSettings) -> LogitsProcessorList:
    return LogitsProcessorList([_SeededSampler(settings)] if settings.temperature > 0 else [])


class _SeededSampler(LogitsProcessor):
    """Samples with a generator of its own, then leaves only the sampled token for the greedy search to take.

    transformers samples from torch's global generator, which concurrent sessions would share.
    """

    def __init__(self, settings: GenerationSettings) -> None:
        self.warpers = LogitsProcessorList([TemperatureLogitsWarper(float(settings.temperature))])
        if settings.top_k:
            self.warpers.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            self.warpers.append(TopPLogitsWarper(settings.top_p))
        self.generator = torch.Generator().manual_seed(settings.seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        warped: Any = self.warpers
        probabilities = warped(input_ids, scores).float().softmax(-1).cpu()
        chosen = torch.multinomial(probabilities, 1, generator=self.generator).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(-1, chosen, 0.0)


class _Stop(StoppingCriteria):
    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), dtype=torch.bool, device=input_ids.device)


class _Writer(BaseStreamer):
    """Decodes token by token; a character that is not finished yet waits for its other bytes."""

    def __init__(
        self, tokenizer: Any, on_text: Callable[[str], None], began: float, tell: Callable[[int], None]
    ) -> None:
        self.tokenizer, self.tell = tokenizer, tell
        self.on_text = on_text
        self.began = began
        self.first: float | None = None
        self.ids: list[int] | None = None
        self.prompt_text = ""
        self.prompt_ids: list[int] = []
        self.text = ""

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt first, then one token a call."""
        if self.ids is None:
            self.prompt_ids = value.flatten().tolist()[-8:]
            self.prompt_text = self._decode([])
            self.ids = []
            return
        if self.first is None:
            self.first = time.perf_counter() - self.began
        self.ids += value.flatten().tolist()
        self.tell(len(self.ids))
        self._emit(final=False)

    def end(self) -> None:
        """Write what is left, finished or not."""
        self._emit(final=True)

    def _emit(self, *, final: bool) -> None:
        whole = self._decode(self.ids or [])[len(self.prompt_text) :]
        if len(whole) > len(self.text) and (final or not whole.endswith(_UNFINISHED)):
            piece, self.text = whole[len(self.text) :], whole
            self.on_text(piece)

    def _decode(self, ids: list[int]) -> str:
        """Decode behind the end of the prompt, so that a leading space is kept."""
        text: str = self.tokenizer.decode(
            self.prompt_ids + ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
