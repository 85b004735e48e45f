"""What the data path costs beside its peers, on the same MP3 clips in the same run.

    python benchmarks/data_path.py --clips 300 --json

The contestants run in turn, each as processes of its own on one core; CPU seconds are those of the whole process
tree, start included; each ratio is the median over the rounds. `benchmarks/peers.py` holds the peers. Ours is decode,
resample, logmel and resize, each written to disk, verified and hashed. Last, the wall time of the same stages with one
worker and with two, over more clips (a stage's start is not divided), which needs two idle cores to mean anything.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.scratch import ROOT, Run, run, stage, write_params

STAGES = ("decode", "resample", "logmel", "resize")
OUTS = {"decode": "decoded", "resample": "resampled", "logmel": "logmel", "resize": "features"}
PEERS = ("bare", "functions", "modern", "published", "kaldi", "ffmpeg")
DEMO = ROOT / "data/demo/clips"


def prepare(source: Path, clips: int, folder: Path) -> list[str]:
    """A scratch project whose dataset is `clips` of the demo's clips; the clips' paths."""
    found = sorted(source.glob("*/*.mp3"), key=lambda path: path.name[::-1])[:clips]
    if len(found) < clips:
        sys.exit(f"expected {clips} MP3 clips in {source}, found {len(found)}; run `make repro` first")
    (folder / "clips").mkdir()
    with (folder / "clips/corpus.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(("path", "language", "split"))
        for number, path in enumerate(found):  # labels cost nothing here: two, so that few clips fill each split
            shutil.copy(path, folder / "clips" / path.name)
            table.writerow((path.name, "ab"[number % 2], ("train", "test")[number // 2 % 2]))
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    write_params(folder, "clips", workers=1)
    stage(folder, "manifest")
    return [os.path.relpath(path, folder) for path in sorted((folder / "clips").glob("*.mp3"))]


def run_stages(folder: Path, workers: int) -> dict[str, Run]:
    """CPU and wall seconds of each stage that makes everything anew."""
    write_params(folder, "clips", workers=workers)
    shutil.rmtree(folder / "data/.reuse", ignore_errors=True)
    return {one: stage(folder, one) for one in STAGES}


def two_workers(source: Path, clips: int, rounds: int) -> dict[str, float]:
    """Wall time with one worker over that with two, by stage; medians."""
    speedup: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        prepare(source, clips, Path(name))
        for _ in range(rounds):
            walls = [{one: done.wall for one, done in run_stages(Path(name), n).items()} for n in (1, 2)]
            for one in STAGES:
                speedup[one].append(walls[0][one] / walls[1][one])
            speedup["all"].append(sum(walls[0].values()) / sum(walls[1].values()))
    return {name: round(statistics.median(values), 2) for name, values in speedup.items()}


def measure(
    source: Path = DEMO, clips: int = 300, rounds: int = 5, speedup_clips: int = 3000, speedup_rounds: int = 1
) -> dict[str, object]:
    cpu: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        files = prepare(source, clips, folder)
        peer = {name: [sys.executable, str(ROOT / "benchmarks/peers.py"), name] for name in PEERS}
        run(folder, *peer["published"], files[0])  # numba compiles and caches
        for _ in range(rounds):
            for contestant in PEERS:
                cpu[contestant].append(run(folder, *peer[contestant], *files).cpu)
            for one, done in run_stages(folder, 1).items():
                cpu[one].append(done.cpu)
            for one in STAGES:
                cpu[f"{one} again"].append(stage(folder, one).cpu)  # finds all its shards: the start
        sizes = {one: sum(path.stat().st_size for path in (folder / "data" / OUTS[one]).glob("*.h5")) for one in STAGES}
    cpu["ours"] = [sum(values) for values in zip(*(cpu[one] for one in STAGES), strict=True)]
    cpu["starts"] = [sum(values) for values in zip(*(cpu[f"{one} again"] for one in STAGES), strict=True)]

    def ratio(contestant: str) -> float:
        return round(statistics.median(a / b for a, b in zip(cpu["ours"], cpu[contestant], strict=True)), 2)

    median = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "clips": clips,
        "rounds": rounds,
        "ratio_to_bare_decode": ratio("bare"),
        "ratio_to_published_path": ratio("published"),
        "ratio_to_modern_path": ratio("modern"),
        "ratio_to_kaldi_path": ratio("kaldi"),
        "ratio_to_ffmpeg_path": ratio("ffmpeg"),
        "ratio_to_own_functions": ratio("functions"),
        "clips_per_cpu_second": round(clips / median["ours"], 1),
        "bytes_per_clip": {one: sizes[one] // clips for one in STAGES},
        "cpu_seconds": {name: round(value, 3) for name, value in median.items()},
        "speedup_clips": speedup_clips,
        "two_workers_speedup": two_workers(source, speedup_clips, speedup_rounds),
    }


def section(result: dict[str, object]) -> str:
    """The result as Markdown, for benchmarks/results.md."""
    cpu: dict[str, float] = result["cpu_seconds"]  # type: ignore[assignment]
    speedup: dict[str, float] = result["two_workers_speedup"]  # type: ignore[assignment]
    sizes: dict[str, int] = result["bytes_per_clip"]  # type: ignore[assignment]
    clips = int(str(result["clips"]))

    def line(label: str, *names: str) -> str:
        seconds = sum(cpu[name] for name in names)
        return f"| {label} | {1000 * seconds / clips:.2f} | {seconds / cpu['bare']:.2f} | {cpu['ours'] / seconds:.2f} |"

    work = {one: 1000 * (cpu[one] - cpu[f"{one} again"]) / clips for one in STAGES}
    rows = [
        line("bare decode: libsndfile, nothing else", "bare"),
        line("**decode + resample + logmel + resize**: written, verified, hashed", "ours"),
        line("the same four functions in one process, nothing written", "functions"),
        line("librosa with its present defaults (soxr_hq), nothing written", "modern"),
        line("the article's path as published (kaiser_fast), nothing written", "published"),
        line("soundfile + soxr + kaldi-native-fbank (80 bands), nothing written", "kaldi"),
        line("a process of ffmpeg a file + kaldi-native-fbank, nothing written", "ffmpeg"),
    ]
    stage_rows = [
        f"| {one} | {cpu[one]:.2f} | {cpu[f'{one} again']:.2f} | {work[one]:.2f} | {sizes[one]:,} | "
        f"{speedup[one]:.2f} |"
        for one in STAGES
    ]
    return "\n".join(
        [
            "## Data path",
            "",
            f"{clips} MP3 clips of 10 s, 44.1 kHz stereo; CPU time of the whole process tree, starts included; medians "
            f"of {result['rounds']} runs in turn.",
            "",
            "| path | CPU ms a clip | times bare decode | ours takes |",
            "|---|---|---|---|",
            *rows,
            "",
            "A stage's start is the stage run again with nothing to do; its work is the rest. Two workers against one: "
            f"the ratio of wall times over {result['speedup_clips']} clips.",
            "",
            "| stage | CPU s | of that the start | work, ms a clip | bytes a clip | two workers against one |",
            "|---|---|---|---|---|---|",
            *stage_rows,
            f"| all | {cpu['ours']:.2f} | {cpu['starts']:.2f} | {sum(work.values()):.2f} | {sum(sizes.values()):,} | "
            f"{speedup['all']:.2f} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, help="(300)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--speedup-clips", type=int, help="to compare one worker with two (3000, or --clips if given)")
    parser.add_argument("--speedup-rounds", type=int, default=1)
    parser.add_argument("--source", type=Path, default=DEMO, help="<language>/<name>.mp3")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of Markdown")
    arguments = parser.parse_args()
    result = measure(
        arguments.source.resolve(),
        arguments.clips or 300,
        arguments.rounds,
        arguments.speedup_clips or arguments.clips or 3000,
        arguments.speedup_rounds,
    )
    print(json.dumps(result) if arguments.json else section(result))


if __name__ == "__main__":
    main()
