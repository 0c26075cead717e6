"""How joined texts were cut into windows."""

from __future__ import annotations

from dataclasses import dataclass


def how_cut(window: int, windows: str = "windows") -> str:
    """Return how texts are joined and cut into windows of so many tokens, as a sentence."""
    return (
        f"As papers do it: joined with blank lines and cut into {windows} of {window:,} tokens without overlap; each is read "
        "for itself, and all of its tokens but the first are scored."
    )


@dataclass(frozen=True)
class Cut:
    """How joined texts were cut into windows (see `as_papers`).

    Attributes:
        window: tokens of each.
        n_windows: how many there are.
        left_out: tokens after the last of them, which are not scored.
    """

    window: int
    n_windows: int
    left_out: int

    @property
    def sentence(self) -> str:
        """Return the same in words."""
        windows = "1 window" if self.n_windows == 1 else f"{self.n_windows:,} windows"
        rest = "" if not self.left_out else f" The last {self.left_out:,} tokens fill no window and are left out."
        return how_cut(self.window, windows) + rest
