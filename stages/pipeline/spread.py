"""Work on many files, over processes where it is worth their start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from stages.pipeline.backends import in_processes

J = TypeVar("J")
R = TypeVar("R")
_WORTH_SECONDS = 3.0


def spread(function: Callable[[J], R], jobs: Sequence[J], workers: int, seconds: float) -> Iterator[R]:
    """`map(function, jobs)`, in order.

    workers : processes; 0: one for each core.
    seconds : what all of it may cost one process, about; a little is done in this one.
    """
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers < 2 or seconds < _WORTH_SECONDS:
        yield from map(function, jobs)
        return
    yield from in_processes(function, jobs, workers, in_order=True)
