"""Pictures of an evaluation, readable for 2 to 176 languages and for people who see colours differently.

PNG without date or version, so the same scores give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from stages.learning.metrics import Interval, LanguageScore, ReliabilityBin

COLOURS = "cividis"  # even in lightness, the same to all kinds of colour vision
BLUE, ORANGE = "#0072B2", "#E69F00"  # Okabe and Ito


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def confusion_picture(path: Path, counts: np.ndarray, languages: list[str], title: str) -> None:
    """Row-normalised confusion matrix; counts (languages, languages), rows actual. Numbers where there is room."""
    n = len(languages)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.5 + 0.42 * n, 5, 24))
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    picture = axes.imshow(shares, cmap=COLOURS, vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, fraction=0.045, label="share of the clips of the actual language")
    font = float(np.clip(72 * side / n * 0.42, 3, 10))
    axes.set_xticks(range(n), languages, rotation=90, fontsize=font)
    axes.set_yticks(range(n), languages, fontsize=font)
    axes.set(xlabel="predicted", ylabel="actual", title=title)
    if n <= 40:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "black" if shares[i, j] > 0.55 else "white"
            axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=font * 0.9)
    _save(figure, path)


def language_picture(
    path: Path, languages: list[str], scores: list[LanguageScore], intervals: list[Interval | None], title: str
) -> None:
    """Recall of each language with its interval, worst at the top, and precision as a dot."""
    order = sorted(range(len(languages)), key=lambda i: (-scores[i].recall, languages[i]))
    figure, axes = plt.subplots(figsize=(7, float(np.clip(1.5 + 0.24 * len(order), 3, 40))), layout="constrained")
    for y, i in enumerate(order):
        axes.barh(y, scores[i].recall, color=BLUE, height=0.7, label="recall, 95 % interval" if y == 0 else None)
        interval = intervals[i]
        if interval is not None:
            axes.plot([interval.low, interval.high], [y, y], color="black", linewidth=1)
    axes.plot([scores[i].precision for i in order], range(len(order)), "o", color=ORANGE, label="precision")
    axes.set_yticks(range(len(order)), [f"{languages[i]} ({scores[i].n})" for i in order], fontsize=8)
    axes.set(xlim=(0, 1.02), ylim=(-0.6, len(order) - 0.4), xlabel="share", title=title)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def reliability_picture(path: Path, bins: list[ReliabilityBin], ece: float, title: str) -> None:
    """Accuracy against sureness; the area of a dot tells how many clips stand behind it."""
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="as sure as right")
    total = sum(b.n for b in bins)
    axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], "-", color=BLUE, linewidth=1)
    axes.scatter(
        [b.confidence for b in bins], [b.accuracy for b in bins], s=[20 + 600 * b.n / total for b in bins],
        color=BLUE, alpha=0.6, label="clips",
    )  # fmt: skip
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability given to the winner", ylabel="accuracy")
    axes.set_title(f"{title}\ncalibration error (ECE) {ece:.3f}")
    axes.legend(loc="upper left", frameon=False)
    _save(figure, path)
