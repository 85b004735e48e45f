"""Batches: the same for the same (seed, epoch), nothing lost, from memory and streamed through a bounded pool."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from learning_project import SIZE, make_project

from stages.learning.dataset import (
    Images,
    TrainingBatches,
    ahead,
    class_weights,
    index_windows,
    scoring_batches,
)
from stages.learning.stream import PIECE, draws, pieces_of, pool_places
from stages.pipeline.errors import SplitError, StorageError
from stages.pipeline.manifest_table import read_manifest
from stages.pipeline.shards import Shard, list_shards

LANGUAGES = ["l0", "l1", "l2"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), clips_per_group=4)


def batches_of(
    project: Path, memory_gb: float, seed: int = 3, batch_size: int = 16, pool_bytes: float = 0, devices: int = 1
) -> TrainingBatches:
    rows = read_manifest(project / "data/manifest.csv")
    windows = index_windows(project / "data/features", rows, LANGUAGES, "train")
    return TrainingBatches(Images(windows, memory_gb), 3, batch_size, "none", seed, devices, pool_bytes)


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
    streamed = Images(windows, 0)
    scored = np.concatenate(list(scoring_batches(streamed, 7)))
    assert (scored[..., 0] == images[streamed.reading_order()]).all()


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_an_epoch_is_a_function_of_seed_and_epoch(project: Path, memory_gb: float) -> None:
    first = [batch[0] for batch in batches_of(project, memory_gb).epoch(4)]
    again = [batch[0] for batch in batches_of(project, memory_gb).epoch(4)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    other_epoch = next(batches_of(project, memory_gb).epoch(5))[0]
    other_seed = next(batches_of(project, memory_gb, seed=4).epoch(4))[0]
    assert (first[0] != other_epoch).any()
    assert (first[0] != other_seed).any()


@pytest.mark.parametrize(("memory_gb", "pool_bytes"), [(1.0, 0), (0.0, 0), (0.0, 30 * SIZE * SIZE), (0.0, 1e9)])
def test_every_window_once_in_even_batches(project: Path, memory_gb: float, pool_bytes: float) -> None:
    batches = batches_of(project, memory_gb, batch_size=10, pool_bytes=pool_bytes)
    images = batches.images
    assert images.in_memory == (memory_gb > 0)
    n = len(images.windows)
    reference = Images(images.windows, 1.0).take(np.arange(n))
    for epoch in (0, 1):
        seen: list[int] = []
        for pictures, numbers in batches.drawn(epoch):
            assert (pictures == reference[numbers]).all()
            seen.extend(numbers)
        assert set(seen) == set(range(n))
        assert n <= len(seen) < n + batches.steps, "a batch hears one window twice, at most"
    made = list(batches.epoch(0))
    assert len(made) == batches.steps == -(-n // 10)
    assert {tuple(part.shape for part in batch) for batch in made} == {tuple(spec.shape for spec in batches.specs)}
    assert batches.size <= 10


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_devices_get_equal_parts(project: Path, memory_gb: float) -> None:
    batches = batches_of(project, memory_gb, batch_size=10, devices=3)
    seen = set()
    for pictures, numbers in batches.drawn(0):
        assert len(pictures) == len(numbers)
        assert len(numbers) % 3 == 0
        seen.update(numbers.tolist())
    assert len(seen) == len(batches.images.windows)


def test_the_pool_is_bounded_and_mixes_the_shards() -> None:
    shard, row = np.repeat(np.arange(40), 64), np.tile(np.arange(64), 40)
    pieces = pieces_of(shard, row, size=32)
    assert sorted(np.concatenate(pieces)) == list(range(2560))
    assert all(len(piece) == 32 and len(set(shard[piece])) == 1 for piece in pieces)
    places = pool_places(pieces, window_bytes=10, largest_batch=64, limit=5120)
    assert places == 512
    assert pool_places(pieces, 10, 64, limit=0) == 64 + 32, "a batch needs that much"
    assert pool_places(pieces, 10, 64, limit=1e9) == 2560
    held: dict[int, int] = {}  # place -> window
    shards_in_batch = []
    for draw in draws(pieces, [64] * 40, places, np.random.default_rng(0)):
        loaded = np.concatenate([*draw.load, draw.numbers[:0]])
        assert not set(draw.into.tolist()) & set(held), "no place is written over before it was used"
        held.update(zip(draw.into.tolist(), loaded.tolist(), strict=True))
        assert len(held) <= places
        assert max(held) < places
        assert [held.pop(int(place)) for place in draw.take] == draw.numbers.tolist()
        shards_in_batch.append(len(set(shard[draw.numbers])))
    assert not held
    assert np.median(shards_in_batch) > 10, "a batch comes from many shards, not from the one that was read last"


def test_streaming_keeps_no_more_than_the_pool_in_memory(tmp_path: Path) -> None:
    project = make_project(tmp_path, clips_per_group=200, size=64)
    batches = batches_of(project, 0.0, pool_bytes=1e6)
    tracemalloc.start()
    try:
        for _ in batches.drawn(0):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    one_read = PIECE * 64 * 64
    allowed = 1e6 + 4 * one_read  # the pool, what comes from the file, what is handed on, batches
    assert peak < allowed < batches.images.windows.n_bytes / 2


def test_images_go_to_the_network_as_bytes(project: Path) -> None:
    batches = batches_of(project, 1.0)
    images, labels, weights = next(batches.epoch(0))
    assert images.dtype == np.uint8
    assert labels.dtype == weights.dtype == np.float32
    assert (images[..., 0] == next(batches.drawn(0))[0]).all()


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
