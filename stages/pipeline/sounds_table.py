"""data/sounds.csv: what is said when in those training recordings of which the dataset tells it.

A dataset tells it in a table `sounds.csv` beside its recordings, with the columns `path`, `seconds` (how long the
recording is) and `sounds`, in IPA: `0.120 b|0.251 ˈa|0.410 ` is b from 0.12 s, a stressed a from 0.251 s, and a pause
from 0.41 s on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from stages.pipeline.errors import StorageError
from stages.pipeline.files import write_atomically
from stages.pipeline.manifest_table import Row, clip_id
from stages.pipeline.paths import escape_path

SOUNDS_OF_DATASET = "sounds.csv"
SOUNDS = Path("data/sounds.csv")
COLUMNS = ("id", "seconds", "sounds")
BETWEEN = "|"
LONGEST_SECONDS = 1e6
LONGEST_CELL = 2**26  # characters; an hour of speech has some 50,000 sounds


class Said(NamedTuple):
    """seconds : the recording's length; begins : seconds, rising; sounds : as many, IPA, "" for a pause"""

    seconds: float
    begins: tuple[float, ...]
    sounds: tuple[str, ...]


def copy_sounds(root: Path, rows: Iterable[Row], target: Path = SOUNDS) -> int:
    """Write what the dataset in `root` tells of the training recordings among `rows`; a header alone if nothing.

    Returns
    -------
    Of how many recordings it tells.

    Raises
    ------
    StorageError
        Its table cannot be read.
    """
    training = {row.id for row in rows if row.split == "train"}
    source, count = root / SOUNDS_OF_DATASET, 0
    with write_atomically(target) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for path, seconds, text in _table(source, "path") if source.is_file() else ():
            name = clip_id(escape_path(path))
            if name in training:
                _parsed(seconds, text, source)
                writer.writerow((name, seconds, text))
                count += 1
    return count


def read_sounds(path: Path = SOUNDS) -> dict[str, Said]:
    """By the clips' ids.

    Raises
    ------
    StorageError
        The table is missing or damaged.
    """
    if not path.is_file():
        raise StorageError(f"expected {path}, which the manifest stage writes; run `dvc repro manifest`")
    return {name: _parsed(seconds, text, path) for name, seconds, text in _table(path, "id")}


def _table(path: Path, name: str) -> Iterator[tuple[str, ...]]:
    columns = (name, *COLUMNS[1:])
    others_limit = csv.field_size_limit(LONGEST_CELL)  # it is the process's
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as handle:
            reader = csv.DictReader(handle)
            if not set(columns) <= set(reader.fieldnames or ()):
                found = escape_path(",".join(reader.fieldnames or ())[:200])
                raise StorageError(f"{path}: expected the columns {', '.join(columns)}, received {found!r}")
            for row in reader:
                if None in row.values():
                    raise StorageError(f"{path}: line {reader.line_num} lacks a cell")
                yield tuple(row[column] for column in columns)
    except (OSError, csv.Error) as error:
        raise StorageError(f"{path} cannot be read as a table: {error}") from None
    finally:
        csv.field_size_limit(others_limit)


def _parsed(seconds: str, text: str, path: Path) -> Said:
    try:
        length = float(seconds)
        if not 0 < length < LONGEST_SECONDS:
            raise ValueError(f"a recording of {seconds[:20]} s")
        pairs = [part.partition(" ") for part in text.split(BETWEEN)]
        begins = tuple(float(begin) for begin, _, _ in pairs)
        if any(not 0 <= begin < LONGEST_SECONDS for begin in begins) or list(begins) != sorted(begins):
            raise ValueError("seconds that don't rise")
    except ValueError as error:
        raise StorageError(
            f"{path}: expected sounds such as '0.120 b|0.251 a|0.410 ', received {escape_path(text[:80])!r} ({error})"
        ) from None
    return Said(length, begins, tuple(sound for _, _, sound in pairs))
