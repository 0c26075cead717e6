"""What jobs do in tests of the engine: functions of a module that a worker in another process finds too."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from surgery_core.errors import Stopped
from surgery_ui.work.job import Job


def broken(job: Job[Any], number: int) -> float:
    return number / 0


def steady(job: Job[Any], seconds: float) -> str:
    for step in range(int(seconds * 20)):
        time.sleep(0.05)
        job.report(step, 10_000)
        if job.stop.is_set():
            raise Stopped("It was told to end.")
    return "ended"


def told_slowly(job: Job[Any], form: str) -> int:
    for number in range(12):
        time.sleep(0.2)
        if form == "text":
            job.write(chr(ord("a") + number))
        else:
            job.put(number)
    return 12


def dies(job: Job[Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
