"""Probes: what a simple model scores that hears no word, on the manifest's own split and on a random one.

mel_statistics   the average sound: voices, microphones and bandwidths, and in part the language, whose sounds differ
                 in how often they come. Linear discriminant analysis on means and deviations of mel bands.
silence          the same on each clip's quietest frames: microphone, room, noise, codec.
file             container, codec, bitrate, native sample rate, duration, loudness: a random forest; also each alone.
voice            the average sound again, asked for the speaker or source within one language: how well a model could
                 tell the voices that it trains on, and so learn them instead of the language.

What a probe scores on the manifest's split, any model may score without having learnt a language.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv
from sklearn.base import ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from stages.learning.metrics import bootstrap_accuracy
from stages.pipeline.manifest_table import Row
from stages.pipeline.model_params import AuditParams

_LEAST_CLIPS = 2  # of a language in training: a spread can't be told from one
_LEAST_OF_VOICE = 4  # clips of a group that stands in the voice probe
_VOICES = 20  # of a language at most, so that chance means the same everywhere


@dataclass(frozen=True)
class Division:
    """Clips to learn from and clips to ask about: numbers of clips, ascending."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Score:
    """Accuracy with its 95 % interval, drawn over `over` ("groups" or "clips").

    chance : one over the number of languages; majority : what always naming the commonest of training scores.
    n_cells : pairs of a group and a language: within one of them clips are right or wrong together.
    """

    accuracy: float
    low: float
    high: float
    over: str
    chance: float
    majority: float
    n_train: int
    n_test: int
    n_groups: int
    n_cells: int

    @property
    def floor(self) -> float:
        """What needs no ear at all."""
        return max(self.chance, self.majority)

    @property
    def surely(self) -> float:
        """What the probe scores at least, few groups or not.

        A bootstrap over three groups that were all right says that it can't be otherwise. So this is also no more than
        the lower end of Clopper and Pearson's 95 % interval, for as many independent trials as have the bootstrap's
        spread: at least one for each cell, at most one for each clip.
        """
        deviation = (self.high - self.low) / 3.92
        alike = self.accuracy * (1 - self.accuracy) / deviation**2 if deviation else 0.0
        trials = min(max(alike, self.n_cells), self.n_test)
        right = self.accuracy * trials
        exact = float(betaincinv(right, trials - right + 1, 0.025)) if right else 0.0
        return min(self.low, exact)


def _place(*parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def sample(rows: Sequence[Row], most: int, seed: int) -> np.ndarray:
    """Numbers of at most about `most` rows, ascending: as many of each language and split, spread over its groups.

    Which ones is a function of hashes, so that a clip more moves few others.
    """
    if len(rows) <= most:
        return np.arange(len(rows))
    cells: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(rows):
        cells[row.language, row.split][row.group].append(number)
    total: dict[str, int] = defaultdict(int)
    for (_, split), groups in cells.items():
        total[split] += sum(map(len, groups.values()))
    languages = len({language for language, _ in cells})
    chosen: list[int] = []
    for (_, split), groups in cells.items():
        turns = [
            (turn, _place(seed, group), number)
            for group, members in groups.items()
            for turn, number in enumerate(sorted(members, key=lambda i: _place(seed, rows[i].id)))
        ]
        quota = max(1, round(most * total[split] / len(rows) / languages))
        chosen += [number for _, _, number in sorted(turns)[:quota]]
    return np.array(sorted(chosen))


def own_division(rows: Sequence[Row], clips: np.ndarray) -> Division:
    split = np.array([rows[i].split for i in clips])
    return Division(clips[split == "train"], clips[split == "test"])


def random_division(rows: Sequence[Row], own: Division, seed: int) -> Division:
    """The same clips, as many of each language in the test, drawn by hash without a look at groups."""
    both = np.concatenate([own.train, own.test])
    wanted: dict[str, int] = defaultdict(int)
    for i in own.test:
        wanted[rows[i].language] += 1
    test: list[int] = []
    for i in sorted(both.tolist(), key=lambda i: _place("random", seed, rows[i].id)):
        if wanted[rows[i].language] > 0:
            wanted[rows[i].language] -= 1
            test.append(i)
    inside = set(test)
    return Division(np.array(sorted(set(both.tolist()) - inside), int), np.array(sorted(test), int))


def discriminant() -> ClassifierMixin:
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def forest(seed: int) -> ClassifierMixin:
    return RandomForestClassifier(60, min_samples_leaf=3, class_weight="balanced", random_state=seed)


def tree(seed: int) -> ClassifierMixin:
    return DecisionTreeClassifier(min_samples_leaf=5, max_leaf_nodes=64, class_weight="balanced", random_state=seed)


def probe(
    model: ClassifierMixin, values: np.ndarray, rows: Sequence[Row], division: Division, params: AuditParams
) -> Score | None:
    """Teach `model` to tell the language from `values` (clips, features), and ask it about the test clips.

    None where there is nothing to ask about, or fewer than two languages to learn.
    """
    language = np.array([row.language for row in rows])
    train, test = division.train, division.test
    names, counts = np.unique(language[train], return_counts=True)
    enough = names[counts >= _LEAST_CLIPS]
    if len(enough) < 2 or not len(test):
        return None
    train = train[np.isin(language[train], enough)]
    model.fit(values[train], language[train])
    right = model.predict(values[test]) == language[test]
    commonest = names[counts.argmax()]
    return _score(right, np.array([rows[i].group for i in test]), language[test], len(train), 1 / len(names),
                  float(np.mean(language[test] == commonest)), params)  # fmt: skip


def _score(
    right: np.ndarray,
    groups: np.ndarray,
    languages: np.ndarray,
    n_train: int,
    chance: float,
    majority: float,
    params: AuditParams,
) -> Score:
    interval = bootstrap_accuracy(right, groups, params.bootstrap_samples, params.seed)
    return Score(
        float(right.mean()), interval.low, interval.high, interval.over, chance, majority,
        n_train, len(right), len(set(groups.tolist())), len(set(zip(groups.tolist(), languages.tolist(), strict=True))),
    )  # fmt: skip


def voice_probe(values: np.ndarray, rows: Sequence[Row], clips: np.ndarray, params: AuditParams) -> Score | None:
    """Tell the groups of one language's training clips apart: half of each group's clips teaches, the other half asks.

    None where no language has two groups of enough clips.
    """
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i in clips.tolist():
        if rows[i].split == "train":
            members[rows[i].language][rows[i].group].append(i)
    right: list[np.ndarray] = []
    voices: list[str] = []
    spoken: list[str] = []
    chances: list[float] = []
    majorities: list[float] = []
    n_train = 0
    for language in sorted(members):
        large = {group: list_ for group, list_ in members[language].items() if len(list_) >= _LEAST_OF_VOICE}
        chosen = sorted(large, key=lambda group: _place(params.seed, group))[:_VOICES]
        if len(chosen) < 2:
            continue
        train: list[int] = []
        test: list[int] = []
        for group in chosen:
            mixed = sorted(large[group], key=lambda i: _place("voice", params.seed, rows[i].id))
            train += mixed[::2]
            test += mixed[1::2]
        model = discriminant()
        model.fit(values[train], [rows[i].group for i in train])
        asked = np.array([rows[i].group for i in test])
        right.append(model.predict(values[test]) == asked)
        voices += [f"{language} {group}" for group in asked]
        spoken += [language] * len(test)
        chances += [1 / len(chosen)] * len(test)
        largest = max(chosen, key=lambda group: (len(large[group]), group))
        majorities += (asked == largest).tolist()
        n_train += len(train)
    if not right:
        return None
    return _score(
        np.concatenate(right),
        np.array(voices),
        np.array(spoken),
        n_train,
        float(np.mean(chances)),
        float(np.mean(majorities)),
        params,
    )
