"""data/benchmark: its stages name what they are made of, its corpora hold out the same, and the commands work."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path[:0] = [str(DATA / "demo"), str(DATA / "human")]

from demo_corpus import pico, texts, words  # noqa: E402
from demo_corpus.errors import DemoError, DemoParamsError, EngineCrashError  # noqa: E402
from demo_corpus.render import sound  # noqa: E402
from demo_corpus.settings import generator  # noqa: E402
from demo_corpus.settings import load_params as load_demo_params  # noqa: E402
from demo_corpus.speech import RATE_HZ, say  # noqa: E402
from demo_corpus.voices import draw_voice  # noqa: E402
from human_corpus.__main__ import read_item  # noqa: E402
from human_corpus.errors import HumanParamsError  # noqa: E402
from human_corpus.settings import load_params as load_human_params  # noqa: E402
from human_corpus.sources import GROUPS, groups_of  # noqa: E402

PARAMS = DATA / "benchmark" / "params.yaml"
STAGES: dict[str, Any] = yaml.safe_load((DATA / "benchmark" / "dvc.yaml").read_text())["stages"]
RECORDED_PEOPLE = ("diphones20", "mbrola20")
SYNTHETIC = ("demo20", "pico5", *RECORDED_PEOPLE)
PANELS = ("panel_t_asterisk_to_tuxpaint", "panel_t_tuxpaint_to_asterisk")

needs_pico = pytest.mark.skipif(not importlib.util.find_spec("py_nanotts"), reason="needs the package py-nanotts")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_tracks_all_that_makes_its_corpus(name: str) -> None:
    stage = STAGES[name]
    folder, package = ("demo", "demo_corpus") if name in SYNTHETIC else ("human", "human_corpus")
    modules = {f"../{folder}/{package}/{path.name}" for path in (DATA / folder / package).glob("*.py")}
    if folder == "demo":
        modules |= {"../demo/demo_corpus/phrases"}
        modules |= {f"../demo/demo_corpus/{engine}_packages.txt" for engine in ("festival", "mbrola")}
    if name in RECORDED_PEOPLE:  # fetches Debian packages by data/human's code
        folder = "demo:../human"
        modules |= {
            f"../human/human_corpus/{module}.py" for module in ("__init__", "errors", "packages", "settings", "sources")
        }
    assert set(stage["deps"]) == modules
    assert stage["params"] == [name]
    assert stage["outs"] == [{name: {"cache": False}}]
    assert stage["cmd"] == f"PYTHONPATH=../{folder} python -m {package} --section {name} --out {name}"


def test_every_section_has_a_stage_and_is_valid() -> None:
    assert set(yaml.safe_load(PARAMS.read_text())) == set(STAGES) == {*SYNTHETIC, *PANELS}
    assert len(load_demo_params(PARAMS, "demo20").languages) >= 20
    assert load_human_params(PARAMS, PANELS[0]).test_source == "tuxpaint"
    assert load_human_params(PARAMS, PANELS[1]).test_source == "asterisk"
    with pytest.raises(DemoParamsError, match="a section 'demo21'"):
        load_demo_params(PARAMS, "demo21")
    with pytest.raises(HumanParamsError, match="a section 'panel'"):
        load_human_params(PARAMS, "panel")


def test_what_pico_says_was_held_out_of_demo20_too() -> None:
    demo, other = (load_demo_params(PARAMS, name) for name in SYNTHETIC[:2])
    assert set(other.languages) <= set(demo.languages)
    assert (demo.seed, demo.text_shares, demo.running_words_share) == (
        other.seed,
        other.text_shares,
        other.running_words_share,
    )
    assert words.pools("it", "test", demo) == words.pools("it", "test", other)
    assert not words.has_professions(demo)
    assert other.clips.train == other.clips.validation == 0


@pytest.mark.parametrize("name", RECORDED_PEOPLE)
def test_diphones_are_for_training_and_say_nothing_that_demo20_holds_out(name: str) -> None:
    demo, diphones = (load_demo_params(PARAMS, section) for section in ("demo20", name))
    assert diphones.clips.validation == diphones.clips.test == 0
    held_out = ("languages", "seed", "text_shares", "voice_shares", "running_words_share")
    assert all(getattr(demo, key) == getattr(diphones, key) for key in held_out)


def test_the_test_of_a_panel_has_its_three_languages_and_no_source_of_training() -> None:
    for name in PANELS:
        params = load_human_params(PARAMS, name)
        groups = groups_of(params)
        test = {group.name for group in groups if group.source == params.test_source}
        assert test == {f"{params.test_source}-{language}" for language in ("es", "fr", "ru")}
        trained = {group.name for group in groups if group.source != params.test_source}
        assert {"festvox-ru"} < trained
        assert len(trained) == 4 + len(params.train_only_languages)
        assert params.clip_seconds == 5
        assert params.rate_hz == 8000


def test_a_recording_is_resampled_where_it_is_asked_for(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    tones = 0.2 * np.sin(2 * np.pi * 1000 * time) + 0.2 * np.sin(2 * np.pi * 6000 * time)
    soundfile.write(tmp_path / "tones.wav", tones, 44100)
    item = read_item(GROUPS[0], tmp_path / "tones.wav", "tones", 8000)
    assert item is not None
    assert item.rate_hz == 8000
    assert len(item.samples) == 8000
    level = np.sqrt(np.mean((item.samples[400:-400] / 2**15) ** 2))
    assert level == pytest.approx(0.2 / np.sqrt(2), rel=0.01)  # the tone at 6 kHz is gone
    own = read_item(GROUPS[0], tmp_path / "tones.wav", "tones")
    assert own is not None
    assert own.rate_hz == 44100


def small_copy(folder: Path, name: str, **changes: object) -> subprocess.CompletedProcess[str]:
    """Runs a stage's command in a copy of data/, with a few settings changed."""
    for package in ("demo/demo_corpus", "human/human_corpus"):
        shutil.copytree(DATA / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    benchmark = folder / "benchmark"
    benchmark.mkdir()
    settings = yaml.safe_load(PARAMS.read_text())
    settings[name] |= changes
    (benchmark / "params.yaml").write_text(yaml.safe_dump(settings))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", STAGES[name]["cmd"]],
        cwd=benchmark,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_command_of_demo20_builds_it(tmp_path: Path) -> None:
    done = small_copy(
        tmp_path,
        "demo20",
        languages=["it", "sv"],
        clips={"train": 1, "validation": 1, "test": 1},
        clip_seconds=1,
        running_words_share=0,
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "benchmark/demo20/corpus.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 6
    assert all((tmp_path / "benchmark/demo20" / row["path"]).is_file() for row in rows)


@needs_pico
def test_the_command_of_pico5_builds_a_test_of_one_group_a_voice(tmp_path: Path) -> None:
    clips = {"train": 0, "validation": 0, "test": 2}
    done = small_copy(tmp_path, "pico5", languages=["en", "fr"], clips=clips, clip_seconds=1, running_words_share=0)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "benchmark/pico5/corpus.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["split"] for row in rows} == {"test"}
    assert {(row["language"], row["group"]) for row in rows} == {
        ("en", "pico-en-GB"),
        ("en", "pico-en-US"),
        ("fr", "pico-fr-FR"),
    }


@needs_pico
def test_pico_says_the_same_whatever_it_said_before() -> None:
    """Known issue: the engine's random numbers go on from one utterance to the next."""
    params = load_demo_params(PARAMS, "pico5").model_copy(update={"clip_seconds": 1.0, "running_words_share": 0.0})
    wanted = [(language, "test", index) for language in ("es", "de") for index in (0, 1)]
    first = {key: sound(*key, params).tobytes() for key in wanted}
    assert len(set(first.values())) == 4
    assert {key: sound(*key, params).tobytes() for key in reversed(wanted)} == first
    voice = pico.draw_pico_voice("de", "test", 0, params)
    said = pico.say(texts.compose("de", "test", "de/test/0", 20, params), voice, 1.0, 1)
    assert said.samples.dtype == np.int16
    assert len(said.samples) == RATE_HZ
    assert said.sounds == ()


def test_pico_without_its_package_or_with_another_language_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_demo_params(PARAMS, "pico5")
    with pytest.raises(DemoError, match="one of Pico's languages de, en, es, fr, it, received 'pt'"):
        pico.draw_pico_voice("pt", "test", 0, params)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DemoError, match="pip install py-nanotts"):
        pico.say("Hola", pico.draw_pico_voice("es", "test", 0, params), 1.0, 1)


def test_the_voices_of_a_clip_differ_by_language_only() -> None:
    params = load_demo_params(PARAMS, "pico5")
    drawn = [pico.draw_pico_voice(language, "test", 3, params) for language in params.languages]
    assert len({(voice.speed, voice.pitch) for voice in drawn}) == 1
    assert len({voice.variant for voice in drawn}) == 5


def test_a_text_that_the_engine_dies_on_is_replaced() -> None:
    params = load_demo_params(PARAMS, "demo20")
    place = ("de", "train", 1292)
    voice = draw_voice(*place, params)
    deadly = (
        "Schuhe nach und nach mir guck den. Ich freue mich auf die Ferien: Haussa. Ewigen ich bis mal mauer. "
        "Verschicken oder wien ihrem frauen finden aus die pro. Und meier richtig erzeugnisse ich lieben zweites als. "
        "Donnerstag, 10. Februar 2095. Bild und tage du als die. Wurde ein circa köpfen die es der ist. "
        "5116 Peruanische Inti. Am ich die der."
    )
    with pytest.raises(EngineCrashError, match="signal 11"):
        say(deadly, voice, 10 * voice.size + 0.1, int(generator(params.seed, "sound", "de/train/1292").integers(2**31)))
    pytest.importorskip("wordfreq")
    assert sound(*place, params).shape == (441000,)
