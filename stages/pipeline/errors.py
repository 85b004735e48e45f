"""Every error that a user can meet, and the exit code that a script can test for."""

from __future__ import annotations

import os


class PipelineError(Exception):
    """Root of all errors that the pipeline raises on purpose.

    The message says what was expected, what was received, which file, and what to do about it.
    """

    exit_code = 1


class ParamsError(PipelineError):
    """params.yaml holds something that no stage can work with."""

    exit_code = 2


class TooManyRejectedError(PipelineError):
    """More recordings were rejected than the stage's `max_reject_fraction` allows."""

    exit_code = 3


class SplitError(PipelineError):
    """Labels or splits contradict each other, or a split or language is left with nothing."""

    exit_code = 4


class StorageError(PipelineError):
    """A file could not be read, written or verified (BSD's EX_IOERR)."""

    exit_code = os.EX_IOERR


class LockedError(PipelineError):
    """Another run of the same stage is under way in this folder (BSD's EX_TEMPFAIL)."""

    exit_code = os.EX_TEMPFAIL


class RejectedClip(Exception):  # noqa: N818 - an outcome of one clip, not an error of the run
    """One recording cannot be used; the run goes on without it and lists it in quarantine.csv.

    reason : a code in snake_case, stable over versions; scripts may count by it.
    detail : one line for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = " ".join(detail.split())[:300]
