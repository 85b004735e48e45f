"""What a manifest costs: time, CPU, memory and the size of its outs, on made-up files through the real stage.

    python benchmarks/manifest.py --archives 100 --members 10000 --loose 66176 --json

- archives   tar shards with tiny, distinct members, 4 languages: first run, and again with nothing changed
- loose      as many files of their own, as small
- one more   clips of the article's size as files of their own: first run, again, and again with one clip more

CPU seconds are those of the whole process tree; memory is the largest sum of the resident sizes (RSS) of its
processes, looked at every 0.2 s. The files are fresh, so they come from the page cache and not from a disk.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent
_LANGUAGES = 4
_CLIP_BYTES = 160_000  # 10 s of MP3 at 128 kbit/s
_OLD = 10  # seconds; what is younger than two is not remembered


def tiny_files(count: int) -> Iterator[tuple[str, bytes]]:
    """Names as corpora have them, with a speaker for 100 recordings; 40 distinct bytes each."""
    for number in range(count):
        language = number % _LANGUAGES
        yield f"l{language:02d}/speaker{number // 400:05d}/clip-{number:08d}.mp3", f"{number:040d}".encode()


def write_tars(folder: Path, archives: int, members: int) -> None:
    folder.mkdir(parents=True)
    files = tiny_files(archives * members)
    for number in range(archives):
        with tarfile.open(folder / f"part-{number:04d}.tar", "w") as archive:
            for _ in range(members):
                name, data = next(files)
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        _age(folder / f"part-{number:04d}.tar")


def write_loose(folder: Path, files: Iterator[tuple[str, bytes]]) -> None:
    for name, data in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        _age(path)


def _age(path: Path) -> None:
    stamp = time.time() - _OLD
    os.utime(path, (stamp, stamp))


def clips(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    for number in range(first, first + count):
        yield f"l{number % _LANGUAGES:02d}/clip-{number:08d}.mp3", random.Random(number).randbytes(_CLIP_BYTES)


def project(folder: Path, dataset: Path) -> Path:
    """A scratch copy of the stages whose dataset is the one given."""
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] = str(dataset)
    params["manifest"] |= {"split_by": "random", "max_reject_fraction": 0.0}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def run(folder: Path) -> dict[str, float]:
    """One run of the stage."""
    before, start, memory = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    # to a file: a pipe that nobody empties would stop the stage
    with (folder / "log.txt").open("wb") as log:
        command = [sys.executable, "-m", "stages.manifest"]
        with subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                memory = max(memory, _memory(watched))
                time.sleep(0.2)
    if process.returncode:
        sys.exit((folder / "log.txt").read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_seconds": round(time.monotonic() - start, 2),
        "cpu_seconds": round(cpu, 2),
        "memory_mb": round(memory / 1e6),
    }


def _memory(process: psutil.Process) -> int:
    try:
        tree = [process, *process.children(recursive=True)]
        return sum(int(one.memory_info().rss) for one in tree)
    except psutil.Error:  # it ended in between
        return 0


READ = """
import resource
from stages.pipeline.manifest_table import read_manifest
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = read_manifest()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / len(rows))
"""


def dvc_cost(folder: Path, files: int) -> dict[str, float]:
    """Wall ms a file that DVC takes to add a folder of small files, and to see that nothing in it has changed.

    DVC's own start, measured on one file, is left out.
    """
    write_loose(folder / "data", tiny_files(files))
    write_loose(folder / "one", tiny_files(1))
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=folder, check=True)
    took = {}
    for data in ("one", "data"):
        for name, command in (("add", ["add", "-q", data]), ("status", ["status", "-q", f"{data}.dvc"])):
            start = time.monotonic()
            subprocess.run([*dvc, *command], cwd=folder, check=True, capture_output=True)
            took[name, data] = time.monotonic() - start
    return {
        name: round(max(0.0, 1000 * (took[name, "data"] - took[name, "one"]) / files), 4) for name in ("add", "status")
    }


def measure(
    archives: int = 100, members: int = 10_000, loose: int = 66_176, one_more: int = 4_096, dvc_files: int = 20_000
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "archives": archives, "members": members, "loose": loose, "one_more": one_more, "cores": os.cpu_count()
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        scratch = Path(name)
        write_tars(scratch / "tars", archives, members)
        place = project(scratch / "a", scratch / "tars")
        result["archives_first"] = run(place)
        result["archives_again"] = run(place)
        rows = archives * members
        result["manifest_bytes_per_row"] = round((place / "data/manifest.csv").stat().st_size / rows, 1)
        remembered = sum(path.stat().st_size for path in (place / "data/.reuse").rglob("*.json"))
        result["cache_bytes_per_row"] = round(remembered / rows, 1)
        read = subprocess.run([sys.executable, "-c", READ], cwd=place, check=True, capture_output=True, text=True)
        result["memory_bytes_per_row_read"] = round(float(read.stdout))
        shutil.rmtree(scratch / "tars")

        write_loose(scratch / "files", tiny_files(loose))
        place = project(scratch / "b", scratch / "files")
        result["loose_first"] = run(place)
        result["loose_again"] = run(place)
        shutil.rmtree(scratch / "files")

        write_loose(scratch / "clips", clips(0, one_more))
        place = project(scratch / "c", scratch / "clips")
        result["clips_first"] = run(place)
        result["clips_again"] = run(place)
        write_loose(scratch / "clips", clips(one_more, 1))
        result["clips_one_more"] = run(place)
        shutil.rmtree(scratch / "clips")
        (scratch / "dvc").mkdir()
        result["dvc_files"] = dvc_files
        result["dvc_ms_per_file"] = dvc_cost(scratch / "dvc", dvc_files)
    return result


def section(result: dict[str, Any]) -> str:
    """Markdown."""
    rows, dvc = result["archives"] * result["members"], result["dvc_ms_per_file"]
    titles = {
        "archives_first": f"{rows:,} recordings of 40 bytes in {result['archives']:,} tars, first run",
        "archives_again": "again, nothing changed",
        "loose_first": f"{result['loose']:,} files of 40 bytes, first run",
        "loose_again": "again, nothing changed",
        "clips_first": f"{result['one_more']:,} clips of 160 kB as files, first run",
        "clips_again": "again, nothing changed",
        "clips_one_more": "again, one clip more",
    }
    lines = [
        "## Manifest",
        "",
        "The whole manifest stage, start included, as many workers as cores; the files lie in the page cache.",
        f"A row takes {result['manifest_bytes_per_row']:g} bytes in data/manifest.csv and "
        f"{result['cache_bytes_per_row']:g} in the store of what has been hashed; a later stage that reads the "
        f"manifest holds {result['memory_bytes_per_row_read']} bytes for it. DVC takes {dvc['add']:g} ms a file to add "
        f"{result['dvc_files']:,} small ones, {dvc['status']:g} to find them unchanged.",
        "",
        "| run | wall s | CPU s | memory MB |",
        "|---|---|---|---|",
    ]
    for key, title in titles.items():
        values = result[key]
        lines.append(f"| {title} | {values['wall_seconds']:g} | {values['cpu_seconds']:g} | {values['memory_mb']:,} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--archives", type=int, default=100)
    parser.add_argument("--members", type=int, default=10_000, help="recordings in each archive")
    parser.add_argument("--loose", type=int, default=66_176)
    parser.add_argument("--one-more", type=int, default=4_096, help="clips before one is added")
    parser.add_argument("--dvc-files", type=int, default=20_000, help="small files that DVC adds")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    result = measure(options.archives, options.members, options.loose, options.one_more, options.dvc_files)
    print(json.dumps(result) if options.json else section(result))


if __name__ == "__main__":
    main()
