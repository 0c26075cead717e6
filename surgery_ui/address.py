"""The address: what a link carries, and how a link that somebody wrote by hand is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from surgery_core.errors import SettingsError
from surgery_core.generate import GenerationSettings

MAX_VALUE = 2_000
"""Longest prompt or lens text, in characters, that goes into the address; browsers and proxies cut long ones."""

_SETTINGS: dict[str, tuple[str, type[int] | type[float]]] = {
    "length": ("max_new_tokens", int),
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "seed": ("seed", int),
}
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
        problems: a sentence for each part that could not be read.
    """

    model: str | None = None
    plan: str | None = None
    prompt: str | None = None
    lens: str | None = None
    own: str | None = None
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> Address:
        """Read the address's parameters; what is unusable is left out and named in `problems`."""
        settings, problems = _read_settings(parameters)
        own = parameters.get("own")
        if own is not None and not _TEXT_ID.fullmatch(own):
            own, problems = None, [*problems, "The address names an own text that cannot exist; it was left out."]
        texts = {name: _clean(parameters.get(name)) for name in ("model", "prompt", "lens")}
        return cls(**texts, plan=parameters.get("plan"), own=own, settings=settings, problems=tuple(problems))

    def parameters(self) -> dict[str, str]:
        """Return the address's parameters; what is left at its default is left out."""
        texts = {"model": self.model, "plan": self.plan, "prompt": self.prompt, "lens": self.lens, "own": self.own}
        found = {name: text for name, text in texts.items() if text is not None and len(text) <= MAX_VALUE}
        usual = GenerationSettings()
        for name, (attribute, _) in _SETTINGS.items():
            value = getattr(self.settings, attribute)
            if value != getattr(usual, attribute):
                found[name] = f"{value:g}" if isinstance(value, float) else str(value)
        return found


def _clean(text: str | None) -> str | None:
    return text.replace("\0", "")[:MAX_VALUE] if text and text.strip() else None


def _read_settings(parameters: Mapping[str, str]) -> tuple[GenerationSettings, list[str]]:
    settings, problems = GenerationSettings(), []
    for name, (attribute, kind) in _SETTINGS.items():
        if name not in parameters:
            continue
        try:
            settings = replace(settings, **{attribute: kind(parameters[name])})
        except SettingsError as error:
            problems.append(f"In the address, {name}: {error}")
        except (ValueError, OverflowError):
            problems.append(f"In the address, {name} is {parameters[name][:40]!r}, which is not a number.")
    return settings, problems
