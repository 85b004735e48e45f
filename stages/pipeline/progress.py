"""A bar with clips/s, times real time and time left on a terminal; plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

log = logging.getLogger(__name__)
_LINE_EVERY_SECONDS = 15.0


class Progress:
    """Counts shards; shows clips and seconds of sound.

    total : shards to do.
    """

    def __init__(self, stage: str, total: int) -> None:
        self._total = total
        self._done = self._clips = 0
        self._sound = 0.0
        self._start = self._last = time.monotonic()
        self._bar: RichProgress | None = None
        if total and sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(stage, total=total, speed="")

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if self._done:
            log.info("%d shards done in %.1f s, %s", self._done, time.monotonic() - self._start, self._speed())

    def _speed(self) -> str:
        elapsed = max(1e-3, time.monotonic() - self._start)
        return f"{self._clips / elapsed:.0f} clips/s, {self._sound / elapsed:.0f} x real time"

    def advance(self, clips: int, sound_seconds: float) -> None:
        """One more shard is done."""
        self._done += 1
        self._clips += clips
        self._sound += sound_seconds
        if self._bar:
            self._bar.update(self._task, completed=self._done, speed=self._speed())
            return
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_SECONDS:
            self._last = now
            left = (now - self._start) / self._done * (self._total - self._done)
            log.info("%d of %d shards, %s, %.0f s left", self._done, self._total, self._speed(), left)


def _bar() -> RichProgress:
    # here: its import would be a seventh of a stage's start
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards {task.fields[speed]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
