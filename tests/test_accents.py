"""data/demo: what is said when, a language with another's sounds, and the diphone voices that say all languages."""

from __future__ import annotations

import csv
import itertools
import resource
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path[:0] = [str(DATA / "demo"), str(DATA / "human")]

from demo_corpus import accents, diphones, festival, mbrola, mbrola_voices, reading, speech  # noqa: E402
from demo_corpus.build import build  # noqa: E402
from demo_corpus.effects import OUT_RATE_HZ  # noqa: E402
from demo_corpus.errors import DemoError, DemoParamsError  # noqa: E402
from demo_corpus.render import rendered  # noqa: E402
from demo_corpus.settings import DemoParams, load_params  # noqa: E402
from demo_corpus.voices import draw_voice  # noqa: E402

PARAMS = load_params(DATA / "demo/params.yaml").model_copy(update={"clip_seconds": 3.0})
ACCENTED = PARAMS.model_copy(update={"accent_share": 0.5})
LANGUAGES = tuple(sorted(path.stem for path in (DATA / "demo/demo_corpus/phrases").iterdir()))
VOWELS = frozenset(accents.VOWELS)


def heard(sounds: tuple[tuple[float, str], ...]) -> list[str]:
    """The sounds without stress and length, pauses left out."""
    return [plain for _, sound in sounds if (plain := sound.translate(str.maketrans("", "", "ˈˌː")))]


def levels_db(samples: np.ndarray, sounds: tuple[tuple[float, str], ...], vowels: bool) -> np.ndarray:
    """Levels of the middles of all vowels, or of all pauses."""
    found = []
    for (begin, sound), (end, _) in itertools.pairwise(sounds):
        is_vowel = bool(VOWELS & set(sound))
        if end - begin > 0.08 and end < len(samples) / OUT_RATE_HZ and (is_vowel if vowels else not sound):
            part = samples[int((begin + 0.03) * OUT_RATE_HZ) : int((end - 0.02) * OUT_RATE_HZ)].astype(float)
            found.append(10 * np.log10(np.mean(part**2) + 1))
    return np.array(found)


@pytest.mark.parametrize("params", [PARAMS, ACCENTED], ids=["own sounds", "accents"])
def test_the_sounds_stand_where_the_clip_has_them(params: DemoParams) -> None:
    quiet = params.model_copy(update={"noise_share": 0.0, "clip_seconds": 8.0})
    vowels, pauses = [], []
    for index in range(6):
        samples, sounds = rendered("es", "train", index, quiet)
        assert list(sounds) == sorted(sounds, key=lambda entry: entry[0])
        assert 0 <= sounds[0][0] < 1
        vowels.append(levels_db(samples, sounds, vowels=True) - levels_db(samples, sounds, vowels=True).max())
        pauses.append(levels_db(samples, sounds, vowels=False) - levels_db(samples, sounds, vowels=True).max())
    # eSpeak pauses between clauses; a room may sound on
    assert np.median(np.concatenate(vowels)) > np.median(np.concatenate(pauses)) + 20


def test_the_table_of_sounds_names_the_training_clips(tmp_path: Path) -> None:
    tiny = ACCENTED.model_copy(
        update={
            "languages": ("cs", "es"),
            "clips": PARAMS.clips.model_copy(update={"train": 2, "validation": 1, "test": 1}),
        }
    )
    clips = build(tmp_path / "clips", tiny, workers=1)
    with (tmp_path / "clips/sounds.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row["sounds"] for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(clip.path for clip in clips if clip.split == "train")
    for clip in clips:
        if clip.split == "train":
            _, sounds = rendered(clip.language, "train", clip.index, tiny)
            assert rows[clip.path] == "|".join(f"{begin:.3f} {sound}" for begin, sound in sounds)


def test_an_accent_says_nothing_about_the_language_and_no_test_clip_has_one() -> None:
    drawn = {
        language: [draw_voice(language, "train", i, ACCENTED) for i in range(200)] for language in PARAMS.languages
    }
    for i in range(200):
        at_once = [drawn[language][i].accent for language in PARAMS.languages]
        assert at_once == [""] * 10 or sorted(at_once) == sorted(PARAMS.languages)
        assert all(accent != language for accent, language in zip(at_once, PARAMS.languages, strict=True))
    share = np.mean([bool(voice.accent) for voice in drawn["es"]])
    assert 0.35 < share < 0.65
    assert len({voice.accent for voice in drawn["es"]}) == 10  # all others, and none
    assert not any(draw_voice("es", split, i, ACCENTED).accent for split in ("validation", "test") for i in range(50))
    assert draw_voice("es", "train", 3, PARAMS).rhythm == ""


def test_an_accent_keeps_the_order_of_the_sounds_and_takes_the_voice_of_the_other() -> None:
    voice = draw_voice("fr", "train", 0, PARAMS)
    with_accent = [
        speech.say("Un bon vin blanc, monsieur.", voice.__class__(**{**vars(voice), "accent": accent}), 4.0, 1)
        for accent in ("", "es", "ru")
    ]
    french, spanish, russian = (heard(said.sounds) for said in with_accent)
    assert {"ɔ̃", "ɑ̃"} <= set(french)
    assert not any("\u0303" in sound for sound in spanish + russian)  # neither has nasal vowels: vowel and n
    # Russian has an l of its own
    consonants = [[sound for sound in said if sound[0] in "bvlms"] for said in (french, spanish, russian)]
    assert consonants[0] == consonants[1] == list("bvblms")
    assert consonants[2] == list("bvbms")
    assert not np.array_equal(with_accent[0].samples, with_accent[1].samples)


def test_every_language_can_be_said_with_the_sounds_of_every_other() -> None:
    for language in LANGUAGES:
        vowels = [name for name, phoneme in accents.phonemes_of(language).items() if phoneme.sound[:1] in VOWELS]
        assert len(vowels) >= 5, language
        for accent in LANGUAGES:
            has = set(accents.phonemes_of(accent))
            replaced = accents.replacements(language, accent)
            assert not set(replaced) & has
            assert all(part in has for name in replaced.values() for part in name.split("|") if part), (
                language,
                accent,
            )
            assert all(replaced.get(name, name) for name in vowels), (language, accent)


def test_a_wrong_accent_share_or_language_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (DATA / "demo/params.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("accent_share: 0 ", "accent_share: 2 "), encoding="utf-8")
    with pytest.raises(DemoParamsError, match="accent_share"):
        load_params(path)
    one = text.replace("accent_share: 0 ", "accent_share: 0.5 ").replace("cs, da, de, es, fi, fr, hu, pt, sk, tr", "cs")
    path.write_text(one, encoding="utf-8")
    with pytest.raises(DemoParamsError, match="needs two languages"):
        load_params(path)
    with pytest.raises(DemoError, match="a language of eSpeak NG, received 'xx'"):
        accents.phonemes_of("xx")


def test_a_diphone_voice_has_something_for_every_sound_of_every_language() -> None:
    """All that eSpeak says in the languages' own sentences: no voice may leave out one in fifty."""
    for language in LANGUAGES:
        phrases = (DATA / f"demo/demo_corpus/phrases/{language}.txt").read_text(encoding="utf-8")
        voice = draw_voice(language, "test", 0, PARAMS)
        said = speech.say(phrases.replace("\n", ". "), voice, 60.0, 1)
        counts = Counter(heard(said.sounds))
        for diphone_voice in diphones.VOICES:
            lost = sum(count for sound, count in counts.items() if not diphones.said_as(sound, diphone_voice.sounds))
            assert lost <= 0.02 * sum(counts.values()), (language, diphone_voice.name)


def test_what_stands_for_a_sound() -> None:
    assert diphones.said_as("ˈaː", diphones.CZECH) == ("a",)
    assert diphones.said_as("ɑ̃", diphones.ITALIAN) == ("a", "n")
    assert diphones.said_as("tʲ", diphones.CZECH) == ("c",)
    assert diphones.said_as("tʲ", diphones.ITALIAN) == ("t", "j")
    assert diphones.said_as("tʃ", diphones.FINNISH) == ("t", "ʃ")
    assert diphones.said_as("ɲ", diphones.ENGLISH) == ("n", "j")
    assert diphones.said_as("", diphones.CZECH) == ()


def test_clip_number_i_has_the_same_diphone_voice_in_all_languages() -> None:
    params = load_params(DATA / "benchmark/params.yaml", "diphones20")
    drawn = [festival.draw_diphone_voice(language, "train", 5, params) for language in params.languages]
    assert len({(draw.voice.name, draw.hz, draw.size, draw.liveliness, draw.words_per_minute) for draw in drawn}) == 1
    groups = {festival.draw_diphone_voice("es", "train", i, params).variant for i in range(24)}
    assert len(groups) == len(diphones.VOICES)


def test_a_diphone_voice_keeps_its_readers_tempo() -> None:
    """The samples of a reader are to be played `size` times as fast, and so long his sounds last."""
    reader = draw_voice("it", "train", 3, PARAMS)
    assert abs(reader.size - 1) > 0.05
    manner = reading.Manner(hz=100, liveliness=0.1, faster=reader.size)
    said = reading.read("La casa è grande e bella.", reader, diphones.ITALIAN, manner, 20.0, 1)
    alone = speech.say("La casa è grande e bella.", reader, 20.0, 1)
    assert said.sounds[-1][0] == pytest.approx(len(alone.samples) / speech.RATE_HZ / reader.size, rel=0.08)


def voice_of_mbrola(path: Path, pairs: str, rate_hz: int, period: int, big: bool) -> Path:
    """A voice's file up to where its sound begins: the head, then each pair of sounds."""
    named = [pair.split("-") for pair in pairs.split()]
    sizes = struct.pack("<HII", 0, 70000, 2) if big else struct.pack("<HI", 900, 2)
    head = b"MBROLA2.060" + struct.pack("<H", len(named)) + sizes + struct.pack("<HBB", rate_hz, period, 1)
    rows = [f"{a}\0{b}\0".encode() + struct.pack("<HBB", 7, 0, 97) for a, b in named]
    path.write_bytes(head + b"".join(rows))
    return path


@pytest.mark.parametrize("big", [False, True])
def test_a_voice_of_mbrola_tells_its_sounds_and_its_pitch(tmp_path: Path, big: bool) -> None:
    path = voice_of_mbrola(tmp_path / "voice", "_-a a-tS tS-R R-e~ e~-_", 16000, 160, big)
    voice = mbrola_voices.voice_file(path, "french")
    assert voice.sounds == {"": "_", "a": "a", "tʃ": "tS", "ʁ": "R", "ɛ̃": "e~"}
    assert (voice.hz, voice.rate_hz) == (100, 16000)
    assert mbrola_voices.voice_file(path, "polish").sounds["ɛ̃"] == "e~"
    greek = mbrola_voices.voice_file(voice_of_mbrola(tmp_path / "other", "S-N N-R", 16000, 160, big), "greek")
    assert greek.sounds == {"": "_", "ts": "S", "ɾ": "R"}  # its N is none of ours
    (tmp_path / "none").write_bytes(b"RIFF" + bytes(40))
    with pytest.raises(ValueError, match="expected a voice of MBROLA"):
        mbrola_voices.voice_file(tmp_path / "none", "")


def test_half_of_mbrolas_clips_have_a_voice_of_their_language() -> None:
    params = load_params(DATA / "benchmark/params.yaml", "mbrola20")
    drawn = {
        language: [mbrola.draw_mbrola_voice(language, "train", index, params) for index in range(120)]
        for language in params.languages
    }
    for index in range(0, 120, 2):
        assert len({draws[index].voice for draws in drawn.values()}) == 1
    assert {draw.voice for draw in drawn["ru"]} == set(mbrola_voices.VOICES)
    assert {draw.voice.language for draw in drawn["fr"][1::2]} == {"fr"}
    assert all(
        len({getattr(draws[5], key) for draws in drawn.values()}) == 1 for key in ("pitch", "size", "unevenness")
    )


def test_mbrola_without_its_packages_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copytree(DATA / "demo/demo_corpus", tmp_path / "demo_corpus", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from demo_corpus.packages import unpacked; unpacked('mbrola')"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "put data/human on PYTHONPATH" in done.stderr
    environment["PYTHONPATH"] += f":{DATA / 'human'}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "DemoError: expected the program apt-get on PATH" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get and a network: 410 MB of Debian packages")
def test_all_of_mbrolas_voices_say_a_language() -> None:
    params = load_params(DATA / "benchmark/params.yaml", "mbrola20").model_copy(
        update={"running_words_share": 0.0, "noise_share": 0.0, "clip_seconds": 6.0}
    )
    louder = []
    for index in range(0, 2 * len(mbrola_voices.VOICES), 2):
        samples, sounds = rendered("fr", "train", index, params)
        vowels = levels_db(samples, sounds, vowels=True)
        louder.extend(np.median(vowels) - levels_db(samples, sounds, vowels=False))
        assert np.array_equal(samples, rendered("fr", "train", index, params)[0])
    assert np.median(louder) > 20


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get and a network: 91 MB of Debian packages")
def test_recorded_people_say_a_language_that_is_not_theirs() -> None:
    params = load_params(DATA / "benchmark/params.yaml", "diphones20").model_copy(
        update={"running_words_share": 0.0, "noise_share": 0.0, "clip_seconds": 6.0}
    )
    first, louder = {}, []
    for index in range(len(diphones.VOICES)):
        samples, sounds = rendered("fr", "train", index, params)
        first[index] = samples
        assert len(samples) == 6 * OUT_RATE_HZ
        voice = festival.draw_diphone_voice("fr", "train", index, params).voice
        assert {sound for _, sound in sounds} <= set(voice.sounds)
        vowels = levels_db(samples, sounds, vowels=True)
        louder.extend(np.median(vowels) - levels_db(samples, sounds, vowels=False))
    assert np.median(louder) > 20
    festival.stop()  # what was said before changes nothing
    for index in (7, 2):
        assert np.array_equal(rendered("fr", "train", index, params)[0], first[index])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get and a network: 91 MB of Debian packages")
def test_festival_forgets_what_it_has_said() -> None:
    """It kept 4 MB a clip, 3 GB after a thousand."""
    params = load_params(DATA / "benchmark/params.yaml", "diphones20").model_copy(update={"running_words_share": 0.0})

    def megabytes() -> float:
        (process,) = festival._current
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

    def say(times: int) -> float:
        for index in range(times):
            rendered("fr", "train", index % len(diphones.VOICES), params)
        return megabytes()

    festival.stop()
    loaded = say(len(diphones.VOICES))
    assert say(4 * len(diphones.VOICES)) < loaded + 80
