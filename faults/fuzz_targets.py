"""What fuzzing reads: one class for each kind of file, made from real ones and read by the product's own reader.

`make` gives the input of one run, `read` has it read: any error but those that a stage tells in words is a finding.
"""

from __future__ import annotations

import csv
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import yaml
from hypothesis import strategies as st

from app.report.collect import _quarantine
from faults.mutations import (
    CELLS,
    DRAWN_SHARE,
    VALUES,
    any_value,
    changed_table,
    changed_values,
    changed_yaml,
    damaged,
    drawn,
    encoded,
    table_text,
)
from faults.project import ROOT
from faults.result import must
from stages.manifest import select
from stages.pipeline.account import account
from stages.pipeline.errors import PipelineError, RejectedClip
from stages.pipeline.files import sha256_of_json
from stages.pipeline.fingerprint import fingerprints
from stages.pipeline.layouts import find_recordings
from stages.pipeline.manifest_table import COLUMNS, SPLITS, Row, clip_id, read_manifest
from stages.pipeline.params import load_params, parse_params
from stages.pipeline.paths import escape_path
from stages.pipeline.recording_file import open_recording
from stages.pipeline.shards import Rejection
from stages.pipeline.stat_cache import StatCache
from stages.pipeline.yaml12 import load_yaml12

PARAMS_TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
PARAMS: dict[str, Any] = load_yaml12(PARAMS_TEXT)
# What a stage tells in one line with status 2 to 75, whoever raises it: stages.pipeline.stage_main
TOLD = (PipelineError, OSError)


class Target(Protocol):
    """drawn : inputs that hypothesis drew."""

    drawn: int

    def make(self, rng: random.Random) -> Any: ...

    def read(self, value: Any) -> None: ...


class ParamsFile:
    """params.yaml, all of it or, as that takes a few milliseconds, a section at a time."""

    def __init__(self, folder: Path, whole: bool) -> None:
        self.drawn, self._whole, self._path = 0, whole, folder / "params.yaml"
        blocks = [f"{block}\n" for block in PARAMS_TEXT.split("\n\n") if block and not block.startswith("#")]
        self._texts = [PARAMS_TEXT] if whole else blocks
        self._draw = drawn(st.lists(st.tuples(st.sampled_from([*PARAMS, "x"]), any_value()), min_size=1, max_size=3))

    def make(self, rng: random.Random) -> bytes:
        if rng.random() < DRAWN_SHARE and (pairs := self._draw(rng)) is not None:
            self.drawn += 1
            with suppress(yaml.YAMLError):  # not all that is drawn can be written as YAML
                return yaml.safe_dump(dict(pairs), allow_unicode=True).encode("utf-8", "surrogatepass")
        return changed_yaml(rng.choice(self._texts), rng)

    def read(self, value: bytes) -> None:
        self._path.write_bytes(value)
        if self._whole:
            load_params(self._path)
            return
        with suppress(PipelineError):
            load_params(self._path)  # the other sections are missing: always refused
        try:
            values = load_yaml12(value.decode("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            return
        parse_params({**PARAMS, **values} if isinstance(values, dict) else values)


class ParamsValues:
    """The values in params.yaml, as they are after YAML, and what those that are taken are hashed to."""

    def __init__(self, folder: Path) -> None:
        self.drawn = 0
        self._draw = drawn(any_value())

    def make(self, rng: random.Random) -> dict[str, Any]:
        if rng.random() < DRAWN_SHARE:
            self.drawn += 1
            return changed_values(PARAMS, rng, lambda: self._draw(rng))
        return changed_values(PARAMS, rng, lambda: rng.choice(VALUES))

    def read(self, value: dict[str, Any]) -> None:
        params = parse_params(value)
        sha256_of_json(params.model_dump(mode="json"))
        str(params)


class Manifest:
    """data/manifest.csv, and the recordings that its first rows name."""

    def __init__(self, folder: Path) -> None:
        self.drawn, self._root, self._path = 0, folder, folder / "manifest.csv"
        (folder / "es").mkdir()
        (folder / "es/a.wav").write_bytes(b"sound")
        (folder / "fr.tar").write_bytes(bytes(2000))
        paths = ["es/a.wav", "fr.tar/b.wav", "es/%0A,%22.mp3", "es/ü; x.wav", "gone.wav"]
        self._rows = [
            Row(clip_id(path), path, path[:2], f"g{i}", SPLITS[i % 3], clip_id(path) * 4, f"s{i}", "512+9" * (i == 1))
            for i, path in enumerate(paths)
        ]
        cell = st.one_of(st.text(max_size=20), st.sampled_from(CELLS))
        self._draw = drawn(st.lists(st.lists(cell, min_size=7, max_size=9), min_size=1, max_size=3))

    def make(self, rng: random.Random) -> bytes:
        rows = [list(row) for row in self._rows[: rng.randrange(1, 6)]]
        if rng.random() < DRAWN_SHARE and (others := self._draw(rng)) is not None:
            self.drawn += 1
            for other in others:  # a row with some cells of a good one, so that the checks after the first are reached
                good = rng.choice(self._rows)
                rows.append([g if rng.random() < 0.6 else o for g, o in zip(good, other, strict=False)])
            return damaged(encoded(table_text([list(COLUMNS), *rows], ","), rng), rng)
        return changed_table([list(COLUMNS), *rows], ",", rng)

    def read(self, value: bytes) -> None:
        self._path.write_bytes(value)
        for row in read_manifest(self._path)[:3]:
            must(row.split in SPLITS and "/" not in row.shard, f"{row} was taken")
            with suppress(*TOLD), open_recording(self._root, row) as (handle, _):
                handle.read(100)


class Tables:
    """Tables of users, in each layout that has one, up to the look at the files that they name."""

    def __init__(self, folder: Path) -> None:
        self.drawn = 0
        self._params = parse_params(PARAMS).manifest
        self._layouts: list[tuple[Path, Path, str, list[list[str]]]] = []  # dataset, table, delimiter, rows
        own = [["path", "language", "group", "split"], ["a.wav", "es", "ana", "train"], ["x/b.wav", "fr", "luc", "dev"]]
        scores = [["Sample Filename", "Language"], ["a.wav", "es"], ["b.wav", "fr"]]
        voices = [
            ["client_id", "path", "sentence", "locale"],
            ["ana", "a", 'He said "no', "es"],
            ["luc", "b.mp3", "", ""],
        ]
        sentences = [["1", "a.wav", "Hola.", "hola", "32000"], ["2", "b.wav", "Bien.", "bien", "16000"]]
        self._add(folder / "table/t.csv", folder / "table/t.csv", ",", own)
        self._add(folder / "tabs/t.tsv", folder / "tabs/t.tsv", "\t", own)
        self._add(folder / "corpus", folder / "corpus/corpus.csv", ",", own)
        self._add(folder / "topcoder/t.csv", folder / "topcoder/t.csv", ",", scores)
        self._add(folder / "voices", folder / "voices/es/validated.tsv", "\t", voices)
        self._add(folder / "fleurs", folder / "fleurs/es/train.tsv", "\t", sentences)
        for place in ("table", "voices/es/clips", "fleurs/es/audio/train"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / "a.wav").write_bytes(b"sound")
        self._cache = StatCache(str(folder), folder / "reuse")
        cell = st.one_of(st.text(max_size=20), st.sampled_from(CELLS))
        self._draw = drawn(st.lists(st.lists(cell, max_size=5), min_size=1, max_size=4))

    def _add(self, dataset: Path, table: Path, delimiter: str, rows: list[list[str]]) -> None:
        table.parent.mkdir(parents=True)
        self._layouts.append((dataset, table, delimiter, rows))

    def make(self, rng: random.Random) -> tuple[int, bytes]:
        number = rng.randrange(len(self._layouts))
        _, _, delimiter, rows = self._layouts[number]
        if rng.random() < DRAWN_SHARE and (others := self._draw(rng)) is not None:
            self.drawn += 1
            return number, damaged(encoded(table_text([rows[0], *others], delimiter), rng), rng)
        return number, changed_table(rows, delimiter, rng)

    def read(self, value: tuple[int, bytes]) -> None:
        dataset, table, _, _ = self._layouts[value[0]]
        table.write_bytes(value[1])
        _, entries = find_recordings(str(dataset), self._params)
        root = dataset if dataset.is_dir() else dataset.parent
        chosen = select(entries, self._params)
        found = fingerprints(root, chosen, 1, self._cache)
        must(len(found) == len(chosen), f"{len(chosen)} recordings, {len(found)} results")
        for entry in chosen:
            for text in (entry.path, entry.language, entry.group):
                must(
                    "\n" not in escape_path(text).encode("utf-8").decode("ascii", "replace"), f"{text!r} is not escaped"
                )


class Quarantine:
    """The account of what was rejected: quarantine.csv as a spreadsheet reads it back, summary.json as the report does.

    That a shard gives its own rejections is part of `Shards`.
    """

    def __init__(self, folder: Path) -> None:
        self.drawn = 0
        text = st.one_of(st.text(max_size=30), st.sampled_from(CELLS))
        self._draw = drawn(st.lists(st.builds(_rejection, text, text), min_size=1, max_size=3))

    def make(self, rng: random.Random) -> list[Rejection] | bytes:
        if rng.random() < DRAWN_SHARE and (entries := self._draw(rng)):
            self.drawn += 1
            return [*entries]
        values = {"rows": 5, "kept": 3, "rejected": 2, "hours": 0.5, "reasons": {"silent": 1, "missing": 1}}
        if rng.random() < 0.5:
            values = changed_values(values, rng, lambda: rng.choice(VALUES))
        with suppress(TypeError, ValueError):
            return damaged(json.dumps(values, indent=2).encode(), rng)
        return damaged(rng.choice((b"[" * 5000, b"{}", b"[]", b"5", b"", b'{"rows": 1e999}')), rng)

    def read(self, value: list[Rejection] | bytes) -> None:
        folder = Path("metrics/decode")
        if isinstance(value, bytes):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "summary.json").write_bytes(value)
            _quarantine()
            return
        account("decode", len(value) + 1, 1, 1.0, value, limit=1.0)
        with (folder / "quarantine.csv").open(encoding="utf-8", newline="") as handle:
            back = [Rejection(**row) for row in csv.DictReader(handle)]
        must(back == value, f"{value} was written, {back} came back")


def _rejection(path: str, detail: str) -> Rejection:
    """As every stage makes one, whatever the file's name and the decoder's words are."""
    escaped = escape_path(path)
    return Rejection(clip_id(escaped), escaped, "undecodable", RejectedClip("undecodable", detail).detail)
