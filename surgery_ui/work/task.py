"""Work as a value: a function of this package and what it is called with, so that another process can do it as well.

Nothing here imports Streamlit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from surgery_ui.work.job import Job

Result = TypeVar("Result")


class Task(Generic[Result]):
    """What a job does.

    Args:
        do: a function of a module; it is given the job and the arguments.
        arguments: values that can be pickled, and models, which are sent by their names.
        received: told of the result where another process made it.
    """

    def __init__(
        self, do: Callable[..., Result], *arguments: Any, received: Callable[[Result], object] | None = None
    ) -> None:
        self.do, self.arguments, self.received = do, arguments, received

    def __call__(self, job: Job[Result]) -> Result:
        """Do it here."""
        return self.do(job, *self.arguments)
