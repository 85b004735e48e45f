"""What carries over to unheard voices, an unheard engine and real people: `make benchmark-accuracy`.

    python benchmarks/accuracy.py                        # hours on two cores, minutes on a GPU
    KERAS_BACKEND=jax python benchmarks/accuracy.py ours

Four test sets, none of which any model has learned from:

- demo20   twenty languages of eSpeak, voices and texts unheard
- pico5    another synthesiser, SVOX Pico, five of these languages, closed set
- panel_t_asterisk_to_tuxpaint, panel_t_tuxpaint_to_asterisk   people: Spanish, French, Russian, closed set; training
           hears the synthesised corpus and the other family of recordings, no source of the test's

Beside our network (`bands_deep`, data/benchmark's augmentation) stand chance, LDA on time-averaged mel statistics, the
article's network with the article's recipe, each trained on the same clips, and Whisper base on the same test clips.
Each contestant's answers are kept in data/benchmark/.answers; metrics/benchmark.json is made from all that are there.

Synthesised clips go from the synthesiser through data/benchmark's channels straight to the feature path, without the
MP3 in between; panel T's are the files of data/benchmark. Features are kept in data/benchmark/.features.
Closed set: probabilities restricted to the test's languages. Intervals: bootstrapped over groups (voices, sources).
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from joblib import Parallel, delayed

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "data/demo")]

from stages.logmel import log_mel  # noqa: E402
from stages.pipeline.files import sha256_of_json  # noqa: E402
from stages.pipeline.params import Params, load_params, parse_params  # noqa: E402
from stages.resample import resample  # noqa: E402
from stages.resize import resize_to_image  # noqa: E402

BENCHMARK = ROOT / "data/benchmark"
FEATURES = BENCHMARK / ".features"
ANSWERS = BENCHMARK / ".answers"
CONTESTANTS = ("ours", "cnn5", "mel_lda", "whisper_base")
OUT = ROOT / "metrics/benchmark.json"
PANELS = ("panel_t_asterisk_to_tuxpaint", "panel_t_tuxpaint_to_asterisk")
SAMPLES, SEED = 2000, 1
log = logging.getLogger("accuracy")

# what params.yaml's train section changes to; chosen on eSpeak's validation voices and on asterisk to tuxpaint
OURS: dict[str, Any] = {
    "architecture": "bands_deep", "epochs": 40, "batch_size": 256,
    "augment": {
        "time_stretch": 0.2, "frequency_warp": 0.15, "reverb_probability": 0.4, "noise_probability": 0.6,
        "noise_loudest": 0.6, "shorten_probability": 0.3,
    },
}  # fmt: skip
ARTICLE: dict[str, Any] = {
    "architecture": "cnn5", "epochs": 5, "optimizer": "nadam", "schedule": "steps",
    "learning_rates": [[0, 1e-3], [2, 1e-4]], "weight_decay": 0, "label_smoothing": 0, "dropout": 0.5,
    "class_weights": "none", "augment": None,
}  # fmt: skip


@dataclass(frozen=True)
class Clips:
    """images : (clips, bands, columns) uint8; language, group, split : (clips,) text.

    paths : (clips,) of recorded clips, in the corpus's folder; index : (clips,) of synthesised ones, in their split
    """

    images: np.ndarray
    language: np.ndarray
    group: np.ndarray
    split: np.ndarray
    paths: np.ndarray
    index: np.ndarray

    def of(self, chosen: np.ndarray) -> Clips:
        return Clips(*(values[chosen] for values in vars(self).values()))


def image(samples: np.ndarray, rate_hz: float, params: Params) -> np.ndarray:
    """The first window of a clip, as the pipeline makes it: (bands, columns), uint8."""
    pcm = resample(samples, rate_hz, params.resample)
    frames_per_second = params.resample.rate_hz / params.logmel.hop_length
    made = resize_to_image(log_mel(pcm, params.resample.rate_hz, params.logmel), frames_per_second, params.resize)
    return np.asarray(made[0]).reshape(params.resize.height, params.resize.width)


def synthesised(language: str, split: str, index: int, corpus: Any, params: Params) -> tuple[np.ndarray, str]:
    """A clip's image, and its voice."""
    from demo_corpus.effects import OUT_RATE_HZ
    from demo_corpus.engines import engine_of
    from demo_corpus.render import sound

    voice = engine_of(corpus).draw(language, split, index, corpus).variant
    return image(sound(language, split, index, corpus), OUT_RATE_HZ, params), voice


def recorded(path: str, params: Params) -> np.ndarray:
    import soundfile

    samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    return image(np.rint(samples.mean(axis=1)).astype(np.int16), rate_hz, params)


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
        images, voices = zip(*made, strict=True)
        languages, splits, index = zip(*jobs, strict=True)
        return Clips(np.stack(images), *map(np.array, (languages, voices, splits, [""] * len(jobs), index)))

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
        columns = ([row[key] for row in rows] for key in ("language", "group", "split", "path"))
        return Clips(np.stack(images), *map(np.array, columns), np.zeros(len(rows), int))

    return kept(name, yaml.safe_load((BENCHMARK / "params.yaml").read_text(encoding="utf-8"))[name], params, make)


def kept(name: str, settings: Any, params: Params, make: Any) -> Clips:
    """What `make` gives, from data/benchmark/.features where it was made before with the same settings."""
    dumped = [params.model_dump(mode="json")[key] for key in ("resample", "logmel", "resize")]
    path = FEATURES / f"{name}-{sha256_of_json([settings, dumped])[:12]}.npz"
    if not path.is_file():
        log.info("making %s", path.name)
        clips = make()
        FEATURES.mkdir(parents=True, exist_ok=True)
        partial_path = path.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez(partial_path, **vars(clips))
        partial_path.replace(path)
    with np.load(path) as stored:
        return Clips(**{key: stored[key] for key in Clips.__dataclass_fields__})


def joined(*parts: Clips) -> Clips:
    return Clips(*(np.concatenate(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True)
class _Windows:
    """What TrainingBatches asks of its images: one window a clip."""

    label: np.ndarray
    shape: tuple[int, int]
    n_bytes: int

    def __len__(self) -> int:
        return len(self.label)


class _InMemory:
    in_memory = True

    def __init__(self, images: np.ndarray, label: np.ndarray) -> None:
        self.images = images
        self.windows = _Windows(label, (images.shape[1], images.shape[2]), images.nbytes)

    def take(self, numbers: np.ndarray) -> np.ndarray:
        out: np.ndarray = self.images[numbers]
        return out


def network_scores(clips: Clips, tests: dict[str, Clips], recipe: dict[str, Any], params: Params) -> Iterator[Any]:
    """Train on `clips`; yields each test's name, probabilities (clips, languages) and the languages."""
    from stages.learning import runtime
    from stages.learning.dataset import TrainingBatches
    from stages.learning.training import compiled_network, fit_epoch

    values = params.model_dump(mode="json")
    augment = recipe["augment"]
    off = dict.fromkeys(values["train"]["augment"], 0)
    values["train"] |= recipe | {"augment": off if augment is None else values["train"]["augment"] | augment}
    train = parse_params(values).train
    languages = sorted(set(clips.language))
    runtime.make_reproducible(train.seed)
    runtime.keras.config.set_dtype_policy(runtime.policy_name(train.precision))
    images: Any = _InMemory(clips.images, np.searchsorted(languages, clips.language))
    batches = TrainingBatches(images, len(languages), train.batch_size, train.class_weights, train.seed)
    network, model = compiled_network(train, batches)
    for epoch in range(train.epochs):
        logs = fit_epoch(model, batches, epoch)
        log.info("%s epoch %d/%d %s", network.name, epoch + 1, train.epochs, logs)
    for name, test in tests.items():
        yield name, np.asarray(network.predict(test.images[..., None], batch_size=256, verbose=0), float), languages


def lda_scores(clips: Clips, tests: dict[str, Clips]) -> Iterator[Any]:
    """LDA on each band's mean and deviation over the columns that sound; the same form as `network_scores`."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    languages = sorted(set(clips.language))
    model = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage="auto", priors=np.full(len(languages), 1 / len(languages))
    )
    model.fit(mel_statistics(clips.images), clips.language)
    for name, test in tests.items():
        yield name, model.predict_proba(mel_statistics(test.images)), languages


def mel_statistics(images: np.ndarray) -> np.ndarray:
    """(clips, bands, columns) -> (clips, 2 * bands)."""
    out = np.empty((len(images), 2 * images.shape[1]), np.float32)
    for i, picture in enumerate(images):
        sounding = picture[:, picture.max(axis=0) > 0].astype(np.float32)
        if sounding.shape[1]:
            out[i] = np.concatenate([sounding.mean(axis=1), sounding.std(axis=1)])
        else:
            out[i] = 0
    return out


def answers(probabilities: np.ndarray, languages: list[str], test: Clips) -> np.ndarray:
    """The test's languages only (closed set where it has fewer than the model): (clips,) text."""
    allowed = [languages.index(language) for language in sorted(set(test.language))]
    return np.array(languages)[allowed][probabilities[:, allowed].argmax(axis=1)]


def network(recipe: dict[str, Any], params: Params) -> Callable[..., Iterator[Any]]:
    return partial(network_scores, recipe=recipe, params=params)


def trained(scores_of: Callable[..., Iterator[Any]], corpora: dict[str, Clips]) -> dict[str, np.ndarray]:
    """Which clips of each test are named rightly: trained on demo20, and for panel T on the other family besides.

    `synthetic:NAME` : panel T by the model that has heard synthesised sound alone
    """
    heard = corpora["demo20"].of(corpora["demo20"].split == "train")
    tests = {name: clips.of(clips.split == "test") for name, clips in corpora.items()}
    right = {}
    for name, scores, languages in scores_of(heard, tests):
        key = f"synthetic:{name}" if name in PANELS else name
        right[key] = answers(scores, languages, tests[name]) == tests[name].language
    for name in PANELS:
        family = corpora[name]
        heard_family = (family.split == "train") & np.isin(family.language, sorted(set(tests[name].language)))
        # festvox is left out: it would make Russian five times as much as the others
        family = family.of(heard_family & ~np.char.startswith(family.group, "festvox"))
        for _, scores, languages in scores_of(joined(heard, family), {name: tests[name]}):
            right[name] = answers(scores, languages, tests[name]) == tests[name].language
    return right


def whisper(corpora: dict[str, Clips]) -> dict[str, np.ndarray]:
    """Which clips of pico5 and panel T Whisper base names rightly, restricted to the test's languages."""
    import soundfile
    from demo_corpus.effects import OUT_RATE_HZ
    from demo_corpus.render import sound

    from benchmarks.predict import whisper_python

    python, absent = whisper_python()
    if not python:
        sys.exit(f"no Whisper: {absent}")
    right = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for name in ("pico5", *PANELS):
            test = corpora[name].of(corpora[name].split == "test")
            paths = [str(BENCHMARK / name / path) for path in test.paths]
            if name == "pico5":
                corpus = synthesised_params(name)
                for number, index in enumerate(test.index):
                    paths[number] = f"{folder}/{number}.wav"
                    soundfile.write(
                        paths[number], sound(test.language[number], "test", int(index), corpus), OUT_RATE_HZ
                    )
            allowed = ",".join(sorted(set(test.language)))
            command = [python, str(ROOT / "benchmarks/whisper_peer.py"), "--languages", allowed, "-"]
            done = subprocess.run(command, input="\n".join(paths), capture_output=True, text=True, check=True)
            right[name] = np.array(json.loads(done.stdout)["languages"]) == test.language
    return right


def keep_answers(contestant: str, right: dict[str, np.ndarray], corpora: dict[str, Clips], train_clips: int) -> None:
    from benchmarks.__main__ import commit, machine

    groups = {name: clips.group[clips.split == "test"].tolist() for name, clips in corpora.items()}
    languages = {name: len(set(clips.language[clips.split == "test"])) for name, clips in corpora.items()}
    ANSWERS.mkdir(parents=True, exist_ok=True)
    kept_values = {
        "right": {name: values.astype(int).tolist() for name, values in right.items()}, "groups": groups,
        "n_languages": languages, "train_clips_per_language": train_clips, "commit": commit(), "machine": machine(),
    }  # fmt: skip
    (ANSWERS / f"{contestant}.json").write_text(json.dumps(kept_values), encoding="utf-8")


def table(answered: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """metrics/benchmark.json from the contestants' answers; null where one has none."""
    from stages.learning.metrics import bootstrap_accuracy

    ours = answered["ours"]
    out: dict[str, Any] = {}
    for name, group in ours["groups"].items():
        right = {key: np.array(values["right"][name]) for key, values in answered.items() if name in values["right"]}
        interval = bootstrap_accuracy(right["ours"] > 0, np.array(group), SAMPLES, SEED)
        numbers = {
            "accuracy": float(right["ours"].mean()), "low": interval.low, "high": interval.high,
            "chance": 1 / ours["n_languages"][name],
        }  # fmt: skip
        out[name] = {key: round(value, 4) for key, value in numbers.items()}
        out[name] |= {"n_clips": len(group), "n_groups": len(set(group))}
        for key in ("mel_lda", "cnn5", "whisper_base"):
            out[name][key] = round(float(right[key].mean()), 4) if key in right else None
        if name in PANELS:
            out[name]["from_synthesised_sound_alone"] = {
                key: round(float(np.mean(values["right"][f"synthetic:{name}"])), 4)
                for key, values in sorted(answered.items())
                if f"synthetic:{name}" in values["right"]
            }
    of_training = {key: ours[key] for key in ("train_clips_per_language", "commit", "machine")}
    return out | of_training


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("contestants", nargs="*", help=f"of {', '.join(CONTESTANTS)}; all of them if none is named")
    parser.add_argument("--train-clips", type=int, default=1500, help="synthesised ones of each language, at most")
    given = parser.parse_args()
    if unknown := sorted(set(given.contestants) - set(CONTESTANTS)):
        parser.error(f"expected contestants among {', '.join(CONTESTANTS)}; received {', '.join(unknown)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    params = load_params(ROOT / "params.yaml")
    corpora = {name: synthesised_corpus(name, given.train_clips, params) for name in ("demo20", "pico5")}
    corpora |= {name: recorded_corpus(name, params) for name in PANELS}
    for contestant in given.contestants or CONTESTANTS:
        log.info("%s", contestant)
        if contestant == "whisper_base":
            right = whisper(corpora)
        else:
            scores_of = {"ours": network(OURS, params), "cnn5": network(ARTICLE, params), "mel_lda": lda_scores}
            right = trained(scores_of[contestant], corpora)
        keep_answers(contestant, right, corpora, given.train_clips)
    answered = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(ANSWERS.glob("*.json"))}
    if "ours" in answered:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(table(answered), indent=1) + "\n", encoding="utf-8")
        print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
