"""All benchmarks, or those that are named: `python -m benchmarks [NAME...] [--source FOLDER]`.

Each result goes into benchmarks/results.json with the machine and the commit it was measured on; benchmarks/results.md
and the tables in README.md and docs/export.md are made from all of them. The others' results stay as they are. With
--page nothing is measured.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import inspect
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results.json"
PAGE = ROOT / "benchmarks/results.md"
README = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- benchmarks -->\n)(.*?)(<!-- /benchmarks -->)", re.DOTALL)
NAMES = ("data_path", "disk", "changes", "scale", "manifest", "train", "predict", "export")


def machine() -> str:
    """Processor, cores, memory, NVIDIA's GPUs, Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    gpus = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
        gpus = "".join(f"{name}, " for name in names)
    return (
        f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{gigabytes:.0f} GB, {gpus}Python {platform.python_version()}"
    )


def commit() -> str:
    """Short name of the commit, with a + where the working folder differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "stages", "app") else "")


def page(results: dict[str, dict[str, object]]) -> str:
    parts = [
        "# Benchmarks",
        "Written by `make bench`; each benchmark's own head says what is compared with what. CPU seconds are user and "
        "system seconds of whole process trees.",
    ]
    for name in NAMES:
        if name in results:
            record = results[name]
            text = importlib.import_module(f"benchmarks.{name}").section(record["result"])
            parts += [text, f"<sub>{record['machine']}; commit {record['commit']}, {record['date']}</sub>"]
    return "\n\n".join(parts) + "\n"


def filled(readme: str, results: dict[str, dict[str, Any]]) -> str:
    """The README's text with the table of what was measured."""
    rows = [
        f"| {what} | {value} |"
        for name, lines in LINES.items()
        if name in results
        for what, value in lines(results[name]["result"])
    ]
    return _BLOCK.sub(lambda block: "\n".join([f"{block[1]}| | measured |", "|---|---|", *rows, block[3]]), readme)


def _data_path(result: dict[str, Any]) -> list[tuple[str, str]]:
    times = "times the CPU time"
    return [
        ("decode to image, each stage written, verified and hashed, against bare decoding by libsndfile",
         f"{result['ratio_to_bare_decode']:.2f} {times}"),
        ("... against the article's path as published (librosa, kaiser_fast), which keeps nothing",
         f"{result['ratio_to_published_path']:.2f} {times}"),
        ("... against librosa's present defaults (soxr_hq)", f"{result['ratio_to_modern_path']:.2f} {times}"),
        ("... against soundfile, soxr and kaldi-native-fbank", f"{result['ratio_to_kaldi_path']:.2f} {times}"),
        ("... against a process of ffmpeg for each file, and kaldi-native-fbank",
         f"{result['ratio_to_ffmpeg_path']:.2f} {times}"),
        ("two workers against one", f"{result['two_workers_speedup']['all']:.2f} times as fast"),
    ]  # fmt: skip


def _changes(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"one of {result['clips']:,} recordings {name}: share of the cold CPU time, recordings decoded",
         f"{change['percent_of_cold']:.1f} %, {change['decoded']}")
        for name, change in result["changes"].items()
    ]  # fmt: skip


def _scale(result: dict[str, Any]) -> list[tuple[str, str]]:
    largest = max(result["sizes"], key=lambda size: int(size["clips"]))
    return [
        (
            f"`dvc repro` of {largest['clips']:,} recordings, nothing changed",
            f"{largest['unchanged_repro_seconds']['folder']:.1f} s",
        ),
    ]


def _manifest(result: dict[str, Any]) -> list[tuple[str, str]]:
    first = result["archives_first"]
    return [
        (f"manifest of {result['archives'] * result['members']:,} recordings in tar archives",
         f"{first['wall_seconds']:.0f} s, {first['memory_mb']:,} MB"),
    ]  # fmt: skip


def _train(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("training the article's network, against plain `model.fit` in float32",
         f"{result['speed']['ratio_wall']:.2f} times as fast"),
        ("images streamed from disk", f"{result['input']['streamed']['clips_per_second']:,.0f} clips/s"),
    ]  # fmt: skip


def _predict(result: dict[str, Any]) -> list[tuple[str, str]]:
    def told(name: str) -> str:
        return f"{result['start_seconds'][name]:.2f} s, then {result['latency_ms'][name]:.0f} ms a clip"

    lines = [("predict: a process that names the language of one 10 s clip", told("exported"))]
    if "whisper" in result["start_seconds"]:
        lines.append(("... the same by Whisper base (CTranslate2, int8)", told("whisper")))
    return lines


LINES = {
    "data_path": _data_path,
    "changes": _changes,
    "scale": _scale,
    "manifest": _manifest,
    "train": _train,
    "predict": _predict,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--page", action="store_true", help="make the pages anew from what was measured before")
    parser.add_argument("--source", type=Path, help="MP3 clips, <language>/<name>.mp3 (the demo corpus)")
    parser.add_argument("--recordings", type=Path, help="for scale: a list of names and labels, TopCoder's CSV")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.benchmarks) - set(NAMES)):
        parser.error(f"expected names among {', '.join(NAMES)}; received {', '.join(unknown)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in () if arguments.page else arguments.benchmarks or NAMES:
        print(f"{name} ...", flush=True)
        measure = importlib.import_module(f"benchmarks.{name}").measure
        given = {"source": arguments.source, "names": arguments.recordings}
        known = inspect.signature(measure).parameters
        result = measure(**{key: path.resolve() for key, path in given.items() if path and key in known})
        today = datetime.date.today().isoformat()
        results[name] = {"machine": machine(), "commit": commit(), "date": today, "result": result}
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(results))
    README.write_text(filled(README.read_text(), results))
    if "export" in results:
        formats = importlib.import_module("benchmarks.export")
        formats.PAGE.write_text(formats.filled(formats.PAGE.read_text(), results["export"]["result"]))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
