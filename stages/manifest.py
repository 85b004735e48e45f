"""manifest: a folder or table of recordings -> data/manifest.csv: id, path, language, group, split, sha256, shard.

Every recording that the dataset names ends here as a row or in metrics/manifest/quarantine.csv. The split is by group:
no speaker or source, and no byte-identical file, stands in two splits.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from stages.pipeline.errors import ParamsError, RejectedClip, SplitError
from stages.pipeline.files import sha256_of_file, write_json
from stages.pipeline.layouts import Entry, find_recordings
from stages.pipeline.manifest_table import MANIFEST, SPLITS, Row, clip_id, dataset_root, write_manifest
from stages.pipeline.params import ManifestParams, Params
from stages.pipeline.paths import escape_path
from stages.pipeline.runner import account, stage_main
from stages.pipeline.shards import Rejection
from stages.pipeline.splits import assign_shards, split_of, straddling

log = logging.getLogger(__name__)
MANIFEST_INFO = MANIFEST.with_suffix(".json")
RANDOM_LABEL = "random split: may measure voices, not languages"


@dataclass(frozen=True)
class _Recording:
    row: Row
    size: int


def select(entries: Iterable[Entry], params: ManifestParams) -> list[Entry]:
    """The recordings of the languages that the params ask for, labels in Unicode's composed form.

    Raises
    ------
    ParamsError
        A language that was asked for or dropped is not in the dataset.
    """
    named = [replace(entry, language=unicodedata.normalize("NFC", entry.language)) for entry in entries]
    known = {entry.language for entry in named}
    wanted = {unicodedata.normalize("NFC", language) for language in params.languages} or known
    dropped = {unicodedata.normalize("NFC", language) for language in params.drop_languages}
    unknown = sorted((wanted | dropped) - known)
    if unknown:
        raise ParamsError(
            f"manifest.languages or drop_languages names {', '.join(unknown)}; the dataset has "
            f"{', '.join(sorted(map(escape_path, known)))}"
        )
    return [entry for entry in named if entry.language in wanted - dropped]


def inspect(root: Path, entry: Entry) -> tuple[str, int]:
    """SHA-256 and size of a recording, without decoding it.

    Raises
    ------
    RejectedClip
        missing, outside_dataset, not_a_file, empty_file or unreadable.
    """
    path = root / entry.path
    try:
        real = os.path.realpath(path)
        inside = os.path.commonpath([real, os.path.realpath(root)]) == os.path.realpath(root)
        if not inside:
            raise RejectedClip("outside_dataset", "the path or link leaves the dataset's folder")
        # O_NONBLOCK: opening a FIFO must not wait for somebody to write into it
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RejectedClip("not_a_file", "a folder, pipe, socket or device")
            if not status.st_size:
                raise RejectedClip("empty_file", "0 bytes")
            return sha256_of_file(handle), status.st_size
    except FileNotFoundError:
        raise RejectedClip("missing", "the dataset names it, but it is not there") from None
    except IsADirectoryError:
        raise RejectedClip("not_a_file", "a folder") from None
    except (OSError, ValueError) as error:
        raise RejectedClip("unreadable", getattr(error, "strerror", None) or str(error)) from None


def reject_copies(recordings: list[_Recording]) -> tuple[list[_Recording], list[Rejection]]:
    """Keep one of several byte-identical files; none, if they claim different languages."""
    copies: dict[str, list[Row]] = defaultdict(list)
    for recording in recordings:
        copies[recording.row.sha256].append(recording.row)
    rejected: dict[str, Rejection] = {}
    for rows in copies.values():
        for row in rows:
            other = next((copy for copy in rows if copy.language != row.language), rows[0])
            if other.language != row.language:
                detail = f"byte for byte the same as {other.path}, which is {other.language}"
                rejected[row.id] = Rejection(row.id, row.path, "conflicting_labels", detail)
            elif row is not rows[0]:
                detail = f"byte for byte the same as {other.path}"
                rejected[row.id] = Rejection(row.id, row.path, "duplicate_file", detail)
    return [r for r in recordings if r.row.id not in rejected], list(rejected.values())


def assign_splits(rows: list[Row], params: ManifestParams) -> list[Row]:
    """Give each row its split: the dataset's own where it names one, else a function of (seed, group).

    A split that the dataset fills itself (VoxLingua107's dev set, say) gets nothing from the other rows.

    Raises
    ------
    SplitError
        A group stands in two splits, which can only come from the dataset's own.
    """
    by_id = params.split_by == "random"
    own = set() if by_id else {row.split for row in rows}
    test = 0 if "test" in own else params.test_fraction
    validation = 0 if "validation" in own else params.validation_fraction
    rows = [
        row
        if row.split and not by_id
        else replace(row, split=split_of(row.id if by_id else row.group, params.seed, test, validation))
        for row in rows
    ]
    torn = {} if by_id else straddling((row.group, row.split) for row in rows)
    if torn:
        group, splits = next(iter(torn.items()))
        raise SplitError(
            f"{len(torn)} group(s) stand in more than one split of the dataset's own, such as {group!r} in "
            f"{' and '.join(splits)}: a score would measure the voice. Mend the table, or leave its split column "
            "empty and the pipeline will split by group"
        )
    return rows


def check_coverage(rows: list[Row], params: ManifestParams) -> None:
    """Raise SplitError where a language can't be trained or tested; name a seed that mends it, if there is one."""
    languages = sorted({row.language for row in rows})
    if len(languages) < 2:
        raise SplitError(f"expected at least two languages, received {', '.join(languages) or 'none'}")
    lacking = _lacking(rows)
    if not lacking:
        return
    groups = len({row.group for row in rows})
    seeds = range(100 if groups <= 10_000 else 0)
    unset = [replace(row, split="") for row in rows]
    seed = next((s for s in seeds if not _lacking(assign_splits(unset, params.model_copy(update={"seed": s})))), None)
    cure = f"manifest.seed: {seed} would do" if seed is not None else "no seed from 0 to 99 mends it"
    raise SplitError(
        f"with {groups} groups, {len(lacking)} of {len(languages)} languages lack train or test recordings "
        f"({', '.join(lacking[:8])}): they have too few groups for these fractions. {cure}; or change the fractions, "
        "name the split in a table, or leave those languages out with manifest.drop_languages"
    )


def _lacking(rows: list[Row]) -> list[str]:
    found = {(row.language, row.split) for row in rows}
    languages = sorted({row.language for row in rows})
    return [one for one in languages if (one, "train") not in found or (one, "test") not in found]


def run(params: Params) -> None:
    section = params.manifest
    layout, entries = find_recordings(params.dataset, section)
    chosen = select(entries, section)
    root = dataset_root(params.dataset)
    log.info("%s: layout %s, %d recordings, %d of them wanted", params.dataset, layout, len(entries), len(chosen))
    pattern = re.compile(section.group_pattern) if section.group_pattern else None
    recordings: list[_Recording] = []
    rejected: list[Rejection] = []
    seen: set[str] = set()
    for entry in chosen:
        path = escape_path(entry.path)
        name = clip_id(path)
        try:
            if name in seen:
                raise RejectedClip("named_twice", "the dataset names this path more than once")
            seen.add(name)
            sha256, size = inspect(root, entry)
        except RejectedClip as fault:
            rejected.append(Rejection(name, path, fault.reason, fault.detail))
            continue
        match = pattern.search(path) if pattern else None
        group = "".join(match.groups() or [match.group()]) if match else entry.group
        row = Row(name, path, escape_path(entry.language), escape_path(group) or name, entry.split, sha256, "")
        recordings.append(_Recording(row, size))
    recordings.sort(key=lambda recording: recording.row.path)
    kept, copies = reject_copies(recordings)
    rejected += copies
    account("manifest", len(chosen), len(kept), 0, rejected, section.max_reject_fraction)

    rows = assign_splits([recording.row for recording in kept], section)
    check_coverage(rows, section)
    sizes = {recording.row.id: recording.size for recording in kept}
    shards = assign_shards(sizes, section.clips_per_shard, section.megabytes_per_shard << 20)
    rows = [replace(row, shard=shards[row.id]) for row in rows]
    grouped = section.split_by == "group" and any(row.group != row.id for row in rows)
    write_manifest(rows)
    write_json(MANIFEST_INFO, _info(rows, layout, grouped))
    for split in SPLITS:
        members = [row for row in rows if row.split == split]
        log.info("%-10s %6d recordings, %5d groups", split, len(members), len({row.group for row in members}))
    log.info("%s", _label(grouped))


def _label(grouped: bool) -> str:
    return "group-disjoint" if grouped else RANDOM_LABEL


def _info(rows: list[Row], layout: str, grouped: bool) -> dict[str, object]:
    return {
        "layout": layout,
        "split_by": "group" if grouped else "random",
        "split_label": _label(grouped),
        "languages": sorted({row.language for row in rows}),
        "recordings": dict(Counter(row.split for row in rows)),
        "groups": {split: len({row.group for row in rows if row.split == split}) for split in SPLITS},
    }


if __name__ == "__main__":
    sys.exit(stage_main("manifest"))
