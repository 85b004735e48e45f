"""Voices of our own: an eSpeak variant with its formants, breath and flutter moved at random.

A variant is a small text file (`formant 1 97 100 100` and the like; docs/voices.md of eSpeak NG). There are a hundred,
and a network that hears each of them often learns them by heart. So each training clip speaks with a variant of its
own, written from one of the training variants. The held-out voices stay as eSpeak has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Formant 0 is the low band under the first formant; 1 to 5 are the vowels' own; 6 to 8 are high and narrow
FORMANTS = 9
FREQUENCY = (0.93, 1.08)
HEIGHT = (0.75, 1.3)
WIDTH = (0.75, 1.4)
_PLAIN = (100, 100, 100)


@dataclass(frozen=True)
class Timbre:
    """Factors for each formant's frequency, height and width, and how unsteady the voice is (eSpeak's own scales)."""

    frequency: tuple[float, ...]
    height: tuple[float, ...]
    width: tuple[float, ...]
    flutter: int
    roughness: int


def draw_timbre(random: np.random.Generator) -> Timbre:
    """A timbre near that of the variant."""
    return Timbre(
        frequency=tuple(float(value) for value in random.uniform(*FREQUENCY, FORMANTS)),
        height=tuple(float(value) for value in np.exp(random.uniform(np.log(HEIGHT[0]), np.log(HEIGHT[1]), FORMANTS))),
        width=tuple(float(value) for value in np.exp(random.uniform(np.log(WIDTH[0]), np.log(WIDTH[1]), FORMANTS))),
        flutter=int(random.integers(0, 11)),
        roughness=int(random.integers(0, 5)),
    )


def with_timbre(variant: str, timbre: Timbre) -> str:
    """The text of a variant's file -> the text of another: its formants moved, all else as it was.

    A formant that the file does not name is moved from eSpeak's own (100 100 100). A fourth number, which eSpeak adds
    in Hz, stays. Formant 0 keeps its frequency: below it is only the fundamental.
    """
    lines: list[str] = []
    left = set(range(FORMANTS))
    for line in variant.splitlines():
        words = line.split("//")[0].split()
        if words[:1] == ["formant"] and len(words) >= 2 and words[1].isdigit() and int(words[1]) in left:
            number = int(words[1])
            left.remove(number)
            numbers = [int(word) for word in words[2:]]
            lines.append(_formant(number, [*numbers[:3], *_PLAIN[len(numbers[:3]) :]], numbers[3:], timbre))
        elif words[:1] not in (["flutter"], ["roughness"], ["name"]):
            lines.append(line)
    lines += [_formant(number, list(_PLAIN), [], timbre) for number in sorted(left)]
    lines += ["name own", f"flutter {timbre.flutter}", f"roughness {timbre.roughness}"]
    return "\n".join(lines) + "\n"


def _formant(number: int, values: list[int], added: list[int], timbre: Timbre) -> str:
    frequency, height, width = values
    if number > 0:
        frequency = round(frequency * timbre.frequency[number])
    height, width = round(height * timbre.height[number]), round(width * timbre.width[number])
    return " ".join(map(str, ["formant", number, frequency, height, width, *added]))
