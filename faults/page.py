"""The table of docs/reliability.md from metrics/faults.json: python -m faults.page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from faults.project import ROOT

PAGE = ROOT / "docs/reliability.md"
ROWS = {
    "media": (
        "mutated media: cut, flipped, spliced, misnamed, 20 containers and codecs",
        "each kept or rejected with a reason; no crash, no hang past the limit, 512 MB at most",
    ),
    "bombs": (
        "bombs: 24 h of FLAC in 157 kB, 10 h of silence, 192 kHz in 8 channels, tags and pictures",
        "decided in 5 s and 300 MB, never more than `decode.max_seconds`",
    ),
    "injection": (
        "playlists, protocols, options, archives with `../`, links, rows that leave the folder, pipes, devices",
        "under strace: nothing opened beyond the input, no connect()",
    ),
    "names": (
        "file names: newlines, no UTF-8, leading `-`, `%d`, 255 bytes, clashes of case, right-to-left, `=cmd`",
        "none lost; reports in UTF-8; no formula in a CSV",
    ),
    "kills": (
        "SIGKILL at a random moment: the group, the stage, a worker, ffmpeg, dvc alone; then the same again",
        "the bytes of an undisturbed run; nothing finished is done again; never two writers",
    ),
    "signals": (
        "SIGINT and SIGTERM at a random moment, to the stage and to the group",
        "no process left after 5 s",
    ),
    "disk": (
        "disk full at a random byte; EIO and ENOSPC out of write, fsync, rename",
        "never a success that is none; with room again the same bytes",
    ),
    "training": (
        "training killed at a random moment, a third of the times inside a checkpoint's write; then the same again",
        "the bytes of an undisturbed run: weights, settings, curves; nothing left behind",
    ),
    "flips": (
        "one bit flipped in a shard, its times kept",
        "found before training",
    ),
    "duplicates": (
        "copies planted in another split: other container, re-encoded, softer, cut, faded, over a telephone",
        "all found; no false alarm in 10,000 distinct clips",
    ),
    "invariance": (
        "workers, order, locale, time zone, hash seed, threads, umask, user",
        "one tree of hashes",
    ),
    "models": (
        "hostile models: pickles, Lambdas, external data, shape bombs, `../`",
        "no code run, 1 GB at most, a refusal in words",
    ),
    "fuzzing": (
        "fuzzing: generated and mutated params, manifests, users' tables, quarantines, shards",
        "read, or refused in words: no other error, no crash, 10 s of CPU time and 256 MB at most",
    ),
    "server": (
        "requests to the page, 50 at once: hostile uploads, lying lengths, other sites, slow clients, good ones",
        "answered or closed in time, good ones as ever; no file, socket or thread left; 700 MB at most",
    ),
}
_BLOCK = re.compile(r"(<!-- faults -->\n)(.*?)(<!-- /faults -->)", re.DOTALL)


def table(measured: dict[str, Any]) -> str:
    """The rows, those that were not run included."""
    lines = ["| fault | must hold | tried | failed | commit | again |", "|---|---|---|---|---|---|"]
    for name, (what, holds) in ROWS.items():
        record = measured.get(name)
        numbers = (
            f"{record['tried']:,} of {record['full']:,} | {record['failed']} | {record['commit']}"
            if record
            else "not run yet | | "
        )
        seed = f" --seed {record['seed']}" if record and record["seed"] else ""
        lines.append(f"| {what} | {holds} | {numbers} | `python -m faults {name}{seed}` |")
    return "\n".join(lines) + "\n"


def filled(page: str, measured: dict[str, Any]) -> str:
    """The page with the table anew."""
    return _BLOCK.sub(lambda match: match[1] + table(measured) + match[3], page)


if __name__ == "__main__":
    results = json.loads(Path(ROOT / "metrics/faults.json").read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
