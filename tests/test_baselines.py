"""The baselines beside a model's score, against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from learning_project import make_project
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from stages.learning.baselines import majority_right, mel_lda_right
from stages.learning.dataset import Windows, index_windows
from stages.learning.mel_statistics import MOST_BANDS, coarse_bands, image_statistics, spectrum_statistics
from stages.learning.scoring import Scored
from stages.pipeline.manifest_table import read_manifest
from stages.pipeline.shards import Shard

LANGUAGES = ["l0", "l1", "l2"]


def splits(project: Path) -> tuple[Windows, Windows]:
    rows = read_manifest(project / "data/manifest.csv")
    train, test = (index_windows(project / "data/features", rows, LANGUAGES, split) for split in ("train", "test"))
    return train, test


def slow_statistics(windows: Windows) -> np.ndarray:
    found: dict[int, list[np.ndarray]] = {}
    for shard_number, path in enumerate(windows.shards):
        with Shard(path) as shard:
            for number in np.flatnonzero(windows.shard == shard_number):
                row, clip = windows.row[number], windows.clip[number]
                image = shard.read(int(row), int(row) + 1)[0, :, :, 0].astype(float)
                mean, deviation = image.mean(axis=1), image.std(axis=1)  # 48 bands: each stands for itself
                found.setdefault(int(clip), []).append(np.concatenate([mean - mean.mean(), deviation]))
    return np.array([np.mean(found[clip], axis=0) for clip in range(len(windows.clips))])


def test_the_discriminant_is_that_of_plain_loops(tmp_path: Path) -> None:
    train, test = splits(make_project(tmp_path / "p"))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    model.fit(slow_statistics(train), [clip.language for clip in train.clips])
    expected = model.predict(slow_statistics(test)) == [clip.language for clip in test.clips]
    assert mel_lda_right(train, test).tolist() == expected.tolist()
    assert expected.mean() > 0.9  # the languages of this corpus have bands of their own


def test_the_majority_is_that_of_training(tmp_path: Path) -> None:
    train, test = splits(make_project(tmp_path / "p", clips_per_group=2))
    keep = [i for i, clip in enumerate(train.clips) if clip.language == "l1" or i % 2]
    chosen = np.isin(train.clip, keep)
    clip = np.searchsorted(keep, train.clip[chosen])
    some = Windows(train.shards, tuple(train.clips[i] for i in keep), train.shard[chosen], train.row[chosen], clip,
                   train.label[chosen], train.shape)  # fmt: skip
    labels = np.array([int(clip.language[1:]) for clip in test.clips])
    scored = Scored(test.clips, LANGUAGES, np.zeros((len(labels), 3)), labels)
    assert majority_right(some, scored).tolist() == (labels == 1).tolist()


@pytest.mark.parametrize("bands", [40, MOST_BANDS, 192])
def test_statistics_know_no_level_and_no_silence_after_the_end(bands: int) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(1, 200, (bands, 80)).astype(np.uint8)
    padded = np.concatenate([image, np.zeros((bands, 40), np.uint8)], axis=1)
    found = image_statistics(padded)
    assert found.shape == (2 * min(bands, MOST_BANDS),)
    assert found == pytest.approx(spectrum_statistics(coarse_bands(image.T.astype(np.float32))), abs=1e-3)
    assert image_statistics(image + np.uint8(40)) == pytest.approx(found, abs=1e-3)
    assert np.isfinite(image_statistics(np.zeros((bands, 10), np.uint8))).all()
