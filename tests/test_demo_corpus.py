"""The demo corpus: same bytes however it is built, balanced, and nothing of the test ever heard in training."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
sys.path.insert(0, str(DEMO))

from demo_corpus import running, speech, texts, voices, words  # noqa: E402
from demo_corpus.build import Clip, build, plan  # noqa: E402
from demo_corpus.effects import OUT_RATE_HZ, draw_channel, mu_law  # noqa: E402
from demo_corpus.encode import encode, ffmpeg  # noqa: E402
from demo_corpus.errors import DemoError, DemoLockedError, DemoParamsError  # noqa: E402
from demo_corpus.render import sound  # noqa: E402
from demo_corpus.settings import SPLITS, DemoParams, load_params  # noqa: E402
from demo_corpus.timbre import Timbre, with_timbre  # noqa: E402

PARAMS = load_params(DEMO / "params.yaml")
TINY = PARAMS.model_copy(
    update={
        "languages": ("cs", "es", "pt"),
        "clips": PARAMS.clips.model_copy(update={"train": 2, "validation": 1, "test": 1}),
        "clip_seconds": 2.0,
    }
)


def hashes(folder: Path) -> dict[str, str]:
    """Path -> sha256 of every file of a corpus."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    out = tmp_path_factory.mktemp("demo") / "clips"
    return out, build(out, TINY, workers=1)


def test_two_workers_make_the_same_bytes_as_one(tiny: tuple[Path, list[Clip]], tmp_path: Path) -> None:
    build(tmp_path / "clips", TINY, workers=2)
    assert hashes(tmp_path / "clips") == hashes(tiny[0])


def test_another_process_with_another_hash_seed_makes_the_same_bytes(
    tiny: tuple[Path, list[Clip]], tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY.model_dump(mode="json")), encoding="utf-8")
    command = [sys.executable, "-m", "demo_corpus", "--out", str(tmp_path / "clips"), "--workers", "1"]
    environment = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": str(DEMO)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "12 clips in 3 languages: train 6 clips" in result.stderr
    assert hashes(tmp_path / "clips") == hashes(tiny[0])


def test_a_clip_does_not_depend_on_what_was_spoken_before() -> None:
    """eSpeak keeps state between utterances: said in one process, these same requests gave other samples by order."""
    wanted = [(language, "train", index) for language in ("es", "cs", "da", "fr", "tr") for index in (0, 3, 11)]
    first = {key: sound(*key, TINY).tobytes() for key in wanted}
    random.Random(3).shuffle(wanted)
    assert {key: sound(*key, TINY).tobytes() for key in wanted} == first


def test_a_clip_does_not_depend_on_its_neighbours_in_ffmpeg(tmp_path: Path) -> None:
    sounds = [sound("es", "train", index, TINY) for index in range(3)]
    encode(sounds, [tmp_path / f"{index}.mp3" for index in range(3)], 64)
    encode(sounds[1:2], [tmp_path / "alone.mp3"], 64)
    assert (tmp_path / "alone.mp3").read_bytes() == (tmp_path / "1.mp3").read_bytes()


def test_a_clip_does_not_depend_on_the_other_languages_or_on_the_number_of_clips(tiny: tuple[Path, list[Clip]]) -> None:
    more = TINY.model_copy(update={"languages": ("fi", "es"), "clips": PARAMS.clips})
    assert np.array_equal(sound("es", "test", 0, more), sound("es", "test", 0, TINY))


def test_format(tiny: tuple[Path, list[Clip]]) -> None:
    import soundfile

    for clip in tiny[1]:
        info = soundfile.info(tiny[0] / clip.path)
        assert (info.samplerate, info.channels, info.format) == (44100, 2, "MP3")
        assert info.duration == pytest.approx(TINY.clip_seconds, abs=0.001)
        samples, _ = soundfile.read(tiny[0] / clip.path)
        assert np.sqrt(np.mean(samples**2)) > 0.003, f"{clip.path} is silent"


def test_the_table_names_every_file_and_no_other(tiny: tuple[Path, list[Clip]]) -> None:
    out, clips = tiny
    with (out / "corpus.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "language", "group", "split"]
    assert sorted(row["path"] for row in rows) == sorted(set(hashes(out)) - {"corpus.csv", "sounds.csv"})
    assert [row["path"] for row in rows] == sorted(clip.path for clip in clips)


def test_balance_and_the_same_voices_in_every_language() -> None:
    clips = plan(PARAMS)
    for split in SPLITS:
        per_language = {
            language: Counter(clip.group for clip in clips if clip.language == language and clip.split == split)
            for language in PARAMS.languages
        }
        reference = per_language[PARAMS.languages[0]]
        assert sum(reference.values()) == PARAMS.clips.of(split)
        assert all(counts == reference for counts in per_language.values())
        assert max(reference.values()) - min(reference.values()) <= 1, "each voice speaks equally often"


def test_everything_drawn_but_the_words_is_the_same_in_every_language() -> None:
    for split in SPLITS:
        for index in (0, 5, 9):
            draws = {language: voices.draw_voice(language, split, index, PARAMS) for language in PARAMS.languages}
            assert {voice.name for voice in draws.values()} == {f"{k}+{v.variant}" for k, v in draws.items()}
            assert len({dataclasses.replace(voice, language="") for voice in draws.values()}) == 1
    assert draw_channel("train", 0, PARAMS) != draw_channel("train", 1, PARAMS)


def test_no_voice_and_no_family_of_voices_stands_in_two_splits() -> None:
    by_split = {split: set(voices.variants_of(split, PARAMS)) for split in SPLITS}
    assert sum(map(len, by_split.values())) == len(set().union(*by_split.values()))
    assert len(by_split["test"]) >= 15
    assert len(by_split["validation"]) >= 8
    assert len(by_split["train"]) >= 50
    for family in voices.FAMILIES:
        assert len({split for split in SPLITS if by_split[split] & set(family)}) == 1, family


def test_the_groups_of_a_large_plan_are_split_disjoint() -> None:
    groups = {split: {clip.group for clip in plan(PARAMS) if clip.split == split} for split in SPLITS}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]


@pytest.mark.parametrize("language", PARAMS.languages)
def test_no_held_out_item_is_said_in_training(language: str) -> None:
    said: dict[str, set[str]] = {}
    for split in SPLITS:
        pools = words.pools(language, split, PARAMS).values()
        said[split] = {item.text.casefold() for pool in pools for item in pool}
    assert all(len(said[split]) > 50 for split in SPLITS)
    assert not said["train"] & said["test"]
    assert not said["train"] & said["validation"]
    assert not said["validation"] & said["test"]
    held_out = [item.text for item in words.pool_of(language, "phrases", "test", PARAMS)]
    spoken = " ".join(texts.compose(language, "train", f"{language}/train/{index}", 60, PARAMS) for index in range(60))
    assert not [text for text in held_out if text in spoken]


def test_an_item_is_in_the_same_split_in_every_language() -> None:
    splits: dict[str, set[str]] = {}
    for language in PARAMS.languages:
        for split in SPLITS:
            for pool in words.pools(language, split, PARAMS).values():
                for item in pool:
                    splits.setdefault(item.key, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_numbers_and_days_of_the_test_are_not_said_in_training() -> None:
    random_numbers = np.random.default_rng(5)
    for draw in (texts.draw_number, texts.draw_day):
        drawn = {split: {draw(split, random_numbers, PARAMS) for _ in range(300)} for split in SPLITS}
        assert not drawn["train"] & drawn["test"]
        assert not drawn["train"] & drawn["validation"]
        assert not drawn["validation"] & drawn["test"]


def test_phrases_are_as_many_in_every_language_and_differ() -> None:
    files = {
        path.stem: path.read_text(encoding="utf-8").splitlines() for path in (DEMO / "demo_corpus/phrases").iterdir()
    }
    assert set(PARAMS.languages) <= set(files)
    assert len(files) >= 24
    assert len({len(lines) for lines in files.values()}) == 1
    for lines in zip(*files.values(), strict=True):
        assert len(set(lines)) == len(lines)


RUNNING = PARAMS.model_copy(update={"running_words_share": 0.5})


def test_running_words_without_their_package_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    for cached in (running.running_words, running._own_words):
        cached.cache_clear()  # of tests before this one
    with pytest.raises(DemoError, match="pip install wordfreq"):
        texts.compose("de", "train", "de/train/0", 200, RUNNING.model_copy(update={"running_words_share": 1.0}))


@pytest.mark.parametrize("language", ["de", "el", "fr", "ru"])
def test_running_words_are_of_one_split_but_for_the_commonest(language: str) -> None:
    pytest.importorskip("wordfreq")
    said = {split: running.running_words(language, split, RUNNING) for split in SPLITS}
    common = set(said["train"].texts[: running.COMMON])
    assert common == set(said["test"].texts[: running.COMMON])
    rare = {split: set(words.texts) - common for split, words in said.items()}
    assert not rare["train"] & rare["test"]
    assert not rare["train"] & rare["validation"]
    assert all(len(found) > 1500 for found in rare.values())
    # as often a common word in every split, and only words of the language's own script
    assert len({round(float(found.cumulative[running.COMMON - 1]), 9) for found in said.values()}) == 1
    assert all(found.cumulative[-1] == pytest.approx(1) for found in said.values())
    assert len({running._script(letter) for found in said.values() for text in found.texts for letter in text}) == 1


def test_running_words_are_as_frequent_as_asked_and_spoken() -> None:
    pytest.importorskip("wordfreq")
    said = texts.compose("el", "train", "el/train/1", 3000, RUNNING)
    listed = {word.casefold() for word in running.running_words("el", "train", RUNNING).texts}
    sentences = [sentence.casefold().split() for sentence in said[:-1].split(". ")]
    of_listed = np.mean([len(sentence) >= 4 and set(sentence) <= listed for sentence in sentences])
    assert 0.4 < of_listed < 0.6
    assert not re.search(r"σ\b", said)
    assert len(sound("el", "test", 0, RUNNING.model_copy(update={"clip_seconds": 1.0}))) == OUT_RATE_HZ


def test_a_language_without_a_word_list_is_a_clear_error() -> None:
    pytest.importorskip("wordfreq")
    with pytest.raises(DemoError, match="received 'et' in `languages`"):
        running.running_words("et", "train", RUNNING)


ALL_LANGUAGES = tuple(sorted(path.stem for path in (DEMO / "demo_corpus/phrases").iterdir()))
MANY = PARAMS.model_copy(update={"languages": ALL_LANGUAGES, "clip_seconds": 1.0})


@pytest.mark.parametrize("language", ALL_LANGUAGES)
def test_every_language_that_has_sentences_is_spoken(language: str) -> None:
    assert {len(words.pool_of(language, "phrases", split, MANY)) for split in SPLITS} == {
        len(words.pool_of("cs", "phrases", split, MANY)) for split in SPLITS
    }
    spoken = sound(language, "test", 0, MANY)
    assert len(spoken) == OUT_RATE_HZ
    assert np.abs(spoken.astype(int)).max() > 1000


def test_professions_are_said_in_all_languages_or_in_none() -> None:
    assert "sv" not in words.FAKER_LOCALES
    assert all("jobs" in words.pools(language, "test", PARAMS) for language in PARAMS.languages)
    kinds = {language: set(words.pools(language, "test", MANY)) for language in ("cs", "en", "sv")}
    assert len(set(map(frozenset, kinds.values()))) == 1
    assert "jobs" not in kinds["cs"]
    jobs = {item.text for item in words.names("cs")["jobs"]}
    spoken = [texts.compose("cs", "train", f"cs/train/{index}", 60, MANY).split(", ") for index in range(60)]
    assert not jobs & {name for sentence in spoken for name in sentence}


def test_texts_are_long_enough_and_differ_between_clips() -> None:
    spoken = [texts.compose("pt", "train", f"pt/train/{index}", 40, PARAMS) for index in range(20)]
    assert len(set(spoken)) == 20
    assert min(map(len, spoken)) > 150


def test_an_unknown_voice_is_a_clear_error_and_the_speaker_goes_on() -> None:
    voice = voices.draw_voice("es", "train", 0, PARAMS)
    wrong = voices.VoiceDraw("xx-none", "f1", 150.0, 50, 50, 1.0)
    with pytest.raises(DemoError, match=r"to speak as 'xx-none.f1', received: no such voice"):
        speech.say("Hola", wrong, 1.0, 1)
    assert len(speech.say("Buenos días a todos", voice, 0.5, 1).samples) == int(0.5 * speech.RATE_HZ)


def test_a_language_that_aborts_the_engine_costs_one_utterance() -> None:
    """Known issue: Burmese overruns a buffer in eSpeak NG 1.52 and aborts the process."""
    voice = voices.VoiceDraw("my", "f1", 150.0, 50, 50, 1.0)
    with contextlib.suppress(DemoError):
        speech.say("မြန်မာနိုင်ငံ " * 40, voice, 5.0, 1)
    assert len(speech.say("Hola", voices.draw_voice("es", "train", 0, PARAMS), 0.1, 1).samples) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"languages": ["es", "es"]}, "named twice"),
        ({"languages": [False, "es"]}, "in quotes"),
        ({"clips": {"train": 1, "validation": 1}}, "clips.test"),
        ({"clip_seconds": 0}, "clip_seconds"),
        ({"voices": 3}, "voices"),
    ],
)
def test_wrong_params_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((DEMO / "params.yaml").read_text()), **change}))
    with pytest.raises(DemoParamsError, match=message) as caught:
        load_params(path)
    assert "params.yaml" in str(caught.value)


@pytest.mark.parametrize(("language", "message"), [("xq", "xq"), ("lv", "sentences in .*lv.txt")])
def test_a_language_without_texts_is_a_clear_error(tmp_path: Path, language: str, message: str) -> None:
    with pytest.raises(DemoError, match=message):
        build(tmp_path / "clips", TINY.model_copy(update={"languages": (language,)}), workers=1)
    assert not (tmp_path / "clips").exists()


def test_an_error_in_a_worker_comes_through(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"drop 'lv' from `languages`"):
        build(tmp_path / "clips", TINY.model_copy(update={"languages": ("es", "lv")}), workers=2)
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("espeakng_loader", lambda: speech._command(None)),
        ("imageio_ffmpeg", lambda: ffmpeg.__wrapped__()),
        ("babel", lambda: words.locale_of.__wrapped__("es")),
        ("faker.providers.job.es_ES", lambda: words._jobs("es")),
    ],
)
def test_a_missing_package_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, package: str, use: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DemoError, match="pip install"):
        use()


def test_a_missing_package_at_the_start_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "soxr.py").write_text("raise ModuleNotFoundError('gone', name='soxr')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{DEMO}"}
    command = [sys.executable, "-m", "demo_corpus"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "expected the package soxr, found none. Install what the pipeline needs: make setup.\n"


def test_a_second_build_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / ".clips.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DemoLockedError, match="only build"):
            build(tmp_path / "clips", TINY, workers=1)


def test_a_killed_build_leaves_no_folder_and_no_process(tmp_path: Path) -> None:
    more = TINY.model_copy(update={"clips": PARAMS.clips})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(more.model_dump(mode="json")), encoding="utf-8")
    command = [sys.executable, "-m", "demo_corpus", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(DEMO), "DEMO_CORPUS_TEST": str(tmp_path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / ".clips.partial").rglob("*.mp3")):
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert list((tmp_path / ".clips.partial").rglob("*.mp3"))
    assert not (tmp_path / "clips").exists()
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc to look for processes")
    while time.monotonic() < deadline and (left := _processes_with(f"DEMO_CORPUS_TEST={tmp_path}")):
        time.sleep(0.1)
    assert not left


def _processes_with(setting: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if setting.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def test_dvc_tracks_every_module_and_every_knob() -> None:
    stage = yaml.safe_load((DEMO / "dvc.yaml").read_text())["stages"]["demo_corpus"]
    modules = {f"demo_corpus/{path.name}" for path in (DEMO / "demo_corpus").glob("*.py")}
    lists = {f"demo_corpus/{engine}_packages.txt" for engine in ("festival", "mbrola")}
    assert set(stage["deps"]) == modules | lists | {"demo_corpus/phrases"}
    assert set(stage["params"]) == set(DemoParams.model_fields)
    assert stage["outs"] == ["clips"]


def test_a_timbre_moves_the_formants_and_leaves_the_rest() -> None:
    timbre = Timbre((1.1,) * 9, (0.5,) * 9, (2.0,) * 9, flutter=7, roughness=3)
    variant = (
        "language variant\nname x\nflutter 2\nformant 0 90 80 70\nformant 2 100 70 150 -200 // high\npitch 80 90\n"
    )
    lines = with_timbre(variant, timbre).splitlines()
    assert lines[:4] == ["language variant", "formant 0 90 40 140", "formant 2 110 35 300 -200", "pitch 80 90"]
    assert lines[4:-3] == [f"formant {number} 110 50 200" for number in (1, 3, 4, 5, 6, 7, 8)]
    assert lines[-3:] == ["name own", "flutter 7", "roughness 3"]


def test_training_voices_are_moved_and_held_out_ones_are_not() -> None:
    draws = {split: [voices.draw_voice("es", split, index, PARAMS) for index in range(20)] for split in SPLITS}
    assert len({voice.timbre for voice in draws["train"]}) == 20
    assert {voice.timbre for split in ("validation", "test") for voice in draws[split]} == {None}
    voice = draws["train"][0]
    plain = dataclasses.replace(voice, timbre=None)
    own = speech.say("Buenos días a todos", voice, 0.5, 1).samples
    assert not np.array_equal(own, speech.say("Buenos días a todos", plain, 0.5, 1).samples)
    assert np.array_equal(own, speech.say("Buenos días a todos", voice, 0.5, 1).samples), (
        "the variant is read anew each time"
    )


def test_mu_law_is_the_curve_of_g711() -> None:
    samples = np.linspace(-1, 1, 1001, dtype=np.float32)
    back = mu_law(samples)
    # the largest step of the curve is that at full scale: d/dy (256**y / 255) * (1 / 127) / 2
    assert np.abs(back - samples).max() <= np.log(256) * 256 / 255 / 127 / 2 + 1e-6
    assert OUT_RATE_HZ == 44100
