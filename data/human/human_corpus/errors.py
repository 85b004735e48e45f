"""The exceptions that end a build with a sentence and no traceback."""

from __future__ import annotations

import os


class HumanCorpusError(Exception):
    """Says what was expected, what was received, and what to do."""

    exit_code = 1


class HumanParamsError(HumanCorpusError):
    """A knob in params.yaml is wrong."""

    exit_code = 2


class PackageError(HumanCorpusError):
    """A package cannot be had or unpacked on this machine (BSD's EX_IOERR)."""

    exit_code = os.EX_IOERR


class HumanLockedError(HumanCorpusError):
    """Another build is writing to the same folder (BSD's EX_TEMPFAIL)."""

    exit_code = os.EX_TEMPFAIL
