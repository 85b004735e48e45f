"""The robustness curves as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from stages.damage.conditions import BABBLE, CODEC, SECONDS, UNDAMAGED, WHITE
from stages.damage.scores import Score
from stages.learning.plots import BLUE, ORANGE

_PANELS = ((SECONDS, "seconds of sound"), (CODEC, "codec"), (WHITE, "signal-to-noise ratio, dB"))


def robustness_picture(path: Path, scores: Sequence[Score], chance: float, title: str) -> None:
    """Accuracy against length, codec and signal-to-noise ratio, with 95 % intervals; a panel for each part that is on.

    PNG without date or version, so the same scores give the same bytes.
    """
    of = {
        name: [s for s in scores if s.condition.damage == name] for name in (UNDAMAGED, SECONDS, CODEC, WHITE, BABBLE)
    }
    panels = [panel for panel in _PANELS if of[panel[0]]] or [(UNDAMAGED, "")]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1 + 3.6 * len(panels), 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (damage, label) in zip(axes[0], panels, strict=True):
        panel.axhline(of[UNDAMAGED][0].accuracy, linestyle="--", color="black", linewidth=1, label="undamaged")
        panel.axhline(chance, linestyle=":", color="grey", linewidth=1, label="chance")
        panel.set(ylim=(0, 1.02), xlabel=label)
        if damage in (CODEC, UNDAMAGED):
            _points(panel, list(range(len(of[damage]))), of[damage], BLUE, "o", "")
            panel.set_xticks(range(len(of[damage])), [str(s.condition) for s in of[damage]], rotation=30)
            panel.set_xlim(-0.5, len(of[damage]) - 0.5)
            continue
        _points(panel, _numbers(of[damage]), of[damage], BLUE, "o-", "white noise" if damage == WHITE else "")
        if damage == WHITE and of[BABBLE]:
            _points(panel, _numbers(of[BABBLE]), of[BABBLE], ORANGE, "s-", "babble")
    axes[0][0].set_ylabel("accuracy")
    figure.legend(*axes[0][-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _numbers(scores: Sequence[Score]) -> list[float]:
    return [float(score.condition.setting) for score in scores]


def _points(axes: Axes, x: Sequence[float], scores: Sequence[Score], colour: str, style: str, label: str) -> None:
    """Accuracies and their intervals, from left to right."""
    order = sorted(range(len(x)), key=lambda i: x[i])
    places, ordered = [x[i] for i in order], [scores[i] for i in order]
    axes.plot(places, [s.accuracy for s in ordered], style, color=colour, label=label or "_none")
    axes.vlines(places, [s.low for s in ordered], [s.high for s in ordered], color=colour, linewidth=1)
