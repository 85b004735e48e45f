"""The average sound of a recording: what a listener who hears no word could know of it.

Mean and deviation of each mel band over time. They tell voices, microphones, bandwidths and codecs, and of a language
only how often its sounds come; a model of speech has to beat what can be learnt from them.
"""

from __future__ import annotations

import numpy as np

MOST_BANDS = 64  # more are averaged: enough to tell voices, microphones and bandwidths


def coarse_bands(columns: np.ndarray) -> np.ndarray:
    """(frames, bands), dB or any measure linear in it -> (frames, min(bands, MOST_BANDS)) float32, means of bands."""
    bands = columns.shape[1]
    edges = np.linspace(0, bands, min(bands, MOST_BANDS) + 1).round().astype(int)
    means: np.ndarray = np.add.reduceat(columns, edges[:-1], axis=1, dtype=np.float32)
    return means / np.diff(edges).astype(np.float32)


def spectrum_statistics(coarse: np.ndarray) -> np.ndarray:
    """Means and standard deviations over time, the mean level taken off.

    coarse : (frames, bands) as `coarse_bands` gives them, at least one frame
    Returns (2 x bands,) float32.
    """
    mean = coarse.mean(axis=0)
    return np.concatenate([mean - mean.mean(), coarse.std(axis=0)])


def image_statistics(image: np.ndarray) -> np.ndarray:
    """The same of an image (bands, columns) uint8, without the black columns after the end of a short recording."""
    sound = np.flatnonzero(image.any(axis=0))
    columns = int(sound[-1]) + 1 if len(sound) else 1
    return spectrum_statistics(coarse_bands(image[:, :columns].T))
