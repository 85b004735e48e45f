"""File names as file systems allow them, through manifest and decode.

Must hold: none is lost (each is a row or rejected, and kept ones can be read back under their own name); every report
is valid UTF-8; no cell of a CSV begins with what a spreadsheet runs as a formula.
"""

from __future__ import annotations

import csv
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import soundfile

from faults.project import Project
from faults.result import Result, must
from faults.sounds import speech_like
from stages.pipeline.paths import unescape_path
from stages.pipeline.shards import Shard, list_shards

FULL = 500
_PIECES = [
    "\n", "\r\n", "\t", "-", "--", "=cmd|' /C calc'!A0", "+1+1", "@SUM(1)", "%d", "%00", "%0A", "%", '"', "'", ",",
    ";", "|", "$(id)", "`id`", "\\", "*", "?", "[a]", "{}", "#", "&", "~", " ", "  ", ":", "file:", "concat:", "http:",
    "<b>", "\u202e3pm.", "\u200b", "\ufeff", "é", "e\u0301", "ÄÖ", "ß", "İ", "ı", "语言", "عربى", "\U0001f3a4\u200d",
    "\U0010ffff", "\ud800x", "CON", "nul", "\x1b[31m", "\x7f", "\x80", "a" * 120, "日" * 40, "..", "...",
]  # fmt: skip
_RAW = [b"\xff\xfe", b"\xc3\x28", b"caf\xe9", b"\xed\xa0\x80", b"\x80\x81\x82"]


def _name(rng: np.random.Generator) -> bytes:
    """Up to 255 bytes without / and NUL."""
    out = b""
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.25:
            out += _RAW[int(rng.integers(len(_RAW)))]
        else:
            out += _PIECES[int(rng.integers(len(_PIECES)))].encode("utf-8", "surrogatepass")
    out = out.replace(b"/", b"_").replace(b"\0", b"_")
    case = b"CLASH" if rng.random() < 0.5 else b"clash"
    out += case if rng.random() < 0.1 else b""
    suffix = [b".wav", b".WAV", b"", b".txt.wav", b".mp3", b". wav"][
        int(rng.choice(6, p=[0.6, 0.1, 0.1, 0.1, 0.05, 0.05]))
    ]
    return out[: 255 - len(suffix)] + suffix


def run(count: int, seed: int, workdir: Path, first: int = 0) -> Result:
    """All names in one folder, in which some language folders have such names too."""
    result = Result()
    corpus = workdir / "corpus"
    made: dict[bytes, int] = {}  # path below the corpus -> number
    languages = [b"de", b"fr", b"=cmd", b"-x", b"\xff\xfe", "语言".encode()]
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        path = languages[number % len(languages)] + b"/" + _name(rng)
        hidden = path.rpartition(b"/")[2][:1] == b"."  # hidden files are left alone, as everywhere
        if hidden or path in made:
            path = languages[number % len(languages)] + b"/x%d" % number + path.rpartition(b"/")[2].lstrip(b".")[:240]
        full = corpus / os.fsdecode(path)
        full.parent.mkdir(parents=True, exist_ok=True)
        with full.open("wb") as handle:  # by handle: soundfile cannot take every name
            soundfile.write(handle, speech_like(number, 0.6, 8000), 8000, format="WAV", subtype="PCM_16")
        made[path] = number
    project = Project(workdir / "project", corpus)
    project.set(manifest={"max_reject_fraction": 1.0, "layout": "folders"}, decode={"max_reject_fraction": 1.0})
    output = project.stage("manifest", "decode")
    output.encode("utf-8")
    found = _found(project.folder)
    for path, number in made.items():
        with result.attempt(number, repr(path)):
            must(path in found, "it is in no shard and in no quarantine.csv")
    for report in sorted([*(project.folder / "data").glob("*.csv"), *(project.folder / "metrics").rglob("*.csv")]):
        with result.attempt(first, f"the report {report.name}"):
            result.tried -= 1  # it is no name
            _check_table(report)
    shutil.rmtree(corpus)
    return result


def _found(folder: Path) -> set[bytes]:
    found = set()
    for path in list_shards(folder / "data/decoded"):
        with Shard(path) as shard:
            found |= {os.fsencode(unescape_path(name)) for name in shard.paths}
    for stage in ("manifest", "decode"):
        with (folder / "metrics" / stage / "quarantine.csv").open(encoding="utf-8", newline="") as handle:
            found |= {os.fsencode(unescape_path(row["path"])) for row in csv.DictReader(handle)}
    return found


def _check_table(report: Path) -> None:
    with report.open(encoding="utf-8", errors="strict", newline="") as handle:
        for row in csv.reader(handle):
            for cell in row:
                must(not cell.startswith(("=", "+", "-", "@", "\t", "\r")), f"a formula: {cell!r}")
                must(all(unicodedata.category(char)[0] != "C" for char in cell), f"control characters: {cell!r}")
