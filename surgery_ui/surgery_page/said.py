"""The sentence that a page about a plan begins with: what surgery did, said as soon as it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamlit.delta_generator import DeltaGenerator

from surgery_core.measure.results import Comparison
from surgery_core.measure.said import loss_said, skills_said, text_said
from surgery_core.measure.skills.frames import skills_that_suffer
from surgery_core.suture.sides import given_back, sides_of
from surgery_ui.parts.waiting import in_line, stitching
from surgery_ui.session import looks, session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.work.job import Job
from surgery_ui.work.plan_jobs import WORK
from surgery_ui.work.sweep_jobs import known_skills


class Said:
    """A section that says in words what the scores and the two texts show.

    Args:
        now: what the page works on.
        place: an empty element, or a skeleton, where it stands.
        scores: what compares the texts of the set.
        texts: what writes both sides, by side.
        cut: what compares the plain cut with the base, where the plan is stitched.
    """

    def __init__(
        self, now: session.Experiment, place: DeltaGenerator, scores: Job[Any], texts: dict[str, Job[Any]],
        cut: Job[Any] | None = None,
    ) -> None:  # fmt: skip
        self._now, self._place, self._scores, self._texts, self._cut = now, place, scores, texts, cut
        self._shown = self._lost = self._line = self._back = ""

    @property
    def jobs(self) -> Sequence[Job[Any]]:
        """Return the jobs to look at."""
        return [self._scores, *self._texts.values(), *([] if self._cut is None else [self._cut])]

    def show(self) -> None:
        """Say what is known by now."""
        parts = [self._loss(), self._given_back(), self._text(), self._skills()]
        said = " ".join(present.plain(part) for part in parts if part)
        if not said and not self._scores.done:
            self._wait(in_line(WORK, [self._scores], "Scoring texts") or stitching(self._scores))
        elif said and said != self._shown:
            self._shown = said
            self._place = self._place.markdown(said, help=present.interval_help(state.margin))
        elif not said and self._scores.done and not self._shown:
            self._place.empty()

    def _wait(self, line: str) -> None:
        """Say in the sentence's place what goes before it: other people's work on a busy server, a stitch."""
        if line != self._line:
            self._line = line
            self._place = self._place.caption(line or "Scoring texts …")

    def _loss(self) -> str:
        """Return what the scores say; made once, for verdicts of many texts take a while."""
        result = _result(self._scores)
        if self._lost or not isinstance(result, Comparison) or result.not_finite:
            return self._lost
        found = result.within(state.margin).verdict()
        looks.note(str(self._now.plan), f"perplexity {present.times(result.ratio)}, {found.word}")
        self._lost = loss_said(found, self._now.plan)
        return self._lost

    def _given_back(self) -> str:
        """Return what the stitches give back of what the cut costs; made once, as the loss is."""
        both = [None if self._cut is None else _result(self._cut), _result(self._scores)]
        if not self._back and all(isinstance(one, Comparison) and not one.not_finite for one in both):
            cut, stitched = (one.within(state.margin) for one in both if one is not None)
            self._back = given_back(sides_of({"cut": cut, "stitched": stitched}))
        return self._back

    def _skills(self) -> str:
        """Return which skill suffers most, where both sides were asked already; here nobody is asked."""
        sides = [known_skills(self._now.loaded, plan) for plan in (self._now.identity, self._now.plan)]
        return "" if None in sides else skills_said(skills_that_suffer(*sides))  # type: ignore[arg-type]

    def _text(self) -> str:
        written = {side: _result(job) for side, job in self._texts.items()}
        if not {"before", "after"} <= written.keys() or None in (written["before"], written["after"]):
            return ""
        return text_said(written["before"].text, written["after"].text)


def _result(job: Job[Any]) -> Any:
    return job.result if job.done and job.error is None else None
