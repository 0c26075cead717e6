"""The notation: a plan as text, for example `0-4,6,5,(7-9)x2,10.mlp*0.5`.

    plan     := [ sequence ]
    sequence := item ("," (item | "~"))*
    item     := atom modifier*
    modifier := ".attn" | ".mlp" | ".bare" | "*" number | "x" count
    atom     := span | "mean(" span ")" | "(" sequence ")" | "(" member ("|" member)+ ")" | "[" sequence "]*" number
    span     := [donor ":"] layer [ "-" layer ]
    donor    := letter (letter | digit | "_" | "." | "/" | "-")* | '"' character+ '"'
    member   := one layer with its modifiers except "x", as in 4.attn*0.5

A donor's name in quotes may hold anything; \\" stands for a quote in it and \\\\ for a backslash. Elsewhere whitespace
is ignored. A modifier after a bare range (`3-7x2`) is refused, because it could mean two things. `~` is about the slot
before it, the last one of a range, a repeat or a group. A damped block (`[3-5]*0.5`) takes all of its modifiers but `x`
inside its brackets.
`notation_printer.format_slots` prints the shortest text that parses back to the same slots.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from surgery_core.errors import NotationError, PlanError
from surgery_core.plans.slots import (
    BARE,
    BARE_DONOR,
    MAX_DONOR,
    MAX_SLOTS,
    STITCH,
    Layer,
    Part,
    Slot,
    check_layer,
    damped,
)

_NUMBER = re.compile(r"[-+]?(\d+(\.\d+)?|\.\d+)([eE][-+]?\d+)?")
_INTEGER = re.compile(r"\d+")
_MEAN = re.compile(r"mean\s*\(")
_DONOR = re.compile(rf"({BARE_DONOR.pattern})\s*:")
MAX_TEXT = 20_000
MAX_DEPTH = 20


def parse_slots(text: str, n_layers: int) -> tuple[Slot, ...]:
    """Read slots from `text` for a base of `n_layers` layers; empty text is the model with no layers.

    Raises:
        NotationError: at the first character that cannot be read.
    """
    if len(text) > MAX_TEXT:
        raise NotationError(text, MAX_TEXT, f"a plan's text has at most {MAX_TEXT:,} characters.")
    return _Parser(text, n_layers).parse()


class _Parser:
    """A recursive-descent parser over `text`; `at` is the index of the next unread character."""

    def __init__(self, text: str, n_layers: int) -> None:
        self.text = text
        self.n_layers = n_layers
        self.at = 0
        self.depth = 0

    def parse(self) -> tuple[Slot, ...]:
        """Return the slots. Raises `NotationError`, which names the character."""
        if self._peek() == "":
            return ()
        slots = self._sequence()
        if self._peek():
            self._fail("write a comma between items.")
        return slots

    def _sequence(self) -> tuple[Slot, ...]:
        slots: tuple[Slot, ...] = ()
        while True:
            start = self._skip()
            slots = self._stitched(slots) if self._peek() == STITCH else slots + self._item()
            if _runs(slots) > MAX_SLOTS:
                self._fail(f"the plan runs more than {MAX_SLOTS:,} layers.", start)
            if not self._accept(","):
                return slots

    def _stitched(self, slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
        """Return the slots with a stitch behind the last one."""
        if not slots or slots[-1].is_stitched:
            self._fail("a stitch stands once behind the layer before a cut, as in 0-3,~,7-11.")
        try:
            last = slots[-1].map(lambda layer: replace(layer, stitched=True))
        except PlanError as error:
            self._fail(str(error)[0].lower() + str(error)[1:])
        self._accept(STITCH)
        return (*slots[:-1], last)

    def _item(self) -> tuple[Slot, ...]:
        slots, bare_range = self._atom()
        while (sign := self._peek()) and sign in ".*x":
            if bare_range:
                self._fail(f"put the range in parentheses first, as in ({bare_range}){sign}...")
            slots = self._modified(slots)
        return slots

    def _modified(self, slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
        if self._peek() == "x":
            return self._repeated(slots)
        if any(slot.damping is not None for slot in slots):
            self._fail("a damped block takes its modifiers inside its brackets, as in [(3-5).mlp]*0.5.")
        change = self._layer_modifier()
        return tuple(slot.map(change) for slot in slots)

    def _repeated(self, slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
        self._accept("x")
        start = self._skip()
        times = self._integer("write how often it runs, as in 5x3.")
        if times < 1:
            self._fail("a repeat runs at least once; to delete a layer, leave it out.", start)
        if (runs := _runs(slots) * times) > MAX_SLOTS:
            self._fail(f"that makes {runs:,} layers; at most {MAX_SLOTS:,} are allowed.", start)
        return slots * times

    def _layer_modifier(self) -> Callable[[Layer], Layer]:
        start = self._skip()
        if self._accept(BARE):
            return lambda layer: replace(layer, adapter=False)
        if self._accept("."):
            return self._part(start)
        self._accept("*")
        factor = self._number()

        def scaled(layer: Layer) -> Layer:
            try:
                return replace(layer, scale=layer.scale * factor)
            except PlanError as error:
                raise NotationError(self.text, start, str(error)) from None

        return scaled

    def _part(self, start: int) -> Callable[[Layer], Layer]:
        part: Part | None = "attn" if self._accept("attn") else "mlp" if self._accept("mlp") else None
        if part is None:
            self._fail("write .attn or .mlp to keep only that half of a layer, or .bare to leave out its adapter.")

        def kept(layer: Layer) -> Layer:
            if layer.part not in ("both", part):
                raise NotationError(
                    self.text, start, "a layer keeps either .attn or .mlp; both halves: leave both out."
                )
            return replace(layer, part=part)

        return kept

    def _atom(self) -> tuple[tuple[Slot, ...], str]:
        """Return the atom's slots and, for a bare range, its text."""
        start = self._skip()
        if (mean := _MEAN.match(self.text, self.at)) is not None:
            self.at = mean.end()
            return self._mean(), ""
        if self._accept("("):
            return self._group(), ""
        if self._accept("["):
            return self._damped(start), ""
        slots = self._span()
        is_range = "-" in self.text[start : self.at].rpartition(":")[2]
        return slots, self.text[start : self.at].strip() if is_range else ""

    def _mean(self) -> tuple[Slot, ...]:
        slots = self._span()
        self._expect(")", "close mean( with a parenthesis.")
        return tuple(slot.map(lambda layer: replace(layer, mean=True)) for slot in slots)

    def _group(self) -> tuple[Slot, ...]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self._fail(f"parentheses are nested more than {MAX_DEPTH} deep.")
        start = self._skip()
        slots = self._sequence()
        if self._peek() == "|":
            slots = (self._parallel(start, slots),)
        self._expect(")", "close the parenthesis.")
        self.depth -= 1
        return slots

    def _damped(self, start: int) -> tuple[Slot, ...]:
        """Return the slots of a block of which only a part of what it adds is taken."""
        at = self._skip()
        block = self._sequence()
        self._expect("]", "close the bracket.")
        self._expect("*", "write which part of what the block adds is taken, as in [3-5]*0.5.")
        factor = self._number()
        if any(len(slot.layers) > 1 or slot.is_stitched for slot in block):
            self._fail("in brackets stand single layers one after the other, as in [3-5,7.mlp]*0.5.", at)
        try:
            return damped(tuple(slot.layers[0] for slot in block), factor)
        except PlanError as error:
            self._fail(str(error)[0].lower() + str(error)[1:], start)

    def _parallel(self, start: int, first: tuple[Slot, ...]) -> Slot:
        layers = [self._member(start, first)]
        while self._accept("|"):
            at = self._skip()
            layers.append(self._member(at, self._item()))
        return Slot(tuple(layers))

    def _member(self, at: int, slots: tuple[Slot, ...]) -> Layer:
        if len(slots) != 1 or len(slots[0].layers) != 1 or slots[0].is_stitched:
            self._fail("between | stands one layer each, as in (4|5|6).", at)
        return slots[0].layers[0]

    def _span(self) -> tuple[Slot, ...]:
        donor = self._donor()
        start = self._skip()
        first = self._layer(donor)
        last = self._layer(donor) if self._accept("-") else first
        if abs(last - first) >= MAX_SLOTS:
            self._fail(f"a range has at most {MAX_SLOTS:,} layers.", start)
        step = 1 if last >= first else -1
        return tuple(Slot((Layer(index, donor=donor),)) for index in range(first, last + step, step))

    def _donor(self) -> str | None:
        if self._peek() == '"':
            return self._quoted()
        match = _DONOR.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return self._named(match[1], match.start())

    def _quoted(self) -> str:
        """Return the donor's name that stands in quotes here, and go on behind its colon."""
        start = self._skip()
        self.at, name = start + 1, ""
        while (sign := self.text[self.at : self.at + 1]) != '"':
            if sign == "\\":
                self.at += 1
                sign = self.text[self.at : self.at + 1]
                if sign not in ('"', "\\"):
                    self._fail_here('behind a backslash in a name stands " or another backslash.')
            if not sign:
                self._fail('close the name with another ", as in "my model":7.', start)
            name += sign
            self.at += 1
        self.at += 1
        self._expect(":", 'write a colon and a layer behind a name in quotes, as in "my model":7.')
        return self._named(name, start)

    def _named(self, name: str, start: int) -> str:
        if not 0 < len(name) <= MAX_DONOR:
            self._fail(f"a donor's name has 1 to {MAX_DONOR:,} characters; this one has {len(name):,}.", start)
        return name

    def _layer(self, donor: str | None) -> int:
        start = self._skip()
        index = self._integer("write a layer number, a range such as 3-7, or a group such as (4|5).")
        if donor is None:
            try:
                check_layer(index, self.n_layers)
            except PlanError as error:
                self._fail(str(error)[0].lower() + str(error)[1:], start)
        return index

    def _integer(self, reason: str) -> int:
        self._skip()
        match = _INTEGER.match(self.text, self.at)
        if match is None or not match.group().isascii():
            self._fail(reason)
        if len(match.group()) > 9:
            self._fail("that number is too large.")
        self.at = match.end()
        return int(match.group())

    def _number(self) -> float:
        self._skip()
        match = _NUMBER.match(self.text, self.at)
        if match is None or not match.group().isascii():
            self._fail("write the factor after *, as in 7*0.5.")
        self.at = match.end()
        return float(match.group())

    def _skip(self) -> int:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at

    def _peek(self) -> str:
        self._skip()
        return self.text[self.at : self.at + 1]

    def _accept(self, sign: str) -> bool:
        self._skip()
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def _expect(self, sign: str, reason: str) -> None:
        if not self._accept(sign):
            self._fail(reason)

    def _fail_here(self, reason: str) -> NoReturn:
        """Refuse the next character, a space too."""
        raise NotationError(self.text, self.at, reason)

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        raise NotationError(self.text, self._skip() if at is None else at, reason)


def _runs(slots: tuple[Slot, ...]) -> int:
    return sum(len(slot.layers) for slot in slots)
