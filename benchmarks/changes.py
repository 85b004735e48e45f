"""What one changed recording costs, in per cent of making everything: added, removed, relabelled by table or by moving.

    python benchmarks/changes.py --clips 4096 --json

The corpus: MP3 clips of --source, and as many more as are wanted, each made of one of these by cutting frames from its
start; no two hold the same bytes or sound. The five data stages run cold, then after each change, as processes of
their own; then the same changes are made in a second project, where `dvc repro resize` runs them, and once more
without a change. CPU seconds are those of whole process trees, starts included. `decoded` is how many clips the stage
decode made; the others were taken over.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.scratch import DATA_STAGES, ROOT, prepare, run, stage, start_dvc, write_params

DEMO = ROOT / "data/demo/clips"
_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # MPEG 1, layer III
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG 2
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000)}
_FRAMES_CUT = 3  # from one variant to the next: 78 ms at 44.1 kHz


def mp3_frames(content: bytes) -> list[int]:
    """Where each frame of a layer III file starts, and where the last one ends."""
    at = 0
    if content[:3] == b"ID3":
        at = 10 + sum(byte << 7 * (3 - i) for i, byte in enumerate(content[6:10]))
    starts = [at]
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] & 0xE6 == 0xE2:
        version, padding = content[at + 1] >> 3 & 3, content[at + 2] >> 1 & 1
        kbits = (_KBITS if version == 3 else _KBITS_2)[content[at + 2] >> 4]
        rate_hz = _RATES_HZ[version][content[at + 2] >> 2 & 3]
        at += (144_000 if version == 3 else 72_000) * kbits // rate_hz + padding
        starts.append(at)
    return starts


def variants(source: Path) -> Iterator[bytes]:
    """Contents of MP3 files: those of the source, then all of them with some frames less, and again."""
    files = sorted(source.glob("*/*.mp3"), key=lambda path: path.name[::-1])
    if not files:
        sys.exit(f"expected MP3 clips, <language>/<name>.mp3, in {source}, found none; run `make repro` first")
    yield from (path.read_bytes() for path in files)
    for cut in range(1, 100):
        for path in files:
            content = path.read_bytes()
            frames = mp3_frames(content)
            first = 1 + cut * _FRAMES_CUT  # the first frame holds no sound, but the length
            if len(frames) < 2 * first:
                sys.exit(f"{path} is too short to make {cut} more of it; name more clips with --source")
            yield content[frames[first] :]


def write_corpus(source: Path, clips: int, folder: Path) -> None:
    """<folder>/a and b with the clips, a table of them, and one clip more beside them."""
    contents = variants(source)
    for number in range(clips):
        path = folder / "ab"[number % 2] / f"{number:05d}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(next(contents))
    (folder.parent / "new.mp3").write_bytes(next(contents))


def write_table(folder: Path, relabelled: str = "") -> None:
    with (folder.parent / "table.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(("path", "language"))
        for path in sorted(folder.glob("*/*.mp3")):
            name = f"{folder.name}/{path.parent.name}/{path.name}"
            table.writerow((name, "ab"[(path.parent.name == "b") ^ (name == relabelled)]))


def add(project: Path) -> None:
    os.link(project / "new.mp3", project / "clips/a/new.mp3")


def remove(project: Path) -> None:
    (project / "clips/a/new.mp3").unlink()


def move(project: Path) -> None:
    (project / "clips/a/00000.mp3").rename(project / "clips/b/00000.mp3")


def relabel(project: Path) -> None:
    write_table(project / "clips", "clips/a/00002.mp3")


CHANGES: dict[str, Callable[[Path], None]] = {"added": add, "removed": remove, "moved": move, "relabelled": relabel}


def to_table(project: Path) -> None:
    """From folders to a table of the same recordings, before the change that needs one."""
    write_table(project / "clips")
    write_params(project, "table.csv")


def in_stages(project: Path) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, int]]:
    """CPU seconds of each stage cold, and after each change; how many clips decode made then."""
    cold = {one: stage(project, one).cpu for one in DATA_STAGES}
    seconds, decoded = {}, {}
    for change, make in CHANGES.items():
        if make is relabel:
            to_table(project)
            for one in DATA_STAGES:
                stage(project, one)
        make(project)
        runs = {one: stage(project, one) for one in DATA_STAGES}
        seconds[change] = {one: result.cpu for one, result in runs.items()}
        decoded[change] = sum(map(int, re.findall(r"(\d+) clips made", runs["decode"].output)))
    return cold, seconds, decoded


def in_dvc(project: Path) -> dict[str, float]:
    """CPU seconds of `dvc repro resize` after each change, and after none."""
    repro = ("dvc", "repro", "resize")
    start_dvc(project)
    run(project, *repro)
    seconds = {"none": run(project, *repro).cpu}
    for change, make in CHANGES.items():
        if make is relabel:
            to_table(project)
            run(project, *repro)
        make(project)
        seconds[change] = run(project, *repro).cpu
    return seconds


def measure(source: Path = DEMO, clips: int = 4096, rounds: int = 5) -> dict[str, object]:
    totals, per_cent, decoded = [], {change: [] for change in CHANGES}, dict.fromkeys(CHANGES, 0)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        corpus = Path(name) / "corpus"
        write_corpus(source, clips, corpus / "clips")
        for number in range(rounds + 1):
            project = Path(name) / f"round{number}"
            shutil.copytree(corpus, project, copy_function=os.link)  # recordings are only ever moved or removed
            prepare(project, "clips")
            if number == rounds:
                with_dvc = in_dvc(project)
                break
            cold, seconds, made = in_stages(project)
            totals.append(sum(cold.values()))
            for change in CHANGES:
                per_cent[change].append(100 * sum(seconds[change].values()) / totals[-1])
                decoded[change] = max(decoded[change], made[change])
            shutil.rmtree(project)
    return {
        "clips": clips,
        "rounds": rounds,
        "cold_cpu_seconds": round(statistics.median(totals), 2),
        "changes": {
            change: {
                "decoded": decoded[change],
                "percent_of_cold": round(statistics.median(per_cent[change]), 2),
                "dvc_cpu_seconds": round(with_dvc[change], 2),
            }
            for change in CHANGES
        },
        "no_change_dvc_cpu_seconds": round(with_dvc["none"], 2),
    }


def section(result: dict[str, object]) -> str:
    """The result as Markdown, for benchmarks/results.md."""
    changes: dict[str, dict[str, object]] = result["changes"]  # type: ignore[assignment]
    lines = [
        "## One recording changed",
        "",
        f"Of {result['clips']} MP3 clips one is added, removed, moved to another language's folder or relabelled in a "
        f"table; medians of {result['rounds']} rounds. The five data stages take {result['cold_cpu_seconds']} CPU "
        "seconds from nothing. The last column is `dvc repro resize` as a whole, DVC's own work included.",
        "",
        "| change | clips decoded | % of cold | with DVC, CPU seconds |",
        "|---|---|---|---|",
    ]
    for name, change in changes.items():
        lines.append(f"| {name} | {change['decoded']} | {change['percent_of_cold']} | {change['dvc_cpu_seconds']} |")
    lines.append(f"| none | 0 | | {result['no_change_dvc_cpu_seconds']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=Path, default=DEMO, help="<language>/<name>.mp3")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    result = measure(arguments.source.resolve(), arguments.clips, arguments.rounds)
    print(json.dumps(result) if arguments.json else section(result))


if __name__ == "__main__":
    main()
