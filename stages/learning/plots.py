"""Pictures of an evaluation, readable for 2 to 176 languages and for people who see colours differently.

PNG without date or version, so the same scores give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri

from stages.learning.metrics import Interval, LanguageScore, ReliabilityBin

if TYPE_CHECKING:
    from stages.learning.unknown import ErrorCurve

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


def reliability_picture(path: Path, before: list[ReliabilityBin], after: list[ReliabilityBin], title: str) -> None:
    """Accuracy against sureness, before and after calibration; a dot's area tells how many clips stand behind it."""
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="as sure as right")
    for bins, colour, name in ((before, ORANGE, "before"), (after, BLUE, "after")):
        total = sum(b.n for b in bins)
        confidence, accuracy = [b.confidence for b in bins], [b.accuracy for b in bins]
        error = sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / total
        axes.plot(confidence, accuracy, "-", color=colour, linewidth=1)
        axes.scatter(
            confidence, accuracy, s=[20 + 600 * b.n / total for b in bins], color=colour, alpha=0.6, linewidths=0,
            label=f"{name} calibration, error (ECE) {error:.3f}",
        )  # fmt: skip
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability given to the winner", ylabel="accuracy", title=title)
    axes.legend(loc="upper left", frameon=False, markerscale=0.4)
    _save(figure, path)


def detection_picture(
    path: Path, curve: ErrorCurve | None, at: tuple[float, float] | None, languages: Sequence[str]
) -> None:
    """Detection error tradeoff: unknown clips accepted against known ones refused, on the scale of a normal deviate.

    at : (refused, accepted) at the fitted threshold; curve : None where there are no unknown languages
    """
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    if curve is None:
        axes.axis("off")
        axes.text(0.5, 0.5, "train.unknown_languages is empty:\nnothing is called unknown", ha="center", va="center")
        _save(figure, path)
        return
    ticks = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99])
    low, high = 0.008, 0.992

    def place(rate: Any) -> Any:
        return ndtri(np.clip(rate, low, high))

    axes.plot([place(low), place(high)], [place(low), place(high)], ":", color="grey", linewidth=1)
    axes.plot(place(curve.refused_known), place(curve.accepted_unknown), color=BLUE, label="all thresholds")
    if at is not None:
        label = f"fitted on validation: {at[0]:.1%} refused, {at[1]:.1%} accepted"
        axes.plot(*place(np.array(at)), "o", color=ORANGE, markersize=9, label=label)
    names = [f"{100 * tick:g}" for tick in ticks]
    axes.set_xticks(place(ticks), names)
    axes.set_yticks(place(ticks), names)
    listed = ", ".join(languages[:8]) + (" ..." if len(languages) > 8 else "")
    axes.set(
        xlim=(place(low), place(high)), ylim=(place(low), place(high)), xlabel="known languages refused, %",
        ylabel="unknown languages accepted, %",
        title=f"unknown: {listed}\nequal error rate {curve.eer:.3f}, AUROC {curve.auroc:.3f}",
    )  # fmt: skip
    axes.grid(linewidth=0.3)
    axes.legend(loc="upper right", frameon=False)
    _save(figure, path)
