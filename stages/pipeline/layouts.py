"""Where a dataset says which language a recording is in: the layouts in which corpora are published.

Each finder yields an Entry for every recording that the dataset names, in a fixed order; it looks at names and tables
only, never into a recording.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.pipeline.errors import ParamsError, StorageError
from stages.pipeline.params import ManifestParams
from stages.pipeline.paths import escape_path

CORPUS_TABLE = "corpus.csv"
_SPLIT_NAMES = {
    "train": "train",
    "dev": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
# Not recordings, and commonly found beside them.
_SIDECARS = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".lab", ".srt", ".vtt", ".textgrid", ".xml", ".html",
             ".pdf", ".log", ".yaml", ".yml", ".dvc", ".py"}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One recording as the dataset names it.

    path : relative to the dataset's folder, as the operating system has it (not escaped).
    group, split : "" where the dataset doesn't say.
    """

    path: str
    language: str
    group: str = ""
    split: str = ""


Finder = Callable[[Path, ManifestParams], Iterator[Entry]]


def find_recordings(dataset: str, params: ManifestParams) -> tuple[str, list[Entry]]:
    """List a dataset.

    Returns
    -------
    The layout's name and the recordings, in a fixed order.

    Raises
    ------
    StorageError
        The dataset is missing or a table in it cannot be read.
    ParamsError
        It has no layout that is known, or not the one that was named.
    """
    path = Path(dataset)
    if not path.exists():
        raise StorageError(
            f"dataset: expected a folder of recordings or a CSV/TSV table at {dataset}, found nothing. The embedded "
            "corpora are built by `dvc repro`; for your own, set `dataset` in params.yaml to its path"
        )
    layout = params.layout if params.layout != "auto" else _recognise(path)
    entries = list(_FINDERS[layout](path, params))
    if not entries:
        raise StorageError(
            f"dataset: found no recording in {dataset} (layout {layout}). Expected one folder for each language "
            "(es/a.mp3, fr/b.wav) or a table with columns for path and language; see README.md"
        )
    return layout, entries


def _recognise(path: Path) -> str:
    if path.is_file():
        header = _header(path)
        return "topcoder" if header == ["Sample Filename", "Language"] else "table"
    if (path / CORPUS_TABLE).is_file():
        return "table"
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if any((folder / "validated.tsv").is_file() and (folder / "clips").is_dir() for folder in [path, *folders]):
        return "common_voice"
    if any((folder / "train.tsv").is_file() and (folder / "audio").is_dir() for folder in folders):
        return "fleurs"
    if any(_VOXLINGUA.search(file.name) for folder in folders for file in _first(folder.iterdir(), 3)):
        return "voxlingua107"
    return "folders"


def _first(files: Iterator[Path], count: int) -> list[Path]:
    return [file for _, file in zip(range(count), files, strict=False)]


def _folders(root: Path, params: ManifestParams) -> Iterator[Entry]:
    """<language>/**/<file>; where all files lie in folders inside the language's, those are the speakers or sources."""
    for language in _languages(root):
        files = list(_files(root / language))
        nested = all(os.sep in file for file in files)
        for file in files:
            group = f"{file.split(os.sep)[0]}" if nested else ""
            yield Entry(os.path.join(language, file), language, group)


def _voxlingua107(root: Path, params: ManifestParams) -> Iterator[Entry]:
    """<language>/<video>__U__S<n>---<start>-<end>.wav and dev/<language>/...; a video is a source."""
    for top, split in ((root, ""), (root / "dev", "test")):
        for language in _languages(top) if top.is_dir() else ():
            if top == root and language == "dev":
                continue
            for file in _files(top / language):
                match = _VOXLINGUA.search(os.path.basename(file))
                path = os.path.relpath(top / language / file, root)
                yield Entry(path, language, match.group(1) if match else "", split)


_VOXLINGUA = re.compile(r"^(.+)__U__S\d+---\d")


def _common_voice(root: Path, params: ManifestParams) -> Iterator[Entry]:
    """<locale>/validated.tsv (or train, dev, test alone) and <locale>/clips/; client_id is the speaker.

    The release's own train/dev/test leave most validated clips out, so all of validated.tsv is taken and split anew by
    speaker.
    """
    for folder in [root] if (root / "clips").is_dir() else [root / name for name in _languages(root)]:
        tables = [folder / "validated.tsv"]
        if not tables[0].is_file():
            tables = [folder / f"{name}.tsv" for name in ("train", "dev", "test") if (folder / f"{name}.tsv").is_file()]
        for table in tables:
            for row in _rows(table, ("client_id", "path")):
                name = row["path"] if Path(row["path"]).suffix else row["path"] + ".mp3"
                path = os.path.relpath(folder / "clips" / name, root)
                yield Entry(path, row.get("locale") or folder.resolve().name, row["client_id"])


def _fleurs(root: Path, params: ManifestParams) -> Iterator[Entry]:
    """<language>/{train,dev,test}.tsv without a header, <language>/audio/{train,dev,test}/<file>.

    No speaker is given: the id of the sentence is the group, so that no sentence stands in two splits.
    """
    for language in _languages(root):
        for name in ("train", "dev", "test"):
            table = root / language / f"{name}.tsv"
            if not table.is_file():
                continue
            for line in table.read_text(encoding="utf-8").splitlines():
                cells = line.split("\t")
                if len(cells) < 2:
                    raise StorageError(f"{table}: expected FLEURS' columns (id, file name, ...), received {line!r}")
                path = os.path.join(language, "audio", name, cells[1])
                yield Entry(path, language, f"sentence-{cells[0]}")


def _topcoder(table: Path, params: ManifestParams) -> Iterator[Entry]:
    """`Sample Filename,Language`, the files beside the table."""
    for row in _rows(table, ("Sample Filename", "Language")):
        yield Entry(row["Sample Filename"], row["Language"])


def _table(path: Path, params: ManifestParams) -> Iterator[Entry]:
    """Any CSV or TSV whose columns are named in manifest.columns; paths are relative to it, percent-escapes undone."""
    table = path / CORPUS_TABLE if path.is_dir() else path
    names = params.columns
    for row in _rows(table, (names.path, names.language)):
        split = row.get(names.split) or ""
        if split and split not in _SPLIT_NAMES:
            raise StorageError(f"{table}: expected a split of {sorted(_SPLIT_NAMES)} or none, received {split!r}")
        yield Entry(row[names.path], row[names.language], row.get(names.group) or "", _SPLIT_NAMES.get(split, ""))


_FINDERS: dict[str, Finder] = {
    "folders": _folders,
    "table": _table,
    "topcoder": _topcoder,
    "common_voice": _common_voice,
    "voxlingua107": _voxlingua107,
    "fleurs": _fleurs,
}


def _languages(root: Path) -> list[str]:
    if not root.is_dir():
        raise ParamsError(f"manifest.layout: expected a folder at {root}; a table is read by `layout: table`")
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path) -> Iterator[str]:
    """All files below a folder but hidden ones and sidecars, relative to it, in byte order."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=os.fsencode)
        for name in sorted(files, key=os.fsencode):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in _SIDECARS:
                yield os.path.relpath(os.path.join(place, name), folder)


def _header(table: Path) -> list[str]:
    with table.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as handle:
        return next(csv.reader(handle, delimiter=_delimiter(table)), [])


def _delimiter(table: Path) -> str:
    return "\t" if table.suffix.lower() == ".tsv" else ","


def _rows(table: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as handle:
            # A TSV quotes nothing: Common Voice's sentences hold lone quotation marks.
            tsv = _delimiter(table) == "\t"
            reader = csv.DictReader(
                handle, delimiter=_delimiter(table), quoting=csv.QUOTE_NONE if tsv else csv.QUOTE_MINIMAL
            )
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                found = escape_path(",".join(reader.fieldnames or ())[:200])
                raise StorageError(
                    f"{table}: expected the column(s) {', '.join(missing)}, received {found!r}; name them in "
                    "manifest.columns"
                )
            for number, row in enumerate(reader, 2):
                if None in row or any(not row[name] for name in needed):
                    raise StorageError(f"{table}: line {number} has too many cells or an empty {' or '.join(needed)}")
                yield row
    except (OSError, csv.Error) as error:
        raise StorageError(f"{table} cannot be read as a table: {error}") from None
