"""Plans the corpus, lets worker processes speak and encode it, and puts the finished folder in place."""

from __future__ import annotations

import csv
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib

from demo_corpus.engines import engine_of
from demo_corpus.errors import DemoError, DemoLockedError
from demo_corpus.progress import Progress
from demo_corpus.render import Job, Sounds, render
from demo_corpus.settings import SPLITS, DemoParams

log = logging.getLogger("demo_corpus")

# Clips of one ffmpeg process; more is not cheaper, and it is part of no clip's bytes
BATCH = 8


@dataclass(frozen=True)
class Clip:
    """A row of corpus.csv and what makes it."""

    path: str
    language: str
    group: str
    split: str
    index: int


def plan(params: DemoParams) -> list[Clip]:
    """Every clip of the corpus, sorted by path; the number in a path runs over all splits of a language."""
    clips: list[Clip] = []
    engine = engine_of(params)
    for language in params.languages:
        number = 0
        for split in SPLITS:
            for index in range(params.clips.of(split)):
                variant = engine.draw(language, split, index, params).variant
                path = f"{language}/{language}-{variant.lower()}-{number:04d}.mp3"
                clips.append(Clip(path, language, variant, split, index))
                number += 1
    return sorted(clips, key=lambda clip: clip.path)


def build(out: Path, params: DemoParams, workers: int = 0) -> list[Clip]:
    """Builds the corpus at `out`, which appears only when it is whole.

    `workers`: processes, 0 for one on each core; changes no byte.
    Raises: DemoError (and its kin), with nothing at `out` changed.
    """
    clips = plan(params)
    workers = workers or joblib.cpu_count()
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for language in params.languages:
            (partial / language).mkdir(parents=True)
        # deleted here, since joblib kills its workers' speakers where a clip fails
        with tempfile.TemporaryDirectory(prefix="demo-corpus-", ignore_cleanup_errors=True) as scratch:
            said = _render_all(clips, partial, scratch, params, workers)
        _write_table(partial / "corpus.csv", clips)
        _write_sounds(partial / "sounds.csv", clips, said, params.clip_seconds)
        _put_in_place(partial, out)
    return clips


def _render_all(clips: list[Clip], partial: Path, scratch: str, params: DemoParams, workers: int) -> dict[str, Sounds]:
    by_language = [[clip for clip in clips if clip.language == language] for language in params.languages]
    batches = [part[start : start + BATCH] for part in by_language for start in range(0, len(part), BATCH)]
    jobs = [
        Job(tuple((c.language, c.split, c.index, c.path) for c in batch), str(partial), scratch, params)
        for batch in batches
    ]
    pool = joblib.Parallel(n_jobs=workers, backend="loky" if workers > 1 else None, return_as="generator_unordered")
    said: dict[str, Sounds] = {}
    with Progress(len(clips), params.clip_seconds) as progress:
        for done in pool(joblib.delayed(render)(job, os.getpid()) for job in jobs):
            said |= done
            progress.advance(len(done))
    return said


def _write_table(path: Path, clips: list[Clip]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "language", "group", "split"])
        writer.writerows([clip.path, clip.language, clip.group, clip.split] for clip in clips)


def _write_sounds(path: Path, clips: list[Clip], said: dict[str, Sounds], seconds: float) -> None:
    """What is said when in the training clips: "0.12 b|0.25 ˈa|0.41 " begins with b at 0.12 s and ends at 0.41 s."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "seconds", "sounds"])
        for clip in clips:
            if clip.split == "train" and said[clip.path]:
                text = "|".join(f"{begin:.3f} {sound}" for begin, sound in said[clip.path])
                writer.writerow([clip.path, seconds, text])


def _put_in_place(partial: Path, out: Path) -> None:
    """Renames the finished folder; an older one is moved away first and deleted last."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One build at a time for a folder: a second one would mix its files with ours."""
    path = out.with_name(f".{out.name}.lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoLockedError(
                f"expected to be the only build of {out}, but another one holds {path}. Wait for it, or end it."
            ) from error
        yield


def summary(clips: list[Clip]) -> str:
    """One line for people: how much of what there is."""
    parts = []
    for split in SPLITS:
        part = [clip for clip in clips if clip.split == split]
        parts.append(f"{split} {len(part)} clips of {len({clip.group for clip in part})} voices")
    languages = len({clip.language for clip in clips})
    return f"{len(clips)} clips in {languages} languages: {', '.join(parts)}"


__all__ = ["Clip", "DemoError", "build", "plan", "summary"]
