"""data/human: joining recordings to clips, what is left out, and errors that are one clear line."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

HUMAN = Path(__file__).resolve().parents[1] / "data" / "human"
sys.path.insert(0, str(HUMAN))

from human_corpus import joining, packages  # noqa: E402
from human_corpus.__main__ import build, read_item  # noqa: E402
from human_corpus.errors import HumanParamsError, PackageError  # noqa: E402
from human_corpus.joining import Item, join, phrases  # noqa: E402
from human_corpus.settings import HumanParams, load_params  # noqa: E402
from human_corpus.sources import GROUPS, PACKAGES, Package, groups_of, list_sounds, why_not_speech  # noqa: E402

RATE = 8000
ASTERISK_ES = GROUPS[0]


def speechlike(seconds: float, seed: int, level: float = 0.2, rate_hz: int = RATE) -> np.ndarray:
    """Noise that rises and falls four times a second and never stops, as syllables do: float64, shape (n,)."""
    n = round(seconds * rate_hz)
    noise = np.random.default_rng(seed).standard_normal(n)
    return level * noise * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(n) / rate_hz))


def item(name: str, *parts: np.ndarray, group: str = "one-es") -> Item:
    return Item(group, name, RATE, np.rint(np.concatenate(parts) * 2**15).astype(np.int32))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def words(count: int, group: str = "one-es", seconds: float = 1.2) -> list[Item]:
    spread = np.random.default_rng(1).uniform(0.5, 1.5, count) * seconds
    return [
        item(f"word-{i:03d}", silence(0.3), speechlike(spread[i], i), silence(0.4), group=group) for i in range(count)
    ]


# Joining.


def test_silence_at_both_ends_is_trimmed() -> None:
    spans = phrases(item("a", silence(0.7), speechlike(1.0, 1), silence(0.5)).samples, RATE)
    assert len(spans) == 1
    start, end = spans[0]
    frame = joining.FRAME_SECONDS * RATE
    assert start == pytest.approx(0.7 * RATE - joining.EDGE_SECONDS * RATE, abs=frame)
    assert end == pytest.approx(1.7 * RATE + joining.EDGE_SECONDS * RATE, abs=frame)


def test_faint_noise_counts_as_silence() -> None:
    hiss = 0.0005 * np.random.default_rng(3).standard_normal(3 * RATE)
    signal = hiss.copy()
    signal[RATE : 2 * RATE] += speechlike(1.0, 1)
    (span,) = phrases(np.rint(signal * 2**15).astype(np.int32), RATE)
    assert span == pytest.approx((0.97 * RATE, 2.03 * RATE), abs=2 * joining.FRAME_SECONDS * RATE)


def test_long_pause_is_cut_out_and_short_one_is_kept() -> None:
    assert len(phrases(item("a", speechlike(1, 1), silence(0.8), speechlike(1, 2)).samples, RATE)) == 2
    assert len(phrases(item("a", speechlike(1, 1), silence(0.15), speechlike(1, 2)).samples, RATE)) == 1


def test_long_phrase_is_cut_where_it_is_quietest_and_nothing_of_it_is_lost() -> None:
    # 0.1 s of silence is too short for a pause, but the quietest place.
    samples = item("a", speechlike(3, 1), silence(0.1), speechlike(3, 2)).samples
    spans = phrases(samples, RATE)
    assert len(spans) == 2
    assert 3.0 <= spans[0][1] / RATE <= 3.1
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert all((end - start) / RATE <= joining.MAX_PHRASE_SECONDS + 0.1 for start, end in spans)


@pytest.mark.parametrize("samples", [np.zeros(0, np.int32), np.zeros(40, np.int32), np.zeros(RATE, np.int32)])
def test_silence_and_nothing_hold_no_phrase(samples: np.ndarray) -> None:
    assert phrases(samples, RATE) == []


def test_clips_are_about_ten_seconds_and_leave_nothing_over() -> None:
    items = words(120)
    clips = join(items, 10, seed=1)
    lengths = [len(clip.samples) / RATE for clip in clips]
    assert np.mean(lengths) == pytest.approx(10, abs=0.6)
    assert min(lengths) > 7.5
    assert max(lengths) < 12.5
    used = Counter(name for clip in clips for name in clip.items)
    assert set(used) == {entry.name for entry in items}
    assert set(used.values()) == {1}


def test_order_depends_on_seed_and_names_only() -> None:
    items = words(60)
    clips = join(items, 10, seed=1)
    again = join(items[::-1], 10, seed=1)
    assert [clip.items for clip in again] == [clip.items for clip in clips]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(clips, again, strict=True))
    assert [clip.items for clip in join(items, 10, seed=2)] != [clip.items for clip in clips]


def test_no_clip_crosses_a_group() -> None:
    with pytest.raises(ValueError, match="one group"):
        join([*words(3), *words(3, group="two-es")], 10, seed=1)
    with pytest.raises(ValueError, match="same name"):
        join(words(2) + words(2), 10, seed=1)


def test_loud_and_faint_recordings_come_to_one_level_without_clipping() -> None:
    items = [item(f"w{i}", speechlike(2, i, level=10 ** (-i / 4))) for i in range(1, 8)]  # 30 dB apart; 1 beyond scale
    clips = [join([entry], 10, seed=1)[0].samples.astype(np.float64) / 2**15 for entry in items]
    levels = [20 * np.log10(np.sqrt(np.mean(clip**2))) for clip in clips]
    assert max(levels) - min(levels) < 0.5
    assert levels[0] == pytest.approx(joining.LEVEL_DBFS, abs=0.5)
    click = np.concatenate([speechlike(1, 1, level=0.01), np.full(8, 0.9), speechlike(1, 2, level=0.01)])
    assert np.abs(join([item("click", click)], 10, seed=1)[0].samples.astype(int)).max() <= 0.96 * 2**15


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.2, 12), min_size=1, max_size=12), st.integers(2, 20))
def test_every_phrase_is_in_one_clip(seconds: list[float], clip_seconds: int) -> None:
    items = [item(f"i{i}", speechlike(length, i)) for i, length in enumerate(seconds)]
    clips = join(items, clip_seconds, seed=0)
    gap = round(joining.GAP_SECONDS * RATE)
    spans = [phrases(entry.samples, RATE) for entry in items]
    pieces = [end - start for part in spans for start, end in part]
    assert sum(len(clip.samples) for clip in clips) == sum(pieces) + gap * (len(pieces) - len(clips))


def test_silent_items_are_left_out() -> None:
    clips = join([item("quiet", silence(2)), item("loud", speechlike(2, 1))], 10, seed=1)
    assert [clip.items for clip in clips] == [("loud",)]
    assert join([item("quiet", silence(2))], 10, seed=1) == []


# What goes in.


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("beep.wav", "tone"),
        ("confbridge-leave.wav", "tone"),
        ("confbridge-leave-in.wav", None),
        ("silence/1.wav", "silence"),
        ("tt-monkeys.wav", "monkeys screaming"),
        ("tt-monkeysintro.wav", None),
        ("letters/a.wav", "single letter or sign"),
        ("phonetic/a_p.wav", "radio alphabet"),
        ("digits/1.wav", None),
        ("hello-world.wav", None),
    ],
)
def test_what_is_not_speech_is_left_out(name: str, reason: str | None) -> None:
    assert why_not_speech(ASTERISK_ES, PurePosixPath(name)) == reason


def test_sounds_are_listed_in_order_without_doubles_and_links(tmp_path: Path) -> None:
    group = next(group for group in GROUPS if group.name == "tuxpaint-fr")
    folder = tmp_path / group.folder
    for name, content in {
        "b/cat_desc_fr.ogg": b"1",
        "a/cat_desc_fr.ogg": b"1",
        "dog_desc_fr.ogg": b"2",
        "dog_desc_es.ogg": b"3",
        "dog_fr.ogg": b"4",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "link_desc_fr.ogg").symlink_to("/etc/hostname")
    listed = [(sound.name, reason) for sound, reason in list_sounds(group, tmp_path)]
    assert listed == [
        ("a/cat_desc_fr.ogg", None),
        ("b/cat_desc_fr.ogg", "same bytes as another"),
        ("dog_desc_fr.ogg", None),
        ("link_desc_fr.ogg", "not a plain file"),
    ]
    with pytest.raises(PackageError, match=r"expected \*_desc_ru\.ogg below .*received none"):
        list(list_sounds(next(group for group in GROUPS if group.name == "tuxpaint-ru"), tmp_path))


def test_stereo_is_mixed_and_bad_files_are_none(tmp_path: Path) -> None:
    stereo = np.array([[0.5, 0.25], [-0.5, -0.25]], np.float32)
    soundfile.write(tmp_path / "s.wav", stereo, RATE, subtype="FLOAT")
    read = read_item(ASTERISK_ES, tmp_path / "s.wav", "s.wav")
    assert read is not None
    assert read.samples.tolist() == [12288, -12288]
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan]), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("nan.wav", "none.wav", "text.wav"):
        assert read_item(ASTERISK_ES, tmp_path / name, name) is None


# Params.


def test_committed_params_are_valid() -> None:
    assert load_params(HUMAN / "params.yaml").test_source == "tuxpaint"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: [asterisk]\ntest_source: asterisk\nclip_seconds: 10\nseed: 1\n", "at least 2"),
        ("sources: [asterisk, festvox]\ntest_source: tuxpaint\nclip_seconds: 10\nseed: 1\n", "not among sources"),
        ("sources: [asterisk, asterisk]\ntest_source: asterisk\nclip_seconds: 10\nseed: 1\n", "named twice"),
        ("sources: [asterisk, tuxpaint]\ntest_source: tuxpaint\nclip_seconds: 10\nseed: 1\nspeed: 2\n", "speed"),
        ("sources: [asterisk, tuxpaint]\ntest_source: asterisk\nclip_seconds: 5\nseed: 1\nrate_hz: 80\n", "rate_hz"),
        (
            "sources: [asterisk, tuxpaint]\ntest_source: asterisk\nclip_seconds: 5\nseed: 1\n"
            "train_only_languages: [xx]\n",
            "train_only_languages",
        ),
        ("sources: [", "expected YAML"),
    ],
)
def test_wrong_params_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(HumanParamsError, match=message):
        load_params(tmp_path / "params.yaml")


# Packages.


def run_build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The stage's command in a copy of data/human."""
    shutil.copytree(HUMAN / "human_corpus", folder / "human_corpus", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HUMAN / "params.yaml", folder)
    return subprocess.run(
        [sys.executable, "-m", "human_corpus"],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_without_apt_one_line_and_status_74(tmp_path: Path) -> None:
    done = run_build(tmp_path, PATH="")
    assert done.returncode == 74
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "expected the program dpkg-deb on PATH" in line
    assert not (tmp_path / "clips").exists()


def fake_apt(folder: Path, script: str) -> None:
    """`apt-get` as a shell script on PATH."""
    (folder / "apt-get").write_text("#!/bin/sh\n" + script)
    (folder / "apt-get").chmod(0o755)


def test_without_network_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path, 'echo "E: Could not resolve deb.example" >&2; exit 100\n')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match=r"could not fetch p: E: Could not resolve deb.example\. Is there a network"):
        packages.fetch(Package("p", "1", ""), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.deb"))


def test_a_download_that_broke_off_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path, "echo half > p_1_all.deb; exit 100\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError):
        packages.fetch(Package("p", "1", ""), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.deb"))


def test_missing_lists_are_fetched_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine's lists know nothing; after `update` into lists of our own the download works.
    fake_apt(
        tmp_path,
        f'case "$*" in *update*) : > {tmp_path}/updated ;; '
        f"*) [ -e {tmp_path}/updated ] || {{ echo 'E: Unable to locate package p' >&2; exit 100; }}\n"
        "echo whole > p_1_all.deb ;; esac\n",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}")
    digest = hashlib.sha256(b"whole\n").hexdigest()
    kept = packages.fetch(Package("p", "1", digest), tmp_path / "cache")
    assert kept.read_text() == "whole\n"
    fake_apt(tmp_path, "exit 100\n")  # the second time nothing is downloaded
    assert packages.fetch(Package("p", "1", digest), tmp_path / "cache") == kept


def test_another_version_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_apt(
        tmp_path, 'case "$*" in *p=1*) echo "E: Version 1 not found" >&2; exit 100 ;; esac; echo x > p_2_all.deb\n'
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.fetch(Package("p", "1", ""), tmp_path / "cache").name == "p_2.deb"
    assert "expected version 1, received 2" in caplog.text


def test_a_damaged_package_is_removed(tmp_path: Path) -> None:
    (tmp_path / "p_1.deb").write_text("damaged")
    with pytest.raises(PackageError, match="expected sha256 "):
        packages.fetch(Package("p", "1", "0" * 64), tmp_path)
    assert not (tmp_path / "p_1.deb").exists()


# The whole, with the real packages.


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="no apt-get or dpkg-deb here")
def test_the_corpus_from_the_real_packages(tmp_path: Path) -> None:
    cached = HUMAN / ".cache" / "packages"
    if cached.is_dir():  # what a build here downloaded already
        shutil.copytree(cached, tmp_path / ".cache" / "packages", copy_function=os.link)
    done = run_build(tmp_path)
    if done.returncode == 74 and "Is there a network" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    with (tmp_path / "clips" / "corpus.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["path", "language", "group", "split"]
    assert {row["path"] for row in rows} == {
        str(path.relative_to(tmp_path / "clips")) for path in (tmp_path / "clips").rglob("*.flac")
    }
    splits = {row["group"]: row["split"] for row in rows}
    groups = groups_of(load_params(HUMAN / "params.yaml"))
    assert splits == {group.name: "test" if group.source == "tuxpaint" else "train" for group in groups}
    assert all(row["group"].endswith(f"-{row['language']}") for row in rows)
    lengths = np.array([soundfile.info(tmp_path / "clips" / row["path"]).duration for row in rows])
    assert lengths.mean() == pytest.approx(10, abs=0.3)
    assert lengths.min() > 6
    assert lengths.max() < 14
    if "expected version" not in done.stderr:
        assert len(rows) == 1376
    # The same bytes once more, with the packages from the cache and no apt-get.
    before = digests(tmp_path / "clips")
    (tmp_path / "bin").mkdir()
    for program in ("dpkg-deb", "tar", "xz", "gzip", "zstd"):
        if found := shutil.which(program):
            (tmp_path / "bin" / program).symlink_to(found)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        patch.chdir(tmp_path)
        build(load_params(Path("params.yaml")), Path("clips"), Path(".cache"))
    assert digests(tmp_path / "clips") == before
    assert not [path.name for path in (tmp_path / ".cache").iterdir() if path.name.startswith(("clips-", "unpacked-"))]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_corpus_here_is_of_the_panel_s_languages() -> None:
    names = [group.name for group in groups_of(load_params(HUMAN / "params.yaml"))]
    assert sorted(names) == sorted(
        [f"{source}-{language}" for source in ("asterisk", "tuxpaint") for language in ("es", "fr", "ru")]
        + ["festvox-ru"]
    )


def test_pins_are_complete() -> None:
    assert {group.package for group in GROUPS} == set(PACKAGES)
    assert all(len(package.sha256) == 64 for package in PACKAGES.values())
    assert HumanParams(sources=("asterisk", "tuxpaint"), test_source="asterisk", clip_seconds=5, seed=0)
