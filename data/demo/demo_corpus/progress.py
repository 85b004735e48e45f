"""How far the build is: a bar with a terminal, plain lines without one (CI, DVC's log)."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

log = logging.getLogger("demo_corpus")

_SECONDS_BETWEEN_LINES = 10


class Progress:
    """Counts clips. Shows clips per second, speech per second and the time left."""

    def __init__(self, total: int, clip_seconds: float) -> None:
        self.total, self.clip_seconds = total, clip_seconds
        self.done = 0
        self.started = self.last_line = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal:
            sys.stderr.write("\n")

    def advance(self, clips: int) -> None:
        """Adds `clips` that are finished."""
        self.done += clips
        now = time.monotonic()
        rate = self.done / max(1e-9, now - self.started)
        left = (self.total - self.done) / rate
        text = (
            f"demo corpus: {self.done}/{self.total} clips, {rate:.1f} clips/s, "
            f"{rate * self.clip_seconds:.0f} x real time, {left:.0f} s left"
        )
        if self.terminal:
            filled = 30 * self.done // self.total
            sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text}\x1b[K")
            sys.stderr.flush()
        elif now - self.last_line >= _SECONDS_BETWEEN_LINES or self.done == self.total:
            self.last_line = now
            log.info("%s", text)
