"""The audit as a picture: what each probe scores on the manifest's split and on a random one, against guessing.

PNG without date or version, so the same scores give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from stages.auditing.probes import Score

BLUE, ORANGE = "#0072B2", "#E69F00"  # Okabe and Ito: told apart by all kinds of colour vision
LABELS = {
    "mel_statistics": "average sound\n(voice, microphone)",
    "silence": "pauses only\n(microphone, room)",
    "file": "the file\n(codec, length, level)",
    "voice": "which voice?\n(within a language)",
}


def probes_picture(path: Path, own: Mapping[str, Score | None], random: Mapping[str, Score | None]) -> None:
    """A dot with its interval for each score; the grey line is what needs no ear."""
    figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
    series = ((own, -0.12, BLUE, "o", "the manifest's split"), (random, 0.12, ORANGE, "s", "random split"))
    for scores, shift, colour, marker, label in series:
        known = [(x, score) for x, name in enumerate(LABELS) if (score := scores.get(name)) is not None]
        if not known:
            continue
        x = np.array([place for place, _ in known]) + shift
        y = np.array([score.accuracy for _, score in known])
        ends = np.array([[score.low, score.high] for _, score in known])
        axes.vlines(x, ends[:, 0], ends[:, 1], color=colour, linewidth=2)
        axes.plot(x, y, marker, color=colour, markersize=8, label=f"{label}, 95 % interval")
        for (place, score), at in zip(known, y, strict=True):
            axes.annotate(
                f"{score.accuracy:.2f}",
                (place + shift, at),
                xytext=(9, -3),
                textcoords="offset points",
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
                zorder=5,
            )
    floors = {name: own.get(name) or random.get(name) for name in LABELS}
    for place, score in enumerate(floors.values()):
        if score is not None:
            axes.hlines(
                score.floor,
                place - 0.35,
                place + 0.35,
                color="grey",
                linestyle="--",
                label="_" if place else "guessing",
            )
    axes.set_xticks(range(len(LABELS)), list(LABELS.values()))
    axes.set(ylim=(-0.03, 1.06), xlim=(-0.5, len(LABELS) - 0.4), ylabel="accuracy")
    axes.set_title("What can be told without hearing a word", fontsize=11)
    if any(score is not None for score in floors.values()):
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
