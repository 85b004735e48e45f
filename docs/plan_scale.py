"""What a corpus of a given size costs, by formula from the figures in benchmarks/results.json.

python docs/plan_scale.py --clips 2000000 --core-hour 0.05   # print the table for your own numbers
python docs/plan_scale.py --write                            # fill the block in docs/scale.md
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path("docs/scale.md")
RESULTS = Path("benchmarks/results.json")
_BLOCK = re.compile(r"(<!-- plan -->\n)(.*?)(<!-- /plan -->)", re.DOTALL)
_STAGES = ("decode", "resample", "logmel", "resize")
_FILL = 0.7  # of clips_per_shard: a shard that is full is split in two


@dataclass(frozen=True)
class Inputs:
    """What the reader changes. Prices in dollars; the defaults are round figures of large clouds, not an offer."""

    clips: int = 10_000_000
    clips_per_shard: int = 512
    clip_bytes: int = 160_000
    cores: int = 64
    core_hour: float = 0.04
    gb_month: float = 0.023


def plan(results: dict[str, Any], given: Inputs) -> str:
    """Markdown: a row for each stage, then what is needed altogether."""
    if missing := sorted({"data_path", "manifest"} - results.keys()):
        return f"Not measured yet: run `python -m benchmarks {' '.join(missing)}`.\n"
    path, table = results["data_path"]["result"], results["manifest"]["result"]
    rows = table["archives"] * table["members"]
    first, again = table["archives_first"], table["archives_again"]
    # hashing and reading grow with the bytes, the rest of the manifest with the rows
    per_byte = max(0.0, table["clips_first"]["cpu_seconds"] - table["clips_again"]["cpu_seconds"])
    per_byte /= table["one_more"] * 160_000
    scale = given.clips / rows
    manifest_hours = (first["cpu_seconds"] * scale + per_byte * given.clips * given.clip_bytes) / 3600
    shards = given.clips / (_FILL * given.clips_per_shard)
    lines = [
        "| stage | GB | files | core-hours |",
        "|---|---|---|---|",
        f"| recordings, in 1 GB tars | {_gb(given.clips * given.clip_bytes):,.0f} | "
        f"{given.clips * given.clip_bytes / 1e9:,.0f} | |",
        f"| manifest | {_gb(given.clips * table['manifest_bytes_per_row']):,.1f} | 1 | {manifest_hours:,.1f} |",
    ]
    hours, stored = manifest_hours, _gb(given.clips * given.clip_bytes)
    for stage in _STAGES:
        size = _gb(given.clips * path["bytes_per_clip"][stage])
        work = given.clips * _work_seconds(path, stage) / 3600
        hours, stored = hours + work, stored + size
        lines.append(f"| {stage} | {size:,.0f} | {shards:,.0f} | {work:,.1f} |")
    lines.append(
        f"| together | {stored:,.0f} | {4 * shards + given.clips * given.clip_bytes / 1e9:,.0f} | {hours:,.1f} |"
    )
    kept = _gb(given.clips * (given.clip_bytes + path["bytes_per_clip"]["resize"]))
    dvc = table["dvc_ms_per_file"]
    memory = {
        "the manifest's first run": first["memory_mb"] * 1e6 / rows,
        "the manifest with nothing changed": again["memory_mb"] * 1e6 / rows,
        "a stage that reads the manifest": table["memory_bytes_per_row_read"],
        # four integers and a row number a window, an entry of a dictionary a clip while the index is made
        "train's index beside that": 5 * 8 + 250,
    }
    small = given.clips / (_FILL * 64)
    lines += [
        "",
        f"- **Time**: {hours / given.cores:,.1f} hours on {given.cores} cores, if the disk delivers "
        f"{_gb(given.clips * given.clip_bytes) / max(1e-9, hours / given.cores * 3600) * 1000:,.0f} MB/s.",
        f"- **Money**: {hours * given.core_hour:,.0f} dollars for the cores at {given.core_hour:g} a core-hour; "
        f"{stored * given.gb_month:,.0f} a month for all stages at {given.gb_month:g} a GB, "
        f"{kept * given.gb_month:,.0f} for recordings and features alone.",
        f"- **DVC**: {4 * shards * dvc['add'] / 1000:,.0f} s to take the shards in and "
        f"{4 * shards * dvc['status'] / 1000:,.0f} s to find nothing changed, beside reading the bytes once for their "
        f"hash. With 64 clips a shard it would be {4 * small:,.0f} files, {4 * small * dvc['add'] / 1000:,.0f} s and "
        f"{4 * small * dvc['status'] / 1000:,.0f} s; with recordings as files of their own, "
        f"{given.clips * dvc['status'] / 1000:,.0f} s more each time.",
        "- **Memory** of one process: "
        + "; ".join(f"{name} {_gb(given.clips * size):,.1f} GB" for name, size in memory.items())
        + ".",
        "",
        f"<sub>From the measurements of {results['data_path']['date']} and {results['manifest']['date']}: "
        f"{results['manifest']['machine']}.</sub>",
    ]
    return "\n".join(lines) + "\n"


def _work_seconds(path: dict[str, Any], stage: str) -> float:
    """CPU seconds a clip without the stage's start, which a large corpus pays once."""
    cpu = path["cpu_seconds"]
    return float(cpu[stage] - cpu.get(f"{stage} again", 0)) / int(path["clips"])


def _gb(size: float) -> float:
    return size / 1e9


def filled(page: str, results: dict[str, Any]) -> str:
    """The page's text with its block as the results have it."""
    return _BLOCK.sub(lambda block: block[1] + plan(results, Inputs()) + block[3], page)


def load() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.exists() else {}


def write() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), load()), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="fill docs/scale.md")
    for name, value in vars(Inputs()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    if options.pop("write"):
        write()
    else:
        print(plan(load(), Inputs(**options)))


if __name__ == "__main__":
    main()
