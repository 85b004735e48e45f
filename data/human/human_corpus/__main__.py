"""Packages -> data/human/clips: FLAC files, corpus.csv, and items.csv, which says what each clip is made of."""

from __future__ import annotations

import argparse
import csv
import fcntl
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from human_corpus.errors import HumanCorpusError, HumanLockedError
from human_corpus.joining import Clip, Item, join, phrases
from human_corpus.packages import fetch, need_programs, unpack
from human_corpus.settings import HumanParams, load_params
from human_corpus.sources import PACKAGES, Group, groups_of, list_sounds

log = logging.getLogger("human_corpus")

# Beside the code, wherever it is called from: the packages are 440 MB and needed once
CACHE = Path(__file__).resolve().parents[1] / ".cache"


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, 2 params, 74 packages or disk, 75 locked."""
    parser = argparse.ArgumentParser(
        prog="python -m human_corpus",
        description="Builds the corpus of real recordings: FLAC clips, corpus.csv and items.csv, from Debian packages.",
    )
    parser.add_argument("--out", type=Path, default=Path("clips"), help="the folder to build (default: clips)")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the knobs (default: params.yaml)")
    parser.add_argument("--section", default="", help="the part of that file to read (default: all of it)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="human_corpus: %(message)s", stream=sys.stderr, force=True)
    try:
        params = load_params(options.params, options.section)
        CACHE.mkdir(exist_ok=True)
        with _lock(CACHE / "lock"):
            build(params, options.out, CACHE)
    except HumanCorpusError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        log.error("reading or writing failed: %s", error)
        return os.EX_IOERR
    return 0


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one build at a time; the kernel lets go of it when the process ends, however it ends."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HumanLockedError("another build of this corpus is under way in this folder; wait for it") from error
        yield


def build(params: HumanParams, clips: Path, cache: Path) -> None:
    """Write the corpus into `clips`; nothing stands there under that name before all is written."""
    need_programs()
    groups = groups_of(params)
    debs = {name: fetch(PACKAGES[name], cache / "packages") for name in dict.fromkeys(g.package for g in groups)}
    for stale in (
        *cache.glob("unpacked-*"),
        *cache.glob("clips-*"),
    ):  # of a build that was killed; the lock is ours
        shutil.rmtree(stale)
    unfinished = Path(tempfile.mkdtemp(prefix="clips-", dir=cache))
    corpus: list[tuple[str, str, str, str]] = []
    origins: list[tuple[str, str]] = []
    for name, deb in debs.items():
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=cache) as unpacked:
            unpack(deb, Path(unpacked))
            for group in groups:
                if group.package == name:
                    made = join(read_items(group, Path(unpacked), params.rate_hz), params.clip_seconds, params.seed)
                    split = "test" if group.source == params.test_source else "train"
                    for path, clip in write_clips(made, group, unfinished):
                        corpus.append((path, group.language, group.name, split))
                        origins.extend((path, item) for item in clip.items)
                    seconds = sum(len(clip.samples) for clip in made) / made[0].rate_hz if made else 0
                    log.info("%s: %d clips, %.0f s, %s", group.name, len(made), seconds, split)
    _write_csv(unfinished / "corpus.csv", ("path", "language", "group", "split"), sorted(corpus))
    _write_csv(unfinished / "items.csv", ("path", "item"), sorted(origins))
    unfinished.chmod(0o755)  # mkdtemp made it private
    shutil.rmtree(clips, ignore_errors=True)
    unfinished.rename(clips)
    log.info("%d clips in %s", len(corpus), clips)


def read_items(group: Group, unpacked: Path, rate_hz: int = 0) -> list[Item]:
    """All recordings of a group that hold speech, at `rate_hz` (0: as they are); the log counts what is left out."""
    items: list[Item] = []
    left_out: Counter[str] = Counter()
    for sound, reason in list_sounds(group, unpacked):
        item = None if reason else read_item(group, sound.path, sound.name, rate_hz)
        if item is not None and not phrases(item.samples, item.rate_hz):
            item, reason = None, "silent"
        if item is None:
            left_out[reason or "unreadable"] += 1
        else:
            items.append(item)
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    log.info("%s: %d recordings; left out: %s", group.name, len(items), told or "none")
    return items


def read_item(group: Group, path: Path, name: str, rate_hz: int = 0) -> Item | None:
    """One recording as mono at `rate_hz`, 0 for its own, or None where it cannot be read or a value is no number."""
    try:
        samples, own_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)  # (n, channels)
    except soundfile.LibsndfileError:
        return None
    if not len(samples) or not np.isfinite(samples).all():
        return None
    # int32 has room for what Vorbis decodes to beyond full scale; the joining scales it back.
    mono = np.rint(samples.astype(np.float64) * 2**15).astype(np.int32).sum(axis=1) // samples.shape[1]
    if rate_hz and rate_hz != own_rate_hz:
        mono = np.rint(soxr.resample(mono.astype(np.float64), own_rate_hz, rate_hz)).astype(np.int64)
    return Item(group.name, name, rate_hz or own_rate_hz, mono.astype(np.int32))


def write_clips(clips: Sequence[Clip], group: Group, folder: Path) -> Iterator[tuple[str, Clip]]:
    """Write FLAC files, `<group>/<number>.flac`; yields each one's path below `folder`."""
    (folder / group.name).mkdir()
    for number, clip in enumerate(clips):
        path = f"{group.name}/{number:04d}.flac"
        soundfile.write(folder / path, clip.samples, clip.rate_hz, format="FLAC", subtype="PCM_16")
        yield path, clip


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
