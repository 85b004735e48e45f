"""Cost against the number of recordings: CPU and memory of the data stages, time of `dvc repro` without a change.

    python benchmarks/scale.py --clips 1000 4000 16000 66176 --json

Recordings of one second, 16 kHz, in WAV, made in a moment from the recording's number. Names and labels are those of
the list given with --names (TopCoder's `Sample Filename,Language`), else made up; a size smaller than the list takes
its first languages. The stages run as processes of their own; their memory is the kernel's own peak (VmHWM), looked up
ten times a second for the stage's process and for each of its workers. Then `dvc repro resize` records what there is,
and runs three more times without a change: the median of these is told, with the dataset given as a table, and as a
folder for each language. Also writes benchmarks/scale.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.scratch import DATA_STAGES, ROOT, prepare, run, start_dvc, write_params

SIZES = (1000, 4000, 16000, 66176)
PLOT = ROOT / "benchmarks/scale.png"
_RATE_HZ = 16000
_PER_LANGUAGE = 376
_LOOK_SECONDS = 0.1


def read_names(path: Path | None) -> list[tuple[str, str]]:
    """(file name, language) of a list; nothing without one."""
    if path is None:
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return [(row["Sample Filename"], row["Language"]) for row in csv.DictReader(handle)]


def choose(names: list[tuple[str, str]], clips: int) -> list[tuple[str, str]]:
    """`clips` names with their languages, the same number of each language as far as it goes."""
    languages = max(2, round(clips / _PER_LANGUAGE))
    if len(names) < clips:
        return [(f"{number:07d}.wav", f"language {number % languages}") for number in range(clips)]
    by_language: dict[str, list[str]] = defaultdict(list)
    for name, language in names:
        by_language[language].append(name)
    turns = [
        (members[turn], language)
        for group in (sorted(by_language)[:languages], sorted(by_language)[languages:])
        for turn in range(max((len(by_language[one]) for one in group), default=0))
        for language in group
        if turn < len(members := sorted(by_language[language]))
    ]
    return turns[:clips]


def write_corpus(folder: Path, names: Sequence[tuple[str, str]]) -> None:
    """table/table.csv with table/<name>, and the same files again in folders/<language>/."""
    rng = np.random.default_rng(0)
    time = np.arange(_RATE_HZ) / _RATE_HZ
    noise = rng.normal(0, 300, 4 * _RATE_HZ)
    (folder / "table").mkdir(parents=True)
    with (folder / "table/table.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(("Sample Filename", "Language"))
        for number, (name, language) in enumerate(names):
            table.writerow((name, language))
            start = int(rng.integers(3 * _RATE_HZ))
            tone = 8000 * np.sin(2 * np.pi * (100 + number * 0.01) * time) + noise[start : start + _RATE_HZ]
            path = folder / "table" / name
            with path.open("wb") as file:  # by its own name: TopCoder's end in .mp3, and libsndfile looks inside
                soundfile.write(file, tone.astype(np.int16), _RATE_HZ, format="WAV")
            other = folder / "folders" / language / name
            other.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, other)


class Peaks:
    """Peak memory in MB of a process and of its workers, while it runs."""

    def __init__(self, process: int) -> None:
        self._process, self._peaks = psutil.Process(process), dict[int, float]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                pids = [self._process.pid, *(child.pid for child in self._process.children(recursive=True))]
            except psutil.Error:
                return
            for pid in pids:
                try:
                    text = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                if "VmHWM:" in text:
                    peak = int(text.split("VmHWM:")[1].split()[0]) / 1024
                    self._peaks[pid] = max(peak, self._peaks.get(pid, 0))

    def stop(self) -> tuple[float, float]:
        """(the process itself, the largest of its workers)."""
        self._stop.set()
        self._thread.join()
        workers = [peak for pid, peak in self._peaks.items() if pid != self._process.pid]
        return round(self._peaks.get(self._process.pid, 0)), round(max(workers, default=0))


def watch(folder: Path, stage: str) -> dict[str, float]:
    """CPU and wall seconds and peak memory of one stage."""
    # a process between this one and the stage, so that the CPU time of the stage's tree is all that it has waited for
    code = (
        "import json,os,resource,subprocess,sys,time\n"
        "start=time.monotonic(); process=subprocess.Popen(sys.argv[1:],stderr=subprocess.PIPE,text=True)\n"
        "print(process.pid,flush=True); errors=process.communicate()[1]\n"
        "use=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([process.returncode,use.ru_utime+use.ru_stime,time.monotonic()-start,errors[-2000:]]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out = process.stdout
        if out is None:
            raise RuntimeError("no pipe")
        peaks = Peaks(int(out.readline()))
        status, cpu, wall, errors = json.loads(out.read())
    main, worker = peaks.stop()
    if status:
        sys.exit(f"{stage} ended with status {status}:\n{errors}")
    return {"cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2), "main_mb": main, "worker_mb": worker}


def measure_size(names: list[tuple[str, str]], clips: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        write_corpus(folder, choose(names, clips))
        prepare(folder, "table/table.csv")
        stages = {one: watch(folder, one) for one in DATA_STAGES}
        shards = len(list((folder / "data/decoded").glob("*.h5")))
        start_dvc(folder)
        unchanged = {}
        for kind, dataset in (("table", "table/table.csv"), ("folder", "folders")):
            write_params(folder, dataset)
            run(folder, "dvc", "repro", "resize")
            unchanged[kind] = round(statistics.median(run(folder, "dvc", "repro", "resize").wall for _ in range(3)), 2)
    return {"clips": clips, "shards": shards, "stages": stages, "unchanged_repro_seconds": unchanged}


def measure(sizes: Sequence[int] = SIZES, names: Path | None = None, plot: Path = PLOT) -> dict[str, object]:
    listed = read_names(names)
    results = [measure_size(listed, clips) for clips in sizes]
    draw(results, plot)
    return {"names": "of the list" if listed else "made up", "sizes": results}


def _cpu(result: dict[str, object], stage: str) -> float:
    return float(result["stages"][stage]["cpu_seconds"])  # type: ignore[index]


def draw(results: list[dict[str, object]], path: Path) -> None:
    """CPU seconds over clips, both axes logarithmic, with a line of slope one."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    clips = np.array([int(str(result["clips"])) for result in results])
    figure, axes = plt.subplots(figsize=(6, 4.5), dpi=110, layout="constrained")
    for stage in DATA_STAGES:
        axes.loglog(clips, [_cpu(result, stage) for result in results], "o-", label=stage)
    total = [sum(_cpu(result, stage) for stage in DATA_STAGES) for result in results]
    axes.loglog(clips, total, "ko-", label="all five")
    axes.loglog(clips, total[-1] * clips / clips[-1], "k:", label="proportional")
    unchanged = [result["unchanged_repro_seconds"]["table"] for result in results]  # type: ignore[index]
    axes.loglog(clips, unchanged, "s--", color="grey", label="dvc repro, no change (s)")
    axes.set(xlabel="recordings of 1 s", ylabel="CPU seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def section(result: dict[str, object]) -> str:
    """The result as Markdown, for benchmarks/results.md."""
    sizes: list[dict[str, object]] = result["sizes"]  # type: ignore[assignment]
    lines = [
        "## Cost against the number of recordings",
        f"Recordings of 1 s, names and labels {result['names']}. CPU seconds of the five data stages from nothing; the "
        "highest memory that any stage's own process, and any worker, took; seconds on the clock of `dvc repro resize` "
        "when nothing has changed, with the dataset as a table and as folders.",
        "",
        "| recordings | shards | CPU s | ms a recording | main process, MB | worker, MB | no change: table | folders |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        stages: dict[str, dict[str, float]] = size["stages"]  # type: ignore[assignment]
        unchanged: dict[str, float] = size["unchanged_repro_seconds"]  # type: ignore[assignment]
        cpu, clips = sum(_cpu(size, one) for one in DATA_STAGES), int(str(size["clips"]))
        main, worker = (max(stage[key] for stage in stages.values()) for key in ("main_mb", "worker_mb"))
        lines.append(
            f"| {clips} | {size['shards']} | {cpu:.1f} | {1000 * cpu / clips:.2f} | {main:.0f} | {worker:.0f} | "
            f"{unchanged['table']:.2f} s | {unchanged['folder']:.2f} s |"
        )
    return "\n".join([*lines, "", "![CPU seconds over recordings, both axes logarithmic](scale.png)"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=SIZES)
    parser.add_argument("--names", type=Path, help="CSV with the columns Sample Filename and Language")
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    result = measure(arguments.clips, arguments.names, arguments.plot)
    print(json.dumps(result) if arguments.json else section(result))


if __name__ == "__main__":
    main()
