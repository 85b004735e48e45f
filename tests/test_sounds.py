"""What is said when: from the dataset's table to the columns of images, and to a network that learns to hear it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.learning.layers import SoundLoss
from stages.learning.network import build_network
from stages.learning.runtime import keras
from stages.learning.sounds import MOST_WEIGHT, SOUNDS, UNKNOWN, sound_number, window_sounds
from stages.pipeline.errors import StorageError
from stages.pipeline.manifest_table import Row, clip_id
from stages.pipeline.sounds_table import Said, copy_sounds, read_sounds

DATA = Path(__file__).resolve().parents[1] / "data"


def row(path: str, split: str = "train") -> Row:
    return Row(clip_id(path), path, "es", "anna", split, "", "0")


def number(sound: str) -> int:
    return SOUNDS.index(sound)


@pytest.mark.parametrize(
    ("ipa", "sound"),
    [
        ("", ""), ("ˈa", "a"), ("ˌuː", "u"), ("ɪ", "i"), ("aɪ", "a"), ("ˈɔ̃", "ɔ̃"), ("œ̃", "ø̃"), ("ɐ̃ʊ", "ɐ̃"), ("ç", "ç"),
        ("tʲ", "tʲ"), ("ʲ", "j"), ("tʃʲ", "tɕ"), ("ts", "ts"), ("tʃ", "tʃ"), ("ʔe", "e"), ("ʔ", "ʔ"), ("ɡ", "g"),
        ("ɫ", "l"), ("ʃʲ", "ʃ"), ("ə-", "ə"), ("t̪", "t"),
    ],
)  # fmt: skip
def test_a_sound_has_its_class(ipa: str, sound: str) -> None:
    assert sound_number(ipa) == number(sound)


def test_what_is_no_sound_is_unknown_and_no_class_stands_twice() -> None:
    assert sound_number("\x07") == sound_number("(en)") == sound_number("7") == UNKNOWN
    assert len(set(SOUNDS)) == len(SOUNDS) < UNKNOWN
    assert [sound_number(sound) for sound in SOUNDS] == list(range(len(SOUNDS)))


def test_all_that_the_synthesisers_say_in_24_languages_has_a_class() -> None:
    sys.path[:0] = [str(DATA / "demo")]
    from demo_corpus import diphones, speech
    from demo_corpus.settings import load_params
    from demo_corpus.voices import draw_voice

    params = load_params(DATA / "demo/params.yaml")
    for path in sorted((DATA / "demo/demo_corpus/phrases").iterdir()):
        text = path.read_text(encoding="utf-8").replace("\n", ". ")
        said = speech.say(text, draw_voice(path.stem, "test", 0, params), 120.0, 1)
        classes = np.array([sound_number(sound) for _, sound in said.sounds])
        assert (classes == UNKNOWN).mean() < 0.005, path.stem
        assert (classes > 0).mean() > 0.7, path.stem
    assert all(sound_number(sound) != UNKNOWN for voice in diphones.VOICES for sound in voice.sounds)


def test_the_manifest_takes_over_what_is_said_in_training(tmp_path: Path) -> None:
    table = "path,seconds,sounds\nes/a.mp3,2.0,0.100 b|0.250 ˈa|0.500 \nes/b.mp3,1.5,0.000 o\nes/gone.mp3,1,0.1 a\n"
    (tmp_path / "sounds.csv").write_text(table, encoding="utf-8")
    rows = [row("es/a.mp3"), row("es/b.mp3", "test"), row("es/c.mp3")]
    assert copy_sounds(tmp_path, rows, tmp_path / "out.csv") == 1
    assert read_sounds(tmp_path / "out.csv") == {rows[0].id: Said(2.0, (0.1, 0.25, 0.5), ("b", "ˈa", ""))}
    assert copy_sounds(tmp_path / "nowhere", rows, tmp_path / "none.csv") == 0
    assert read_sounds(tmp_path / "none.csv") == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("path,words\na,b\n", "expected the columns path, seconds, sounds, received 'path,words'"),
        ("path,seconds,sounds\nes/a.mp3,2,0.5 a|0.1 b\n", "don't rise"),
        ("path,seconds,sounds\nes/a.mp3,2,hello\n", "received 'hello'"),
        ("path,seconds,sounds\nes/a.mp3,nan,0.5 a\n", "a recording of nan s"),
        ("path,seconds,sounds\nes/a.mp3,-1,0.5 a\n", "a recording of -1 s"),
        ("path,seconds,sounds\nes/a.mp3,2\n", "line 2 lacks a cell"),
    ],
)
def test_a_damaged_table_is_a_sentence(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "sounds.csv").write_text(text, encoding="utf-8")
    with pytest.raises(StorageError, match=fault):
        copy_sounds(tmp_path, [row("es/a.mp3")], tmp_path / "out.csv")


def test_a_missing_table_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="dvc repro manifest"):
        read_sounds(tmp_path / "sounds.csv")


def test_the_columns_of_each_window_say_what_is_said_then() -> None:
    """A clip of 8 s is three windows of 4 s at 0, 2 and 4 s; another has one; of a third nobody knows."""
    clips = [row("a"), row("b"), row("c")]
    said = {
        clips[0].id: Said(8.0, (0.5, 3.0, 6.0), ("a", "ˈo", "")),
        clips[1].id: Said(3.0, (0.0,), ("tʃ",)),
    }
    sounds = window_sounds(clips, np.array([0, 0, 0, 1, 2]), said, window_seconds=4.0, width=8)
    assert sounds is not None
    a, o, pause = number("a"), number("o"), 0
    assert sounds.columns(np.arange(5), 8).tolist() == [
        [pause, a, a, a, a, a, o, o],
        [a, a, o, o, o, o, o, o],
        [o, o, o, o, pause, pause, pause, pause],
        [number("tʃ")] * 8,
        [UNKNOWN] * 8,
    ]
    assert sounds.columns(np.array([3]), 8).tolist() == [[number("tʃ")] * 8]
    assert window_sounds(clips, np.array([0, 1, 2]), {}, 4.0, 8) is None


def test_rare_sounds_count_for_more() -> None:
    clips = [row("a")]
    said = {clips[0].id: Said(100.0, (0.0, 90.0, 99.0, 100.0), ("a", "o", "u", ""))}
    sounds = window_sounds(clips, np.array([0]), said, 4.0, 8)
    assert sounds is not None
    weights = sounds.weights()
    assert weights[number("a")] < weights[number("o")] < weights[number("u")] <= MOST_WEIGHT
    assert weights[number("o")] / weights[number("a")] == pytest.approx(np.sqrt(10), rel=0.01)


def test_the_loss_is_the_cross_entropy_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, len(SOUNDS))).astype(np.float32)
    classes = np.full((2, 6), UNKNOWN, np.uint8)
    classes[0] = [9, 1, 9, 2, 9, UNKNOWN]  # the later column of each pair counts
    weights = np.ones(len(SOUNDS), np.float32)
    weights[2] = 3.0
    layer = SoundLoss(weights, strength=2.0)
    layer([logits, classes])
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -2.0 * (np.log(probabilities[0, 0, 1]) + 3.0 * np.log(probabilities[0, 1, 2])) / 4.0
    assert float(layer.losses[0]) == pytest.approx(expected, rel=1e-5)


def test_the_network_knows_sounds_and_takes_any_width() -> None:
    network = build_network("phonetic", 192, None, 5, dropout=0.3)
    assert network.output_shape == (None, 5)
    assert network.get_layer("sounds").output.shape[-1] == len(SOUNDS)
    fixed = build_network("phonetic", 192, 192, 5, dropout=0.3)
    assert [w.shape for w in network.weights] == [w.shape for w in fixed.weights]
    images = np.random.default_rng(1).integers(0, 256, (2, 192, 61, 1), dtype=np.uint8)
    out = keras.ops.convert_to_numpy(network(images))
    assert np.allclose(out.sum(axis=1), 1, atol=1e-5)


def test_the_demo_corpus_tells_it(tmp_path: Path) -> None:
    sys.path[:0] = [str(DATA / "demo")]
    from demo_corpus.build import build
    from demo_corpus.settings import load_params

    params = load_params(DATA / "demo/params.yaml")
    tiny = params.model_copy(
        update={
            "languages": ("es",),
            "clips": params.clips.model_copy(update={"train": 2, "validation": 0, "test": 1}),
            "clip_seconds": 2.0,
        }
    )
    clips = build(tmp_path / "clips", tiny, workers=1)
    rows = [row(clip.path, clip.split) for clip in clips]
    assert copy_sounds(tmp_path / "clips", rows, tmp_path / "out.csv") == 2
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert {line["seconds"] for line in csv.DictReader(file)} == {"2.0"}
    assert all(len(said.sounds) > 5 for said in read_sounds(tmp_path / "out.csv").values())
