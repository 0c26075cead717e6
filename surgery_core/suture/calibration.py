"""The texts that stitches are fitted on where nobody says which, and that they are not those by which one judges."""

from __future__ import annotations

from collections.abc import Iterable

from surgery_core.errors import SettingsError
from surgery_core.text import Text, text_sets

USUAL_SET = "stories"
"""Name of the bundled set that stitches are fitted on: the larger one."""


def calibration_texts() -> tuple[Text, ...]:
    """Return the bundled texts that stitches are fitted on unless others are given."""
    return text_sets()[USUAL_SET].texts


def check_apart(calibration: Iterable[Text], scored: Iterable[Text]) -> None:
    """Refuse to score what stitches are fitted on.

    Raises:
        SettingsError: which names the first such text, and says how many there are.
    """
    fitted = {text.text for text in calibration}
    both = [text.title for text in scored if text.text in fitted]
    if both:
        raise SettingsError(
            f"{len(both):,} of the texts that are scored, {both[0]!r} first, are among those that the stitches are fitted "
            "on, so their losses would say too little; score others, or fit on others."
        )
