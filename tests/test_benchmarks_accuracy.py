"""The accuracy benchmark's table, from the contestants' answers."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy, accuracy_contestants
from benchmarks.accuracy_contestants import MelLda, Network
from benchmarks.accuracy_corpora import Clips, joined
from stages.learning.runtime import keras
from stages.pipeline.params import load_params

ROWS = {"demo20": 20, "pico5": 5, accuracy.PANELS[0]: 3, accuracy.PANELS[1]: 3}


def answered(share: float, *, also: str = "") -> dict[str, object]:
    right = {name: [1] * round(40 * share) + [0] * (40 - round(40 * share)) for name in ROWS}
    right |= {f"synthetic:{name}": right[name] for name in accuracy.PANELS}
    groups = {name: [f"g{number % 4}" for number in range(40)] for name in ROWS}
    return {
        "right": right, "groups": groups, "n_languages": ROWS, "train_clips_per_language": 7, "epochs": 2,
        "commit": "abc", "machine": "a machine",
    }  # fmt: skip


def test_the_table_has_what_the_issue_of_it_asks_for() -> None:
    table = accuracy.table({"ours": answered(0.9), "mel_lda": answered(0.5)})
    for name, languages in ROWS.items():
        row = table[name]
        assert row["accuracy"] == 0.9
        assert row["low"] <= 0.9 <= row["high"]
        assert row["chance"] == pytest.approx(1 / languages, abs=1e-4)
        assert (row["n_clips"], row["n_groups"]) == (40, 4)
        assert (row["mel_lda"], row["cnn5"], row["whisper_base"]) == (0.5, None, None)
    assert table["commit"] == "abc"


def test_a_contestant_that_was_trained_on_other_clips_is_said_to_be(tmp_path: Path) -> None:
    earlier = answered(0.4) | {"train_clips_per_language": 3}
    table = accuracy.table({"ours": answered(0.9), "mel_lda": answered(0.5), "cnn5": earlier})
    assert table["trained_on_other_clips_per_language"] == {"cnn5": 3}
    assert "trained_on_other_clips_per_language" not in accuracy.table({"ours": answered(0.9), "cnn5": answered(0.5)})
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(table))
    benchmark_table = runpy.run_path(str(accuracy.ROOT / "docs/fill_results.py"))["benchmark_table"]
    assert "<sub>7 training clips a language, 2 epochs; `cnn5`: 3 clips a language</sub>" in benchmark_table(path)


def test_numbers_of_who_was_not_run_again_stay_where_the_test_is_the_same(tmp_path: Path) -> None:
    before = accuracy.table({"ours": answered(0.9) | {"commit": "first"}, "whisper_base": answered(0.8)})
    before["pico5"]["n_clips"] = 41
    table = accuracy.table({"ours": answered(0.7), "cnn5": answered(0.5)}, before)
    assert (table["demo20"]["whisper_base"], table["pico5"]["whisper_base"]) == (0.8, None)
    assert table["of_earlier_commits"] == {"whisper_base": "first"}
    (tmp_path / "benchmark.json").write_text(json.dumps(table))
    benchmark_table = runpy.run_path(str(accuracy.ROOT / "docs/fill_results.py"))["benchmark_table"]
    assert "; Whisper base: as measured at first</sub>" in benchmark_table(tmp_path / "benchmark.json")
    later = accuracy.table({"ours": answered(0.7) | {"commit": "third"}}, table)
    assert later["of_earlier_commits"] == {"whisper_base": "first", "cnn5": "abc"}
    everyone = {"ours": answered(0.7), "cnn5": answered(0.5), "whisper_base": answered(1)}
    assert "of_earlier_commits" not in accuracy.table(everyone, table)


def test_a_closed_set_is_the_tests_languages_only() -> None:
    text = np.array(["es", "fr"])
    clips = Clips(np.zeros((2, 4, 4), np.uint8), np.arange(2), np.zeros((2, 4), np.uint8), *[text] * 5)
    probabilities = np.array([[0.8, 0.15, 0.05], [0.9, 0.04, 0.06]])
    assert accuracy.answers(probabilities, ["de", "es", "fr"], clips).tolist() == ["es", "fr"]


@pytest.fixture
def own_number_format() -> Iterator[None]:
    """A training sets Keras's for the process, bfloat16 where the hardware gains by it."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def plainly_different() -> Clips:
    """Forty clips of one or two windows."""
    rng = np.random.default_rng(0)
    language = np.array(["a", "b"])[np.arange(40) % 2]
    clip = np.repeat(np.arange(40), 1 + np.arange(40) % 3 // 2)
    images = rng.integers(1, 60, (len(clip), 32, 32)).astype(np.uint8)
    images[language[clip] == "b", :8] += 90
    said = np.where(language[clip, None] == "b", 3, 255) * np.ones((1, 32), int)
    text = np.array([""] * 40)
    return Clips(images, clip, said.astype(np.uint8), language, text, text, text, text)


def test_clips_keep_their_windows() -> None:
    clips = plainly_different()
    both = joined(clips, clips.of(clips.language == "b"))
    assert len(both.language) == 60
    assert both.language[both.clip].tolist() == [
        *clips.language[clips.clip],
        *["b"] * (clips.language[clips.clip] == "b").sum(),
    ]
    assert (np.diff(both.clip) >= 0).all()
    assert len(np.unique(both.clip)) == 60
    some = both.of(np.arange(60) >= 40)
    assert np.array_equal(some.images, clips.images[clips.language[clips.clip] == "b"])
    assert np.array_equal(some.clip, clips.of(clips.language == "b").clip)


def test_lda_tells_a_plain_difference() -> None:
    clips = plainly_different()
    model = MelLda()
    model.fit(clips, clips)
    assert (accuracy.answers(model.scores(clips), model.languages, clips) == clips.language).all()


@pytest.mark.parametrize("architecture", ["phonetic", "bands"])
@pytest.mark.usefixtures("own_number_format")
def test_training_goes_on_from_the_weights_that_it_had(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy_contestants, "CHECKPOINTS", tmp_path)
    clips = plainly_different()
    recipe = {
        "architecture": architecture, "epochs": 1, "batch_size": 8, "augment": None,
        "again": {"epochs": 1, "learning_rate": 1e-9},
    }  # fmt: skip
    model = Network("ours", recipe, load_params(accuracy.ROOT / "params.yaml"))
    model.fit(clips, clips)
    first = model.trained.get_layer("logits").get_weights()[0]
    other = copy(model)
    other.fit(clips, clips.of(np.zeros(40, bool)))
    np.testing.assert_allclose(other.trained.get_layer("logits").get_weights()[0], first, atol=1e-6)
    assert other.trained is not model.trained
    assert len(list(tmp_path.glob("ours-*.npz"))) == 2, "a killed training would go on from here"
    again = Network("ours", recipe, model.params)
    again.fit(clips, clips)  # finds itself finished
    np.testing.assert_array_equal(again.trained.get_layer("logits").get_weights()[0], first)
    assert model.scores(clips).shape == (40, 2)


@pytest.mark.usefixtures("own_number_format")
def test_training_goes_on_once_for_each_seed_and_the_weights_are_averaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy_contestants, "CHECKPOINTS", tmp_path)
    clips = plainly_different()
    recipe = {"architecture": "bands", "epochs": 1, "batch_size": 8, "augment": None, "again": {}}
    model = Network("ours", recipe, load_params(accuracy.ROOT / "params.yaml"))
    model.fit(clips, clips)
    found = {}
    for seeds in ((1,), (2,), (1, 2)):
        other = copy(model)
        other.recipe = recipe | {"again": {"learning_rate": 1e-2, "seeds": seeds}}
        other.fit(clips, clips)
        found[seeds] = other.trained.get_layer("logits").get_weights()[0]
    assert np.abs(found[1,] - found[2,]).max() > 1e-3
    np.testing.assert_allclose(found[1, 2], (found[1,] + found[2,]) / 2, atol=1e-6)
