"""manifest: a folder or table of recordings -> data/manifest.csv, a row for each of them.

Every recording that the dataset names ends here as a row or in metrics/manifest/quarantine.csv. The split is by group:
no speaker or source, and no byte-identical file, stands in two splits.
"""

from __future__ import annotations

import gc
import logging
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

from stages.pipeline.account import account
from stages.pipeline.data_params import ManifestParams
from stages.pipeline.errors import ParamsError, SplitError
from stages.pipeline.files import write_json
from stages.pipeline.fingerprint import Fault, fingerprints
from stages.pipeline.layouts import Entry, find_recordings
from stages.pipeline.manifest_table import MANIFEST, SPLITS, Row, clip_id, dataset_root, write_manifest
from stages.pipeline.params import Params
from stages.pipeline.paths import escape_path
from stages.pipeline.shards import Rejection
from stages.pipeline.sounds_table import copy_sounds
from stages.pipeline.splits import assign_shards, split_of, straddling
from stages.pipeline.stage_main import stage_main
from stages.pipeline.stat_cache import StatCache
from stages.pipeline.tree import Tree

log = logging.getLogger(__name__)
MANIFEST_INFO = MANIFEST.with_suffix(".json")
RANDOM_LABEL = "random split: may measure voices, not languages"


def select(entries: Iterable[Entry], params: ManifestParams) -> list[Entry]:
    """The recordings of the languages that the params ask for, labels in Unicode's composed form.

    Raises
    ------
    ParamsError
        A language that was asked for or dropped is not in the dataset.
    """
    composed = cache(partial(unicodedata.normalize, "NFC"))
    named = [
        entry if (language := composed(entry.language)) == entry.language else entry._replace(language=language)
        for entry in entries
    ]
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


def reject_copies(rows: list[Row]) -> tuple[list[Row], list[Rejection]]:
    """Keep one of several byte-identical files; none, if they claim different languages."""
    first: dict[str, Row] = {}
    copies: dict[str, list[Row]] = {}
    for row in rows:
        if first.setdefault(row.sha256, row) is not row:
            copies.setdefault(row.sha256, [first[row.sha256]]).append(row)
    rejected: dict[str, Rejection] = {}
    for same in copies.values():
        for row in same:
            other = next((copy for copy in same if copy.language != row.language), same[0])
            if other.language != row.language:
                detail = f"byte for byte the same as {other.path}, which is {other.language}"
                rejected[row.id] = Rejection(row.id, row.path, "conflicting_labels", detail)
            elif row is not same[0]:
                detail = f"byte for byte the same as {other.path}"
                rejected[row.id] = Rejection(row.id, row.path, "duplicate_file", detail)
    return [row for row in rows if row.id not in rejected], list(rejected.values())


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
    share = cache(lambda group: split_of(group, params.seed, test, validation))
    rows = [
        row if row.split and not by_id else row._replace(split=share(row.id if by_id else row.group)) for row in rows
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
    unset = [row._replace(split="") for row in rows]
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
    gc.disable()  # millions of tuples and no cycle among them; looking for one takes a third of the time
    section = params.manifest
    root = dataset_root(params.dataset)
    remembered = StatCache(params.dataset)
    tree = Tree(root, params.execution.workers, remembered)
    layout, entries = find_recordings(params.dataset, section, tree)
    chosen = select(entries, section)
    log.info("%s: layout %s, %d recordings, %d of them wanted", params.dataset, layout, len(entries), len(chosen))
    rows, sizes, rejected = _inspected(root, chosen, params, remembered)
    for name, reason, detail in tree.faults:
        path = escape_path(name)
        rejected.append(Rejection(clip_id(path), path, reason, " ".join(escape_path(detail).split())))
    remembered.forget_unused()
    rows, copies = reject_copies(rows)
    rejected += copies
    count = len(chosen) + len(tree.faults)
    account("manifest", count, len(rows), 0, rejected, section.max_reject_fraction)

    rows = assign_splits(rows, section)
    check_coverage(rows, section)
    sizes = {row.id: sizes[row.id] for row in rows}
    shards = assign_shards(sizes, section.clips_per_shard, section.megabytes_per_shard << 20)
    rows = [row._replace(shard=shards[row.id]) for row in rows]
    grouped = section.split_by == "group" and any(row.group != row.id for row in rows)
    write_manifest(rows)
    told = copy_sounds(root, rows)
    if told:
        log.info("of %d training recordings the dataset tells what is said when", told)
    write_json(MANIFEST_INFO, _info(rows, layout, grouped))
    for split in SPLITS:
        members = [row for row in rows if row.split == split]
        log.info("%-10s %6d recordings, %5d groups", split, len(members), len({row.group for row in members}))
    log.info("%s", _label(grouped))


def _inspected(
    root: Path, chosen: list[Entry], params: Params, remembered: StatCache
) -> tuple[list[Row], dict[str, int], list[Rejection]]:
    """Rows without split and shard, in the order of their names; id -> bytes; and what is no recording."""
    pattern = re.compile(params.manifest.group_pattern) if params.manifest.group_pattern else None
    rows: list[Row] = []
    rejected: list[Rejection] = []
    sizes: dict[str, int] = {}
    seen: set[str] = set()
    text = cache(escape_path)  # of languages and groups there are few
    chosen.sort(key=lambda entry: entry.name or entry.path)
    found = fingerprints(root, chosen, params.execution.workers, remembered)
    for entry, result in zip(chosen, found, strict=True):
        path = escape_path(entry.path)
        # As if it was unpacked: packing a corpus changes no id, no group and so no split.
        unpacked = escape_path(entry.name) if entry.name else path
        name = clip_id(unpacked)
        if name in seen:
            result = Fault("named_twice", "the dataset names this path more than once")
        seen.add(name)
        if isinstance(result, Fault):
            rejected.append(Rejection(name, path, result.reason, " ".join(result.detail.split())))
            continue
        match = pattern.search(unpacked) if pattern else None
        group = "".join(match.groups() or [match.group()]) if match else entry.group
        rows.append(
            Row(name, path, text(entry.language), text(group) or name, entry.split, result.sha256, "", result.span)
        )
        sizes[name] = result.size
    return rows, sizes, rejected


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
