"""One changed clip costs one clip: what is taken over from earlier shards, and that no byte tells it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Project, speech_like, write_corpus
from test_runner import DATA_STAGES, OUTS, finished

from stages.pipeline.donors import ClipWriter, find_places
from stages.pipeline.errors import RejectedClip
from stages.pipeline.shard_writer import ShardWriter
from stages.pipeline.shards import Item, Shard, Signal

MakeProject = Callable[..., Project]


def counts(output: str) -> list[tuple[int, int]]:
    """(made, taken over) of each stage that had a shard to do."""
    return [(int(a), int(b)) for a, b in re.findall(r"(\d+) clips made, (\d+) taken over", output)]


def cold(project: Project, tmp_path: Path) -> dict[str, str]:
    """What the same project makes where nothing was made before."""
    fresh = Project(tmp_path / "cold", Path(project.values["dataset"]))
    fresh.values = project.values
    fresh.set()
    fresh.stage("manifest", *DATA_STAGES)
    return fresh.bytes_of(*OUTS)


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    project = make_project(groups=8, clips=4)
    project.set(manifest={"clips_per_shard": 8})
    project.stage("manifest", *DATA_STAGES)
    return project


def test_added_clip_makes_one(project: Project, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "corpus/l0/speaker0/new.wav", speech_like(99), 16000)
    output = project.stage("manifest", *DATA_STAGES)
    assert [made for made, _ in counts(output)] == [1] * 4
    assert all(taken > 0 for _, taken in counts(output))
    assert project.bytes_of(*OUTS) == cold(project, tmp_path)


def test_removed_clip_makes_none(project: Project, tmp_path: Path) -> None:
    (tmp_path / "corpus/l0/speaker0/0.wav").unlink()
    assert [made for made, _ in counts(project.stage("manifest", *DATA_STAGES))] == [0] * 4
    assert project.bytes_of(*OUTS) == cold(project, tmp_path)


def test_relabelled_by_moving_makes_none(project: Project, tmp_path: Path) -> None:
    """The path, the id and the shard change with the label."""
    (tmp_path / "corpus/l1/speaker0/moved").mkdir()
    (tmp_path / "corpus/l0/speaker0/0.wav").rename(tmp_path / "corpus/l1/speaker0/moved/other name.wav")
    output = project.stage("manifest", *DATA_STAGES)
    assert [made for made, _ in counts(output)] == [0] * 4
    assert project.bytes_of(*OUTS) == cold(project, tmp_path)


def test_another_size_of_shard_makes_none(project: Project, tmp_path: Path) -> None:
    project.set(manifest={"clips_per_shard": 20})
    assert [made for made, _ in counts(project.stage("manifest", *DATA_STAGES))] == [0] * 4
    assert project.bytes_of(*OUTS) == cold(project, tmp_path)


def test_other_params_take_nothing_over(project: Project, tmp_path: Path) -> None:
    project.set(resample={"quality": "MQ"})
    output = project.stage("decode", "resample")
    assert counts(output) == [(64, 0)]


def test_rejected_clips_are_not_decoded_again(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=8)
    soundfile.write(corpus / "l0/speaker0/silent.wav", np.zeros(16000 * 90, np.int16), 16000)
    (corpus / "l0/speaker0/text.mp3").write_text("no sound")
    sound, rate = soundfile.read(corpus / "l0/speaker0/0.wav", dtype="int16")
    soundfile.write(corpus / "l1/speaker3/liar.flac", sound, rate)  # the same sound under two languages
    project = make_project(corpus)
    project.set(decode={"max_reject_fraction": 0.5}, manifest={"clips_per_shard": 64})
    first = counts(project.stage("manifest", *DATA_STAGES))
    assert first[0] == (35, 0)
    made, taken = first[1]  # decode's second pass, without the two that contradict each other
    assert (made, taken) == (2, 33)
    quarantine = project.bytes_of("metrics/decode")
    (corpus / "l0/speaker1/0.wav").rename(corpus / "l0/speaker1/z.wav")
    output = project.stage("manifest", *DATA_STAGES)
    assert counts(output)[0] == (0, 35)
    assert project.bytes_of("metrics/decode").keys() == quarantine.keys()
    assert b"conflicting_labels" in (project.folder / "metrics/decode/quarantine.csv").read_bytes()
    assert project.bytes_of(*OUTS) == cold(project, tmp_path)


def test_damaged_donor_counts_as_none(project: Project, tmp_path: Path) -> None:
    for path in finished(project):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)
    soundfile.write(tmp_path / "corpus/l0/speaker0/new.wav", speech_like(99), 16000)
    output = project.stage("manifest", "decode")
    ((made, taken),) = counts(output)
    assert made > 1
    assert taken >= 1
    changed = re.findall(r"(\d+) to do", output)
    assert changed in (["1"], ["2"])


def test_killed_donors_and_torn_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "torn.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "empty.h5").touch()
    assert find_places([tmp_path / "torn.h5", tmp_path / "empty.h5", tmp_path / "gone.h5"], {"a"}) == {}


def test_clip_writer_takes_clips_and_rejections(tmp_path: Path) -> None:
    """Long clips, several blocks each; a rejection that comes after megabytes were written."""
    item = Item(shape=(), dtype="int16")
    rng = np.random.default_rng(0)
    blocks = [rng.integers(-9999, 9999, 700_000).astype(np.int16) for _ in range(4)]

    def late() -> Signal:
        def parts() -> Iterator[np.ndarray]:
            yield from blocks
            raise RejectedClip("silent", "too late")

        return Signal(16000, parts())

    def make(path: Path, places: dict, order: str) -> tuple[int, int]:  # type: ignore[type-arg]
        with ShardWriter(path, item) as writer, ClipWriter(writer, places) as clips:
            for name in order:
                made = late if name == "r" else lambda name=name: Signal(16000, iter(blocks[: "abcd".index(name) + 1]))  # type: ignore[misc]
                clips.add(name * 16, f"{name}.wav", made, source=f"source of {name}")
            writer.finish()
            return clips.made, clips.taken

    assert make(tmp_path / "old.h5", {}, "abrc") == (4, 0)
    places = find_places([tmp_path / "old.h5"], {"source of a", "source of r", "source of c", "source of d"})
    assert set(places) == {"source of a", "source of r", "source of c"}
    assert make(tmp_path / "warm.h5", places, "arcd") == (1, 3)
    assert make(tmp_path / "cold.h5", {}, "arcd") == (4, 0)
    assert (tmp_path / "warm.h5").read_bytes() == (tmp_path / "cold.h5").read_bytes()
    with Shard(tmp_path / "warm.h5") as shard:
        assert [entry.id for entry in shard.summary().rejected] == ["r" * 16]
        assert np.array_equal(shard.clip(1), np.concatenate(blocks[:3]))


def test_store_is_forgotten(project: Project) -> None:
    shutil.rmtree(project.folder / "data/.reuse")
    assert counts(project.stage("decode")) == [(64, 0)]
