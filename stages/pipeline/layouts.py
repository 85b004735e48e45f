"""Where a dataset says which language a recording is in: the layouts in which corpora are published.

Each finder yields an Entry for every recording that the dataset names, in a fixed order; it looks at names and tables
only, never into a recording.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from stages.pipeline.archives import Member
from stages.pipeline.data_params import ManifestParams
from stages.pipeline.errors import ParamsError, StorageError
from stages.pipeline.paths import escape_path
from stages.pipeline.tree import Found, Tree

CORPUS_TABLE = "corpus.csv"
_SPLIT_NAMES = {
    "train": "train",
    "dev": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class Entry(NamedTuple):
    """One recording as the dataset names it.

    path : relative to the dataset's folder, as the operating system has it (not escaped); for a member of an archive
        the archive's path, a slash and the member's name.
    group, split : "" where the dataset doesn't say.
    name : the path as if all archives were unpacked where they stand; "" where that is `path`.
    archive, member : where a member lies.
    """

    path: str
    language: str
    group: str = ""
    split: str = ""
    name: str = ""
    archive: str = ""
    member: Member | None = None


Finder = Callable[[Path, Tree, ManifestParams], Iterator[Entry]]


def find_recordings(dataset: str, params: ManifestParams, tree: Tree | None = None) -> tuple[str, list[Entry]]:
    """List a dataset.

    tree : the files in the dataset's folder; what is wrong with its archives stands in `tree.faults` afterwards.

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
    tree = tree or Tree(path.parent if path.is_file() else path)
    layout = params.layout if params.layout != "auto" else _recognise(path, tree)
    entries = list(_FINDERS[layout](path, tree, params))
    if not entries:
        raise StorageError(
            f"dataset: found no recording in {dataset} (layout {layout}). Expected one folder for each language "
            "(es/a.mp3, fr/b.wav) or a table with columns for path and language; see README.md"
        )
    return layout, entries


def _recognise(path: Path, tree: Tree) -> str:
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
    for _, files in _by_folder(tree.files()):
        if any(_VOXLINGUA.search(os.path.basename(name)) for name, _ in islice(files, 3)):
            return "voxlingua107"
    return "folders"


def _by_folder(files: list[Found]) -> Iterator[tuple[str, Iterator[tuple[str, Found]]]]:
    """For each folder at the top: its name, and the files below it as (name relative to it, file)."""
    inner = (found for found in files if os.sep in found.name)
    for folder, members in groupby(inner, key=lambda found: found.name.partition(os.sep)[0]):
        yield folder, ((found.name.partition(os.sep)[2], found) for found in members)


def _entry(found: Found, language: str, group: str = "", split: str = "") -> Entry:
    name = found.name if found.member else ""
    return Entry(found.path, language, group, split, name, found.archive, found.member)


def _folders(root: Path, tree: Tree, params: ManifestParams) -> Iterator[Entry]:
    """<language>/**/<file>; where all files lie in folders inside the language's, those are the speakers or sources."""
    _expect_folder(root)
    for language, found in _by_folder(tree.files()):
        files = list(found)
        nested = all(os.sep in name for name, _ in files)
        for name, file in files:
            yield _entry(file, language, name.partition(os.sep)[0] if nested else "")


def _voxlingua107(root: Path, tree: Tree, params: ManifestParams) -> Iterator[Entry]:
    """<language>/<video>__U__S<n>---<start>-<end>.wav and dev/<language>/...; a video is a source."""
    _expect_folder(root)
    test: list[Entry] = []
    for folder, files in _by_folder(tree.files()):
        for name, file in files:
            match = _VOXLINGUA.search(os.path.basename(name))
            group = match.group(1) if match else ""
            if folder != "dev":
                yield _entry(file, folder, group)
            elif os.sep in name:
                test.append(_entry(file, name.partition(os.sep)[0], group, "test"))
    yield from test


_VOXLINGUA = re.compile(r"^(.+)__U__S\d+---\d")


def _common_voice(root: Path, tree: Tree, params: ManifestParams) -> Iterator[Entry]:
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
                yield _named(tree, path, row.get("locale") or folder.resolve().name, row["client_id"])


def _fleurs(root: Path, tree: Tree, params: ManifestParams) -> Iterator[Entry]:
    """<language>/{train,dev,test}.tsv without a header, <language>/audio/{train,dev,test}/<file>.

    No speaker is given: the id of the sentence is the group, so that no sentence stands in two splits.
    """
    for language in _languages(root):
        for name in ("train", "dev", "test"):
            table = root / language / f"{name}.tsv"
            if not table.is_file():
                continue
            for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                cells = line.split("\t")
                if len(cells) < 2:
                    raise StorageError(
                        f"{table}: expected FLEURS' columns (id, file name, ...), received {line[:200]!r}"
                    )
                path = os.path.join(language, "audio", name, cells[1])
                yield _named(tree, path, language, f"sentence-{cells[0]}")


def _topcoder(table: Path, tree: Tree, params: ManifestParams) -> Iterator[Entry]:
    """`Sample Filename,Language`, the files beside the table."""
    for row in _rows(table, ("Sample Filename", "Language")):
        yield _named(tree, row["Sample Filename"], row["Language"])


def _table(path: Path, tree: Tree, params: ManifestParams) -> Iterator[Entry]:
    """Any CSV or TSV whose columns are named in manifest.columns; paths are relative to it, percent-escapes undone."""
    table = path / CORPUS_TABLE if path.is_dir() else path
    names = params.columns
    for row in _rows(table, (names.path, names.language)):
        split = row.get(names.split) or ""
        if split and split not in _SPLIT_NAMES:
            raise StorageError(f"{table}: expected a split of {sorted(_SPLIT_NAMES)} or none, received {split[:80]!r}")
        group = row.get(names.group) or ""
        yield _named(tree, row[names.path], row[names.language], group, _SPLIT_NAMES.get(split, ""))


_FINDERS: dict[str, Finder] = {
    "folders": _folders,
    "table": _table,
    "topcoder": _topcoder,
    "common_voice": _common_voice,
    "voxlingua107": _voxlingua107,
    "fleurs": _fleurs,
}


def _expect_folder(root: Path) -> None:
    if not root.is_dir():
        raise ParamsError(f"manifest.layout: expected a folder at {root}; a table is read by `layout: table`")


def _languages(root: Path) -> list[str]:
    _expect_folder(root)
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _named(tree: Tree, path: str, language: str, group: str = "", split: str = "") -> Entry:
    """A recording that a table names: a file of its own, else a member of an archive."""
    try:
        found = None if os.path.lexists(tree.root / path) else tree.find(path)
    except ValueError:  # a NUL in the path; hashing will reject it
        found = None
    return _entry(found or Found(path, path), language, group, split)


def _header(table: Path) -> list[str]:
    try:
        with table.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as handle:
            return next(csv.reader(handle, delimiter=_delimiter(table)), [])
    except (OSError, csv.Error) as error:
        raise _unreadable(table, error) from None


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
        raise _unreadable(table, error) from None


def _unreadable(table: Path, error: Exception) -> StorageError:
    return StorageError(f"{table} cannot be read as a table: {error}")
