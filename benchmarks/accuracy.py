"""What carries over to unheard voices, an unheard engine and real people: `make benchmark-accuracy`.

    python benchmarks/accuracy.py                        # hours on two cores, minutes on a GPU
    KERAS_BACKEND=jax python benchmarks/accuracy.py ours

Four test sets, none of which any model has learned from:

- demo20   twenty languages of eSpeak, voices and texts unheard; training has accents, and recorded people's diphones
           (diphones20, mbrola20)
- pico5    another synthesiser, SVOX Pico, five of these languages, closed set
- panel_t_asterisk_to_tuxpaint, panel_t_tuxpaint_to_asterisk   people: Spanish, French, Russian, closed set; training
           goes on from the synthesised corpus with it and the other family of recordings, no source of the test's,
           with three seeds, whose weights are averaged

Beside our network (params.yaml's, and what OURS changes) stand chance, LDA on time-averaged mel statistics, the
article's network with the article's recipe, each trained on the same clips, and Whisper base on the same test clips.
Each contestant's answers are kept in data/benchmark/.answers; metrics/benchmark.json is made from all that are there.

Closed set: probabilities restricted to the test's languages. Intervals: bootstrapped over groups (voices, sources).
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "data/demo")]

from benchmarks.accuracy_contestants import ARTICLE, OURS, MelLda, Network  # noqa: E402
from benchmarks.accuracy_corpora import (  # noqa: E402
    BENCHMARK,
    Clips,
    joined,
    recorded_corpus,
    synthesised_corpus,
    synthesised_params,
)
from stages.pipeline.params import load_params  # noqa: E402

ANSWERS = BENCHMARK / ".answers"
LADDER = ("mel_lda", "cnn5", "whisper_base")
CONTESTANTS = ("ours", *LADDER)
OUT = ROOT / "metrics/benchmark.json"
PANELS = ("panel_t_asterisk_to_tuxpaint", "panel_t_tuxpaint_to_asterisk")
HEARD = ("demo20", "diphones20", "mbrola20")
AGAIN_CLIPS, FESTVOX_CLIPS = 2500, 300
SAMPLES, SEED = 2000, 1
log = logging.getLogger("accuracy")


def answers(probabilities: np.ndarray, languages: list[str], test: Clips) -> np.ndarray:
    """The test's languages only (closed set where it has fewer than the model): (clips,) text."""
    allowed = [languages.index(language) for language in sorted(set(test.language))]
    named: np.ndarray = np.array(languages)[allowed][probabilities[:, allowed].argmax(axis=1)]
    return named


def trained(make: Callable[[], Network | MelLda], corpora: dict[str, Clips], again: int) -> dict[str, np.ndarray]:
    """Which clips of each test are named rightly: trained on synthesised sound, for panel T on the other family too.

    again : for panel T training goes on with so many of the synthesised clips, drawn at random, and the family
    `synthetic:NAME` : panel T by the model that has heard synthesised sound alone
    """
    heard = joined(*(corpora[name].of(corpora[name].split == "train") for name in HEARD))
    tests = {name: clips.of(clips.split == "test") for name, clips in corpora.items() if "test" in clips.split}

    def right(model: Network | MelLda, name: str) -> np.ndarray:
        test = tests[name]
        named: np.ndarray = answers(model.scores(test), model.languages, test) == test.language
        each = ", ".join(f"{one} {named[test.language == one].mean():.2f}" for one in sorted(set(test.language)))
        log.info("%s: %.3f of %d clips; %s", name, named.mean(), len(named), each)
        return named

    synthesised = make()
    synthesised.fit(heard, corpora["demo20"].of(corpora["demo20"].split == "validation"))
    found = {f"synthetic:{name}" if name in PANELS else name: right(synthesised, name) for name in tests}
    for name in PANELS:
        family = corpora[name].of(corpora[name].split == "train")
        draw = np.random.default_rng(SEED)
        # all of festvox would make Russian five times as much as the others
        festvox = np.char.startswith(family.group, "festvox")
        festvox_kept = draw.permutation(festvox.sum()) < FESTVOX_CLIPS
        wanted = np.isin(family.language, heard.language)
        wanted[festvox] &= festvox_kept
        family = family.of(wanted)
        some = draw.permutation(len(heard.language)) < again
        model = copy(synthesised)
        model.fit(joined(heard.of(some), family), family.of(np.zeros(len(family.language), bool)))
        found[name] = right(model, name)
    return found


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


def keep_answers(
    contestant: str, right: dict[str, np.ndarray], corpora: dict[str, Clips], settings: dict[str, int]
) -> None:
    from benchmarks.__main__ import commit, machine

    tested = {name: clips.of(clips.split == "test") for name, clips in corpora.items() if "test" in clips.split}
    groups = {name: clips.group.tolist() for name, clips in tested.items()}
    languages = {name: len(set(clips.language)) for name, clips in tested.items()}
    ANSWERS.mkdir(parents=True, exist_ok=True)
    kept_values = {
        "right": {name: values.astype(int).tolist() for name, values in right.items()}, "groups": groups,
        "n_languages": languages, **settings, "commit": commit(), "machine": machine(),
    }  # fmt: skip
    (ANSWERS / f"{contestant}.json").write_text(json.dumps(kept_values), encoding="utf-8")


def table(answered: dict[str, dict[str, Any]], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """metrics/benchmark.json from the contestants' answers; null where one has none.

    before : the last one. Of a contestant that was not run since, its numbers on the same tests stay, and their commit
        is told.
    """
    from stages.learning.metrics import bootstrap_accuracy

    ours, before = answered["ours"], before or {}
    out: dict[str, Any] = {}
    kept: dict[str, str] = {}
    for name, group in ours["groups"].items():
        right = {key: np.array(values["right"][name]) for key, values in answered.items() if name in values["right"]}
        interval = bootstrap_accuracy(right["ours"] > 0, np.array(group), SAMPLES, SEED)
        numbers = {
            "accuracy": float(right["ours"].mean()), "low": interval.low, "high": interval.high,
            "chance": 1 / ours["n_languages"][name],
        }  # fmt: skip
        out[name] = {key: round(value, 4) for key, value in numbers.items()}
        out[name] |= {"n_clips": len(group), "n_groups": len(set(group))}
        for key in LADDER:
            out[name][key] = round(float(right[key].mean()), 4) if key in right else None
        earlier = before.get(name, {})
        same_test = all(earlier.get(key) == out[name][key] for key in ("n_clips", "n_groups", "chance"))
        for key in LADDER:
            if same_test and key not in answered and earlier.get(key) is not None:
                out[name][key] = earlier[key]
                kept[key] = before.get("of_earlier_commits", {}).get(key, before["commit"])
        if name in PANELS:
            out[name]["from_synthesised_sound_alone"] = {
                key: round(float(np.mean(values["right"][f"synthetic:{name}"])), 4)
                for key, values in sorted(answered.items())
                if f"synthetic:{name}" in values["right"]
            }
    of_training = {key: ours[key] for key in ("train_clips_per_language", "epochs", "commit", "machine")}
    # a contestant may have been trained in an earlier call, and on other clips than ours: then that is said
    clips = {name: answered[name]["train_clips_per_language"] for name in ("cnn5", "mel_lda") if name in answered}
    others = {name: n for name, n in clips.items() if n != ours["train_clips_per_language"]}
    of_training |= {"of_earlier_commits": kept} if kept else {}
    return out | of_training | ({"trained_on_other_clips_per_language": others} if others else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("contestants", nargs="*", help=f"of {', '.join(CONTESTANTS)}; all of them if none is named")
    parser.add_argument("--epochs", type=int, default=OURS["epochs"], help="of our network")
    parser.add_argument("--train-clips", type=int, default=600, help="of each language, of eSpeak's, at most")
    given = parser.parse_args()
    if unknown := sorted(set(given.contestants) - set(CONTESTANTS)):
        parser.error(f"expected contestants among {', '.join(CONTESTANTS)}; received {', '.join(unknown)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    params = load_params(ROOT / "params.yaml")
    corpora = {name: synthesised_corpus(name, given.train_clips, params) for name in (*HEARD, "pico5")}
    corpora |= {name: recorded_corpus(name, params) for name in PANELS}
    for contestant in given.contestants or CONTESTANTS:
        log.info("%s", contestant)
        if contestant == "whisper_base":
            right = whisper(corpora)
        else:
            makers: dict[str, Callable[[], Network | MelLda]] = {
                "ours": partial(Network, "ours", OURS | {"epochs": given.epochs}, params),
                "cnn5": partial(Network, "cnn5", ARTICLE, params),
                "mel_lda": MelLda,
            }
            right = trained(makers[contestant], corpora, AGAIN_CLIPS)
        settings = {"train_clips_per_language": given.train_clips, "epochs": given.epochs}
        keep_answers(contestant, right, corpora, settings)
    answered = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(ANSWERS.glob("*.json"))}
    if "ours" in answered:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
        OUT.write_text(json.dumps(table(answered, before), indent=1) + "\n", encoding="utf-8")
        print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
