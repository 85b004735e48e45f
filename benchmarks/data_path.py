"""What the data path costs beside its peers, on the same MP3 clips in the same run.

    python benchmarks/data_path.py --clips 200 --json

Contestants run in turn, each as a process of its own with one worker; CPU seconds are those of the whole process
tree, start included; each figure is the median over the rounds.

- bare decode     libsndfile reads each file, nothing is kept
- published path  the 2017 article's: librosa.load(kaiser_fast), melspectrogram, power_to_db; nothing is kept
- modern path     the same with librosa's present defaults (soxr_hq); nothing is kept
- ours            decode, resample, logmel and resize: each written to disk, verified and hashed
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("decode", "resample", "logmel", "resize")
OUTS = {"decode": "decoded", "resample": "resampled", "logmel": "logmel", "resize": "features"}

BARE = """
import sys, soundfile
for path in sys.argv[1:]:
    soundfile.read(path, dtype="float32")
"""
LIBROSA = """
import sys, librosa
for path in sys.argv[2:]:
    samples, rate = librosa.load(path, sr=16000, res_type=sys.argv[1])
    power = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=1024, hop_length=160, n_mels=192)
    librosa.power_to_db(power)
"""


def cpu_seconds(command: list[str], folder: Path) -> float:
    """User and system seconds of a process and all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    subprocess.run(command, cwd=folder, env={**os.environ, **threads}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(source: Path, clips: int, folder: Path) -> list[str]:
    """A scratch project whose dataset is `clips` of the demo's clips; the clips' paths."""
    found = sorted(source.glob("*/*.mp3"), key=lambda path: path.name[::-1])[:clips]
    if len(found) < clips:
        sys.exit(f"expected {clips} MP3 clips in {source}, found {len(found)}; run `make repro` first")
    for number, path in enumerate(found):
        # two labels, so that few clips fill every split: labels cost nothing here
        target = folder / "clips" / "ab"[number % 2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] = "clips"
    params["manifest"] |= {"split_by": "random", "max_reject_fraction": 0.0}
    params["execution"] |= {"workers": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run([sys.executable, "-m", "stages.manifest"], cwd=folder, check=True, capture_output=True)
    return [os.path.relpath(path, folder) for path in sorted((folder / "clips").glob("*/*.mp3"))]


def measure(source: Path, clips: int, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        files = prepare(source, clips, folder)
        peers = {
            "bare": [sys.executable, "-c", BARE, *files],
            "published": [sys.executable, "-c", LIBROSA, "kaiser_fast", *files],
            "modern": [sys.executable, "-c", LIBROSA, "soxr_hq", *files],
        }
        seconds: dict[str, list[float]] = {name: [] for name in (*peers, *STAGES)}
        cpu_seconds([sys.executable, "-c", LIBROSA, "kaiser_fast", files[0]], folder)  # numba compiles and caches
        for _ in range(rounds):
            for peer, command in peers.items():
                seconds[peer].append(cpu_seconds(command, folder))
            shutil.rmtree(folder / "data/.reuse", ignore_errors=True)
            for stage in STAGES:
                seconds[stage].append(cpu_seconds([sys.executable, "-m", f"stages.{stage}"], folder))
        sizes = {
            stage: sum(path.stat().st_size for path in (folder / "data" / OUTS[stage]).glob("*.h5")) for stage in STAGES
        }
    ours = [sum(values) for values in zip(*(seconds[stage] for stage in STAGES), strict=True)]

    def ratio(peer: str) -> float:
        return round(statistics.median(a / b for a, b in zip(ours, seconds[peer], strict=True)), 2)

    return {
        "clips": clips,
        "rounds": rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "ratio_to_bare_decode": ratio("bare"),
        "ratio_to_published_path": ratio("published"),
        "ratio_to_modern_path": ratio("modern"),
        "clips_per_cpu_second": round(clips / statistics.median(ours), 1),
        "bytes_per_clip": {stage: sizes[stage] // clips for stage in STAGES},
        "cpu_seconds": {name: round(statistics.median(values), 2) for name, values in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=Path, default=ROOT / "data/demo/clips", help="<language>/<name>.mp3")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    result = measure(arguments.source.resolve(), arguments.clips, arguments.rounds)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
