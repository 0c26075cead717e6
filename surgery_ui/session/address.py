"""The address: what a link carries, and how a link that somebody wrote by hand is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from surgery_core.errors import SettingsError
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.text import text_sets

MAX_VALUE = 2_000
"""Longest text, in characters, that goes into the address; browsers and proxies cut long ones."""
MAX_PLAN = 8_000
"""Longest plan that goes into the address: one with the most slots that are allowed fits."""


@dataclass(frozen=True)
class Setting:
    """A generation setting of the app: its attribute in the core, its type and the range that a page offers."""

    attribute: str
    kind: type[int] | type[float]
    least: float
    most: float


SETTINGS = {
    "length": Setting("max_new_tokens", int, 1, 512),
    "temperature": Setting("temperature", float, 0.0, 2.0),
    "top_k": Setting("top_k", int, 0, 10_000),
    "top_p": Setting("top_p", float, 0.01, 1.0),
    "seed": Setting("seed", int, 0, 2**31 - 1),
}
"""By name in the address. The ranges keep one person's text from holding a server for minutes."""
_TEXT_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Address:
    """A link's contents. None means that the link does not say.

    Attributes:
        model: the name of the model.
        plan: the plan's notation, not yet parsed.
        prompt: the text that is continued.
        lens: the text of the Lens page.
        own: the id of the person's own text, kept on the server.
        settings: how text is generated.
        chat: whether prompts are put as messages; None where the model decides.
        system: what the model is told before them.
        texts: the name of the set of texts that plans are scored on.
        problems: a sentence for each part that could not be read.
    """

    model: str | None = None
    plan: str | None = None
    prompt: str | None = None
    lens: str | None = None
    own: str | None = None
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    chat: bool | None = None
    system: str | None = None
    texts: str | None = None
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> Address:
        """Read the address's parameters; what is unusable is left out and named in `problems`."""
        settings, problems = _read_settings(parameters)
        own = parameters.get("own")
        if own is not None and not _TEXT_ID.fullmatch(own):
            own, problems = None, [*problems, "The address names an own text that cannot exist; it was left out."]
        model = parameters.get("model", "").strip()[:MAX_VALUE] or None
        chat, said = _switch("chat", parameters)
        named, missing = _named_set(parameters.get("texts"))
        problems += said + missing
        texts = {name: parameters.get(name) for name in ("plan", "prompt", "lens")}
        system = parameters.get("system", "")[:MAX_VALUE] or None
        return cls(
            model=model, **texts, own=own, settings=settings, chat=chat, system=system, texts=named,
            problems=tuple(problems),
        )  # fmt: skip

    def parameters(self) -> dict[str, str]:
        """Return the address's parameters; what is left at its default is left out."""
        texts = {"model": self.model, "plan": self.plan, "prompt": self.prompt, "lens": self.lens, "own": self.own}
        texts |= {"chat": None if self.chat is None else str(int(self.chat)), "system": self.system}
        texts |= {"texts": self.texts}
        limits = {"plan": MAX_PLAN}
        found = {name: text for name, text in texts.items() if text is not None}
        found = {name: text for name, text in found.items() if len(text) <= limits.get(name, MAX_VALUE)}
        usual = GenerationSettings()
        for name, setting in SETTINGS.items():
            value = getattr(self.settings, setting.attribute)
            if value != getattr(usual, setting.attribute):
                found[name] = f"{value:g}" if isinstance(value, float) else str(value)
        return found


def _switch(name: str, parameters: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    text = parameters.get(name)
    if text is None or text in ("0", "1"):
        return (None if text is None else text == "1"), []
    return None, [f"The address has {name}={text[:40]!r}; allowed is 0 or 1. It was left out."]


def _named_set(name: str | None) -> tuple[str | None, list[str]]:
    if name is None or name in text_sets():
        return name, []
    known = ", ".join(text_sets())
    return None, [f"The address has texts={name[:40]!r}; there are {known}. It was left out."]


def _read_settings(parameters: Mapping[str, str]) -> tuple[GenerationSettings, list[str]]:
    values: dict[str, float] = {}
    problems = []
    for name, setting in SETTINGS.items():
        if name in parameters:
            try:
                values[setting.attribute] = _number(name, parameters[name], setting)
            except SettingsError as error:
                problems.append(str(error))
    return replace(GenerationSettings(), **values), problems  # type: ignore[arg-type]


def _number(name: str, text: str, setting: Setting) -> float:
    try:
        value = setting.kind(text)
    except (ValueError, OverflowError):
        raise SettingsError(f"The address has {name}={text[:40]!r}, which is not a number; it was left out.") from None
    if not setting.least <= value <= setting.most:
        raise SettingsError(
            f"The address has {name}={text[:40]}; allowed is {setting.least:g} to {setting.most:g}. It was left out."
        )
    return value
