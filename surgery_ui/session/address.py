"""The address: what a link carries, and how a link that somebody wrote by hand is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from surgery_core.errors import SettingsError, TextError
from surgery_core.plans.generation_settings import MAX_SYSTEM, GenerationSettings
from surgery_core.statistics.verdict import MARGIN, checked_margin
from surgery_core.text import CUTS, EACH, Text, read_text, text_sets
from surgery_core.text_sources.found import MAX_TITLE
from surgery_ui.rooms.names import read_code
from surgery_ui.session.packing import packed, unpacked
from surgery_ui.work.limits import limits

MAX_VALUE = 2_000
"""Longest name, in characters, that is read."""
MAX_PLAIN = 300
"""Longest text, in characters, that stands in the address as it is; longer ones are compressed."""
MAX_COMMENT = 300
"""Longest comment, in characters."""
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
    "length": Setting("max_new_tokens", int, 1, limits().tokens),
    "temperature": Setting("temperature", float, 0.0, 2.0),
    "top_k": Setting("top_k", int, 0, 10_000),
    "top_p": Setting("top_p", float, 0.01, 1.0),
    "seed": Setting("seed", int, 0, 2**31 - 1),
}
"""By name in the address. The ranges keep one person's text from holding a server for minutes."""
PACKED = "_z"
"""What is behind the name of a parameter with a compressed text."""
LOOKS = {
    "reading": ("lens-kind", "logit"),
    "follow": ("lens-follow", "Their layer"),
    "inside": ("lens-sublayers", "False"),
    "statistic": ("lens-metric", "probability"),
    "view": ("lens-view", "Side by side"),
}
"""How the Lens page reads, by name in the address: the session's key, and the value that is left out."""
SHARED_LENSES = ("logit", "tuned", "jacobian")
"""Lenses that everybody has; one of a person's own means nothing to others."""
MAX_LOOK = 40
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
        texts: the name of the set of texts that plans are scored on, or the id of one's own, kept on the server.
        cut: how they are scored.
        margin: share of the perplexity within which two models count as the same.
        look: how the Lens page reads, as pairs of a name in `LOOKS` and its value.
        comment: a sentence for whoever opens the link.
        tray: plans side by side, as `tray.written` writes them.
        text: the person's own text itself; only in a link that was copied.
        revision: the beginning of the model's revision; only there too.
        recipe: key of the gallery's card that is open.
        present: whether type is larger, for a projector.
        room: code of the room that is joined.
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
    cut: str | None = None
    margin: float | None = None
    look: tuple[tuple[str, str], ...] = ()
    comment: str | None = None
    tray: str | None = None
    text: Text | None = None
    revision: str | None = None
    recipe: str | None = None
    present: bool | None = None
    room: str | None = None
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
        present, unclear = _switch("present", parameters)
        named, missing = _named_set(parameters.get("texts"))
        cut, unknown = _cut(parameters.get("cut"))
        margin, odd = _margin(parameters.get("same"))
        room, nowhere = _room(parameters.get("room"))
        texts, more = _texts(parameters, ("plan", "prompt", "lens", "system", "tray"))
        own_text, also = _own_text(parameters)
        texts["system"] = (texts["system"] or "")[:MAX_SYSTEM] or None
        return cls(
            model=model, **texts, own=own, settings=settings, chat=chat, texts=named, cut=cut, margin=margin, text=own_text,
            look=tuple((name, parameters[name]) for name in LOOKS if _means_something(name, parameters.get(name))),
            comment=" ".join(parameters.get("comment", "").split())[:MAX_COMMENT] or None,
            revision=parameters.get("revision", "")[:40] or None, recipe=parameters.get("recipe", "")[:MAX_LOOK] or None,
            present=present, room=room,
            problems=(*problems, *said, *nowhere, *unclear, *missing, *unknown, *odd, *more, *also),
        )  # fmt: skip

    def parameters(self) -> dict[str, str]:
        """Return the address's parameters; what is left at its default is left out, and so are texts that are too long."""
        names = {"model": self.model, "own": self.own, "texts": self.texts, "comment": self.comment}
        names |= {"revision": self.revision, "recipe": self.recipe, "cut": self.cut if self.cut != EACH else None}
        names["same"] = None if self.margin in (None, MARGIN) else f"{100 * self.margin:g}"
        found = {name: text for name, text in names.items() if text is not None}
        found |= {} if self.chat is None else {"chat": str(int(self.chat))}
        found |= {"present": "1"} if self.present else {}
        found |= {"room": self.room} if self.room else {}
        found |= {} if self.plan is None or len(self.plan) > MAX_PLAN else {"plan": self.plan}
        for name, text in self._texts().items():
            found |= _written(name, text)
        found |= {name: value for name, value in self.look if value != LOOKS[name][1]}
        usual = GenerationSettings()
        for name, setting in SETTINGS.items():
            value = getattr(self.settings, setting.attribute)
            if value != getattr(usual, setting.attribute):
                found[name] = f"{value:g}" if isinstance(value, float) else str(value)
        return found

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the names of the texts that are too long for an address."""
        return tuple(name for name, text in self._texts().items() if not _written(name, text))

    def _texts(self) -> dict[str, str]:
        own = None if self.text is None else f"{' '.join(self.text.title.split())}\n{self.text.text}"
        texts = {"prompt": self.prompt, "lens": self.lens, "system": self.system, "tray": self.tray, "text": own}
        return {name: text for name, text in texts.items() if text is not None}


def _means_something(name: str, value: str | None) -> bool:
    """Whether a link says how the Lens page reads; what the page does not offer, it leaves out itself."""
    return value is not None and len(value) <= MAX_LOOK and (name != "reading" or value in SHARED_LENSES)


def _written(name: str, text: str) -> dict[str, str]:
    """Return the parameter that holds a text; none where it is too long."""
    if len(text) <= MAX_PLAIN:
        return {name: text}
    found = packed(text)
    return {} if found is None else {name + PACKED: found}


def _texts(parameters: Mapping[str, str], names: Iterable[str]) -> tuple[dict[str, str | None], list[str]]:
    """Return texts by name, and a sentence for each that cannot be read."""
    found: dict[str, str | None] = {}
    problems = []
    for name in names:
        found[name] = parameters.get(name)
        if name + PACKED in parameters:
            try:
                found[name] = unpacked(parameters[name + PACKED])
            except TextError as error:
                problems.append(str(error))
    return found, problems


def _own_text(parameters: Mapping[str, str]) -> tuple[Text | None, list[str]]:
    found, problems = _texts(parameters, ["text"])
    if not found["text"]:
        return None, problems
    title, _, text = found["text"].partition("\n")
    try:
        return read_text(text, title=title[:MAX_TITLE]), problems
    except TextError as error:
        return None, [*problems, str(error)]


def _switch(name: str, parameters: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    text = parameters.get(name)
    if text is None or text in ("0", "1"):
        return (None if text is None else text == "1"), []
    return None, [f"The address has {name}={text[:40]!r}; allowed is 0 or 1. It was left out."]


def _named_set(name: str | None) -> tuple[str | None, list[str]]:
    if name is None or name in text_sets() or _TEXT_ID.fullmatch(name):
        return name, []
    known = ", ".join(text_sets())
    return None, [f"The address has texts={name[:40]!r}; there are {known}. It was left out."]


def _cut(name: str | None) -> tuple[str | None, list[str]]:
    if name is None or name in CUTS:
        return name, []
    return None, [f"The address has cut={name[:40]!r}; there are {' and '.join(CUTS)}. It was left out."]


def _room(text: str | None) -> tuple[str | None, list[str]]:
    code = read_code(text)
    if code is not None or not text:
        return code, []
    return None, [f"The address has room={text[:40]!r}; a room's code has four letters. It was left out."]


def _margin(text: str | None) -> tuple[float | None, list[str]]:
    """Return the margin that an address has, in percent there."""
    try:
        return (None if text is None else checked_margin(float(text) / 100)), []
    except ValueError:
        return None, [
            f"The address has same={(text or '')[:40]!r}; allowed is a number of percent below 100. It was left out."
        ]


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
