"""What a check of the doctor says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

OK, WARNING, FAULT = "ok", "warning", "fault"
_FEW = 3


@dataclass(frozen=True)
class Finding:
    """One line for a person.

    level : OK; WARNING: a run will do, but read this; FAULT: a run fails or its results are not to be trusted.
    text : what was found.
    mend : shell commands, behind a `#` what else to know of them; "" where there is nothing to mend.
    """

    level: str
    text: str
    mend: str = ""


Findings = Iterator[Finding]


def ok(text: str) -> Finding:
    return Finding(OK, text)


def warning(text: str, mend: str) -> Finding:
    return Finding(WARNING, text, mend)


def fault(text: str, mend: str) -> Finding:
    return Finding(FAULT, text, mend)


def few(names: Iterable[object]) -> str:
    """The first names of a list, and how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - _FEW} more" if len(texts) > _FEW else ""
    return ", ".join(texts[:_FEW]) + more
