"""What came of a family of faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Broken(Exception):  # noqa: N818 - not an error of the program but the finding that it looks for
    """What must hold does not."""


def must(condition: object, message: str) -> None:
    """Raises Broken. Not `assert`: the checks must run under `python -O` too."""
    if not condition:
        raise Broken(message)


def _shortened(text: str, most: int = 3000) -> str:
    """Its beginning and its end, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


@dataclass
class Result:
    """Counts of one run of one family.

    failures : one line each, with the number by which `--first N --count 1` repeats it.
    skipped : why nothing was tried, or not all of it.
    facts : figures worth keeping, such as the largest worker's memory.
    """

    tried: int = 0
    failures: list[str] = field(default_factory=list)
    skipped: str = ""
    facts: dict[str, float | int | str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return len(self.failures)

    @contextmanager
    def attempt(self, number: int, what: str) -> Iterator[None]:
        """Count one fault; an error inside the block is its failure, and the next one is tried."""
        self.tried += 1
        try:
            yield
        except Exception as error:
            self.failures.append(f"{number} {what}: {type(error).__name__}: {_shortened(str(error))}")

    def most(self, name: str, value: float) -> None:
        """Keep the largest value of a figure."""
        self.facts[name] = max(self.facts.get(name, value), value)  # type: ignore[type-var]
