"""Corpora of the accuracy benchmark as images in memory, kept in data/benchmark/.features.

Synthesised clips go from the synthesiser through data/benchmark's channels straight to the feature path, without the
MP3 in between; panel T's are the files of data/benchmark.
"""

from __future__ import annotations

import csv
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from joblib import Parallel, delayed

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "data/demo"), str(ROOT / "data/human")]

from stages.decode import decode_file  # noqa: E402
from stages.learning.sounds import UNKNOWN, window_sounds  # noqa: E402
from stages.logmel import log_mel  # noqa: E402
from stages.pipeline.files import sha256_of_json  # noqa: E402
from stages.pipeline.manifest_table import Row  # noqa: E402
from stages.pipeline.params import Params  # noqa: E402
from stages.pipeline.sounds_table import Said  # noqa: E402
from stages.resample import resample  # noqa: E402
from stages.resize import resize_to_image  # noqa: E402

BENCHMARK = ROOT / "data/benchmark"
FEATURES = BENCHMARK / ".features"
_COLUMNS = ("language", "group", "split", "path")
log = logging.getLogger("accuracy")


@dataclass(frozen=True)
class Clips:
    """What a corpus is, in memory.

    images : (windows, bands, columns) uint8
    clip : (windows,) the clip of each; a clip's windows follow one another
    said : (windows, columns) uint8, what is said in each column, as stages.learning.sounds has it
    language, group, split : (clips,) text
    paths : (clips,) of recorded clips, in the corpus's folder; index : (clips,) of synthesised ones, in their split
    """

    images: np.ndarray
    clip: np.ndarray
    said: np.ndarray
    language: np.ndarray
    group: np.ndarray
    split: np.ndarray
    paths: np.ndarray
    index: np.ndarray

    def of(self, chosen: np.ndarray) -> Clips:
        """Chosen : (clips,) true for those that are wanted."""
        windows = chosen[self.clip]
        number = np.cumsum(chosen) - 1
        of_clips = (values[chosen] for values in list(vars(self).values())[3:])
        return Clips(self.images[windows], number[self.clip[windows]], self.said[windows], *of_clips)


def images_of(samples: np.ndarray, rate_hz: float, params: Params) -> np.ndarray:
    """All windows of a clip, as the pipeline makes them: (windows, bands, columns), uint8."""
    pcm = resample(samples, rate_hz, params.resample)
    frames_per_second = params.resample.rate_hz / params.logmel.hop_length
    made = resize_to_image(log_mel(pcm, params.resample.rate_hz, params.logmel), frames_per_second, params.resize)
    return made[..., 0]


def synthesised(
    language: str, split: str, index: int, corpus: Any, params: Params
) -> tuple[np.ndarray, np.ndarray, str]:
    """A clip's images, what is said in their columns (training clips), and its voice."""
    from demo_corpus.effects import OUT_RATE_HZ
    from demo_corpus.engines import engine_of
    from demo_corpus.render import rendered

    voice = engine_of(corpus).draw(language, split, index, corpus).variant
    samples, sounds = rendered(language, split, index, corpus)
    images = images_of(samples, OUT_RATE_HZ, params)
    said = None
    if split == "train" and sounds:
        row = Row("clip", "", language, voice, split, "", "")
        told = {"clip": Said(corpus.clip_seconds, *zip(*sounds, strict=True))}
        resize = params.resize
        said = window_sounds([row], np.zeros(len(images), int), told, resize.window_seconds, resize.width)
    columns = images.shape[2]
    nothing = np.full((len(images), columns), UNKNOWN, np.uint8)
    return images, nothing if said is None else said.columns(np.arange(len(images)), columns), voice


def recorded(path: str, params: Params) -> np.ndarray:
    return images_of(*decode_file(path, params.decode), params)


def clips_of(images: list[np.ndarray], said: list[np.ndarray], *of_clips: np.ndarray) -> Clips:
    """One corpus of its clips' images; `of_clips` : what Clips has of each clip."""
    clip = np.repeat(np.arange(len(images)), [len(windows) for windows in images])
    return Clips(np.concatenate(images), clip, np.concatenate(said), *of_clips)


def synthesised_params(name: str, train_clips: int = 0) -> Any:
    from demo_corpus.settings import DemoParams

    values = yaml.safe_load((BENCHMARK / "params.yaml").read_text(encoding="utf-8"))[name]
    values["clips"]["train"] = min(values["clips"]["train"], train_clips)
    return DemoParams.model_validate(values)


def synthesised_corpus(name: str, train_clips: int, params: Params) -> Clips:
    corpus = synthesised_params(name, train_clips)

    def make() -> Clips:
        jobs = [
            (language, split, index)
            for split in ("train", "validation", "test")
            for index in range(corpus.clips.of(split))
            for language in corpus.languages
        ]
        made = Parallel(n_jobs=-1, batch_size=16)(
            delayed(synthesised)(*job, corpus=corpus, params=params) for job in jobs
        )
        images, said, voices = map(list, zip(*made, strict=True))
        languages, splits, index = zip(*jobs, strict=True)
        return clips_of(images, said, *map(np.array, (languages, voices, splits, [""] * len(jobs), index)))

    return kept(name, corpus.model_dump(mode="json"), params, make)


def recorded_corpus(name: str, params: Params) -> Clips:
    folder = BENCHMARK / name

    def make() -> Clips:
        if not (folder / "corpus.csv").is_file():
            sys.exit(f"expected a corpus in {folder}; build it: dvc repro data/benchmark/dvc.yaml:{name}")
        with (folder / "corpus.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        images = Parallel(n_jobs=-1, batch_size=16)(
            delayed(recorded)(str(folder / row["path"]), params=params) for row in rows
        )
        language, group, split, paths = (np.array([row[key] for row in rows]) for key in _COLUMNS)
        nobody_knows = [np.full((len(windows), windows.shape[2]), UNKNOWN, np.uint8) for windows in images]
        return clips_of(list(images), nobody_knows, language, group, split, paths, np.zeros(len(rows), int))

    return kept(name, yaml.safe_load((BENCHMARK / "params.yaml").read_text(encoding="utf-8"))[name], params, make)


def kept(name: str, settings: Any, params: Params, make: Callable[[], Clips]) -> Clips:
    """What `make` gives, from data/benchmark/.features where it was made before with the same settings."""
    dumped = [params.model_dump(mode="json")[key] for key in ("resample", "logmel", "resize")]
    path = FEATURES / f"{name}-{sha256_of_json([settings, dumped])[:12]}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return Clips(**{key: stored[key] for key in Clips.__dataclass_fields__})
    log.info("making %s", path.name)
    clips = make()
    FEATURES.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(unfinished, **vars(clips))
    unfinished.replace(path)
    return clips


def joined(*parts: Clips) -> Clips:
    before = np.cumsum([0, *(len(part.language) for part in parts)])
    together = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    clip = np.concatenate([part.clip + n for part, n in zip(parts, before, strict=False)])
    return Clips(**together | {"clip": clip})
