"""Where nobody says who speaks: groups proposed by how alike the clips sound. A suggestion, to be listened to.

Ward's clustering of the average sound within each language, as many clusters as keep clearly apart. It finds a
handful of readers in front of a handful of microphones, and splits one of them rather than joining two; it does not
find a hundred voices with three clips each, and says so by proposing nothing. A person who speaks two of the languages
becomes two groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import AgglomerativeClustering
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

CLUSTERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CLEAR = 0.6  # silhouette of the best number of clusters; below it they may be anything
NEARLY_AS_CLEAR = 0.9  # the most clusters whose silhouette is at least this share of the best
_AXES = 12
_LEAST_CLIPS = 12  # of a language
_MOST_CLIPS = 2000  # of a language are clustered; the others go to the nearest cluster


@dataclass(frozen=True)
class Suggestion:
    """groups : (clips,) names, "" where no voices stand out; clarity : language -> the best silhouette, -1 to 1."""

    groups: np.ndarray
    clarity: dict[str, float]


def suggest_groups(spectrum: np.ndarray, languages: np.ndarray) -> Suggestion:
    """By `Statistics.spectrum` (clips, features) and the names of the clips' languages (clips,)."""
    groups = np.full(len(languages), "", dtype=object)
    clarity: dict[str, float] = {}
    for language in np.unique(languages).tolist():
        clips = np.flatnonzero(languages == language)
        if len(clips) < _LEAST_CLIPS:
            continue
        number, clear = _cluster(spectrum[clips])
        clarity[language] = clear
        if clear >= CLEAR:
            groups[clips] = [f"{language}-voice{one:02d}" for one in number.tolist()]
    return Suggestion(groups, clarity)


def _cluster(values: np.ndarray) -> tuple[np.ndarray, float]:
    """(clips,) numbers of clusters, by size; and the best silhouette."""
    centred = values - values.mean(axis=0)
    axes = min(_AXES, *centred.shape)
    places = PCA(axes, svd_solver="full").fit_transform(centred)
    every = -(-len(places) // _MOST_CLIPS)
    some = places[::every]
    if np.ptp(some, axis=0).max() < 1e-6:  # all alike
        return np.zeros(len(places), int), 0.0
    tried: list[tuple[float, np.ndarray]] = []
    for count in CLUSTERS:
        if count > len(some) // 3:
            break
        labels = AgglomerativeClustering(count, linkage="ward").fit_predict(some)
        tried.append((float(silhouette_score(some, labels)), labels))
    best = max(score for score, _ in tried)
    labels = [labels for score, labels in tried if score >= NEARLY_AS_CLEAR * best][-1]
    centres = np.array([some[labels == one].mean(axis=0) for one in range(labels.max() + 1)])
    centres = centres[np.argsort(-np.bincount(labels), kind="stable")]
    distance = ((places[:, None, :] - centres[None]) ** 2).sum(axis=2)  # (clips, clusters)
    return distance.argmin(axis=1), best
