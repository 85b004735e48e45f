"""Batches: the same from memory and from the shards, the same for the same (seed, epoch), nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from learning_project import make_project

from stages.learning.dataset import (
    Images,
    TrainingBatches,
    ahead,
    class_weights,
    index_windows,
    scoring_batches,
)
from stages.pipeline.errors import SplitError, StorageError
from stages.pipeline.manifest_table import read_manifest
from stages.pipeline.params import load_params
from stages.pipeline.shards import Shard, list_shards

LANGUAGES = ["l0", "l1", "l2"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), clips_per_group=4)


def batches_of(project: Path, memory_gb: float, seed: int = 3, batch_size: int = 16) -> TrainingBatches:
    rows = read_manifest(project / "data/manifest.csv")
    windows = index_windows(project / "data/features", rows, LANGUAGES, "train")
    augment = load_params(project / "params.yaml").train.augment
    return TrainingBatches(Images(windows, memory_gb), 3, batch_size, augment, "none", seed)


def test_index_knows_every_window_and_forgets_rejected_clips(project: Path) -> None:
    rows = read_manifest(project / "data/manifest.csv")
    lengths: dict[str, int] = {}
    for path in list_shards(project / "data/features"):
        with Shard(path) as shard:
            lengths.update(zip(shard.ids, shard.lengths.tolist(), strict=True))
    for split in ("train", "validation", "test"):
        windows = index_windows(project / "data/features", rows, LANGUAGES, split)
        expected = [row for row in rows if row.split == split and row.id in lengths]
        assert list(windows.clips) == expected
        assert len(windows) == sum(lengths[row.id] for row in expected)
        assert [LANGUAGES[n] for n in windows.label] == [windows.clips[c].language for c in windows.clip]
    assert len(lengths) == len(rows) - 3


def test_images_are_those_of_the_shards(project: Path) -> None:
    rows = read_manifest(project / "data/manifest.csv")
    windows = index_windows(project / "data/features", rows, LANGUAGES, "test")
    images = Images(windows, memory_gb=1).take(np.arange(len(windows)))
    at = 0
    for row in windows.clips:
        with Shard(project / "data/features" / f"{row.shard}.h5") as shard:
            clip = shard.clip(shard.ids.index(row.id))[..., 0]
        assert (images[at : at + len(clip)] == clip).all()
        at += len(clip)
    scored = np.concatenate(list(scoring_batches(Images(windows, 0), 7)))
    assert (scored[..., 0] == images).all()


def test_streaming_gives_the_same_batches_as_memory(project: Path) -> None:
    held, streamed = batches_of(project, 1.0), batches_of(project, 0.0)
    assert held.images.in_memory
    assert not streamed.images.in_memory
    for epoch in (0, 1):
        for a, b in zip(held.epoch(epoch), streamed.epoch(epoch), strict=True):
            assert all((x == y).all() for x, y in zip(a, b, strict=True))


def test_an_epoch_is_a_function_of_seed_and_epoch(project: Path) -> None:
    first = [batch[0] for batch in batches_of(project, 1.0).epoch(4)]
    again = [batch[0] for batch in batches_of(project, 1.0).epoch(4)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    other_epoch = next(batches_of(project, 1.0).epoch(5))[0]
    other_seed = next(batches_of(project, 1.0, seed=4).epoch(4))[0]
    assert (first[0] != other_epoch).any()
    assert (first[0] != other_seed).any()


def test_every_window_once_in_even_batches(project: Path) -> None:
    batches = batches_of(project, 1.0, batch_size=10)
    n = len(batches.images.windows)
    seen = np.concatenate(batches._order(0))
    assert sorted(seen) == list(range(n))
    sizes = [len(batch[0]) for batch in batches.epoch(0)]
    assert len(sizes) == batches.steps == -(-n // 10)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 10


def test_class_weights() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    weights = class_weights(labels, 2, "balanced")
    assert weights[labels][labels == 0].sum() == pytest.approx(weights[labels][labels == 1].sum())
    assert weights[labels].mean() == pytest.approx(1)
    assert (class_weights(labels, 2, "none") == 1).all()


def test_a_language_that_training_lacks_is_an_error(project: Path) -> None:
    rows = read_manifest(project / "data/manifest.csv")
    with pytest.raises(SplitError, match=r"test split has 1 language.* l2"):
        index_windows(project / "data/features", rows, LANGUAGES[:2], "test")


def test_a_damaged_shard_is_an_error_on_either_way(project: Path, tmp_path: Path) -> None:
    broken = tmp_path / "project"
    shutil.copytree(project, broken)
    path = list_shards(broken / "data/features")[0]
    with h5py.File(path) as file:
        offset = file["data"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as handle:
        handle.seek(offset + 100)
        byte = handle.read(1)[0]
        handle.seek(offset + 100)
        handle.write(bytes([byte ^ 1]))
    rows = read_manifest(broken / "data/manifest.csv")
    with Shard(path) as shard:
        split = next(row.split for row in rows if row.id == shard.ids[0])
    damaged = index_windows(broken / "data/features", rows, LANGUAGES, split)
    with pytest.raises(StorageError, match=path.name):
        Images(damaged, 1.0)
    failures: list[BaseException] = []
    streamed = batches_of(broken, 0.0)
    streamed.images.windows.shard[:] = 0
    streamed.images.windows.row[:] = 0
    with pytest.raises(StorageError, match=path.name):
        list(streamed.epoch(0, failures))
    assert isinstance(failures[0], StorageError)


def test_the_thread_ends_when_the_reader_stops() -> None:
    made = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    reader = ahead(numbers(), depth=2)
    assert next(reader) == 0
    reader.close()
    assert len(made) < 10
