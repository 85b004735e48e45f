"""What a score is to be read against: answers that take no model, and a model that hears no word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from stages.learning.dataset import Images, Windows
from stages.learning.mel_statistics import image_statistics
from stages.learning.scoring import Scored

_AT_ONCE = 256  # images in memory
_MOST_CLIPS = 20_000  # that the discriminant learns from; more make it no better
_LEAST_CLIPS = 2  # of a language: a spread can't be told from one


def majority_right(training: Windows, scored: Scored) -> np.ndarray:
    """(clips,) bool: whether the commonest language of the training clips is the right answer."""
    labels = np.zeros(len(training.clips), np.int64)
    labels[training.clip] = training.label
    right: np.ndarray = scored.labels == np.bincount(labels).argmax()
    return right


def mel_lda_right(training: Windows, test: Windows) -> np.ndarray:
    """(test clips,) bool: whether linear discriminant analysis on time-averaged mel statistics finds the language."""
    chosen = np.unique(np.linspace(0, len(training.clips) - 1, min(len(training.clips), _MOST_CLIPS)).astype(int))
    values, labels = _statistics(training, chosen)
    enough = np.isin(labels, np.flatnonzero(np.bincount(labels) >= _LEAST_CLIPS))
    asked, truth = _statistics(test, np.arange(len(test.clips)))
    names = np.unique(labels[enough])
    if len(names) < 2:
        only: np.ndarray = np.isin(truth, names)
        return only
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values[enough], labels[enough])
    right: np.ndarray = model.predict(asked) == truth
    return right


def _statistics(windows: Windows, clips: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of some clips, the mean over each one's windows: (clips, statistics) float64, and their labels (clips,)."""
    place = np.full(len(windows.clips), -1)
    place[clips] = np.arange(len(clips))
    images = Images(windows, memory_gb=0)
    order = images.reading_order()
    order = order[place[windows.clip[order]] >= 0]
    found: list[np.ndarray] = []
    for first in range(0, len(order), _AT_ONCE):
        found += [image_statistics(image) for image in images.take(order[first : first + _AT_ONCE])]
    table = np.array(found, np.float64)
    at = place[windows.clip[order]]
    total = np.zeros((len(clips), table.shape[1]))
    np.add.at(total, at, table)
    labels = np.zeros(len(clips), np.int64)
    labels[at] = windows.label[order]
    return total / np.bincount(at, minlength=len(clips))[:, None], labels
