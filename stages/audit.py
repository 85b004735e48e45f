"""Audit: does a score on this split measure the language, or the voice, the microphone, the codec? -> metrics/audit.

verdict.txt            one sentence
metrics.json           the probes' scores with intervals on the manifest's split and on a random one, and the counts
probes.csv, .png       the scores as a table and as a picture
properties.csv         what each property of the files gives away alone
groups.csv             clips and groups of each language in each split
near_duplicates.csv    pairs of clips in different splits that hold the same sound
suggested_groups.csv   path,language,group by likeness of voice, where the dataset names no groups; else empty
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.auditing import picture, probes, tables, verdict, voices
from stages.auditing.near_duplicates import Copy, find_copies
from stages.auditing.probes import Division, Score
from stages.auditing.statistics import Recordings, Statistics, file_bytes, measure, read_recordings
from stages.pipeline.files import write_atomically, write_json
from stages.pipeline.manifest_table import SPLITS, Row, dataset_root, read_manifest
from stages.pipeline.params import AuditParams, Params
from stages.pipeline.runner import stage_main
from stages.pipeline.splits import straddling

log = logging.getLogger(__name__)

LOGMEL = Path("data/logmel")
DECODED = Path("data/decoded")
FOLDER = Path("metrics/audit")


def run(params: Params) -> None:
    statistics = measure(LOGMEL, params.execution)
    recordings = read_recordings(DECODED)
    by_id = {row.id: row for row in read_manifest()}
    rows = [by_id[clip] for clip in statistics.ids]
    shutil.rmtree(FOLDER, ignore_errors=True)

    properties = file_properties(rows, statistics, recordings, dataset_root(params.dataset))
    clips = probes.sample(rows, params.audit.max_clips, params.audit.seed)
    own = probes.own_division(rows, clips)
    random = probes.random_division(rows, own, params.audit.seed)
    scores = {
        name: run_probes(rows, statistics, properties, division, params.audit)
        for name, division in (("own", own), ("random", random))
    }
    voice = probes.voice_probe(statistics.spectrum, rows, clips, params.audit)
    alone = {
        name: [
            probes.probe(probes.tree(params.audit.seed), values[:, None], rows, division, params.audit)
            for division in (own, random)
        ]
        for name, values in properties.items()
    }

    copies = find_copies(statistics.prints, np.array([SPLITS.index(row.split) for row in rows]), statistics.grid)
    exact = exact_copies(rows, recordings)
    groups_known = any(row.group != row.id for row in rows)
    findings = verdict.Findings(
        own=scores["own"],
        random=scores["random"],
        groups_known=groups_known,
        straddling=len(straddling((row.group, row.split) for row in rows)) if groups_known else 0,
        test_groups=len({row.group for row in rows if row.split == "test"}),
        copies=len(copied_clips(rows, copies)) + exact,
    )
    suggestion = voices.Suggestion(np.full(len(rows), ""), {})
    if not groups_known:
        suggestion = voices.suggest_groups(statistics.spectrum, np.array([row.language for row in rows]))
    sentence = verdict.verdict(findings)

    tables.write_near_duplicates(FOLDER, rows, copies)
    few = tables.write_groups(FOLDER, rows)
    tables.write_suggestion(FOLDER, rows, suggestion, groups_known)
    tables.write_scores(FOLDER, scores, voice, alone)
    picture.probes_picture(FOLDER / "probes.png", scores["own"] | {"voice": voice}, scores["random"])
    write_json(
        FOLDER / "metrics.json",
        {
            "verdict": sentence,
            "own_split": {name: tables.plain(score) for name, score in scores["own"].items()},
            "random_split": {name: tables.plain(score) for name, score in scores["random"].items()},
            "voice": tables.plain(voice),
            "exact_duplicates": exact,
            "near_duplicates": len(copies),
            "near_duplicates_checked": statistics.grid.checks,
            "groups_known": groups_known,
            "straddling_groups": findings.straddling,
            "test_groups": findings.test_groups,
            "languages_with_few_test_groups": few,
            "suggested_groups": len(set(suggestion.groups.tolist()) - {""}),
            "suggestion_clarity": {name: round(value, tables.DIGITS) for name, value in suggestion.clarity.items()},
            "clips": len(rows),
            "clips_probed": len(clips),
        },
    )
    with write_atomically(FOLDER / "verdict.txt") as handle:
        handle.write(sentence + "\n")
    tell(findings, voice, few, copies)
    log.info("%s", sentence)
    verdict.check_gate(scores["own"], params.audit.fail_above)


def file_properties(
    rows: Sequence[Row], statistics: Statistics, recordings: Recordings, root: Path
) -> dict[str, np.ndarray]:
    """(clips,) numbers of what can be known of a file without listening. Without sizes where files are gone."""
    suffixes = [Path(row.path).suffix.lower() for row in rows]
    seconds = np.array([recordings.seconds[row.id] for row in rows])
    properties = {
        "container": np.unique(suffixes, return_inverse=True)[1].astype(float),
        "sample_rate": np.array([recordings.rate_hz[row.id] for row in rows]),
        "seconds": seconds,
        "loudness": statistics.loudness_db.astype(float),
        "level_of_pauses": statistics.pauses_db.astype(float),
    }
    sizes = file_bytes(root, rows)
    if sizes is None:
        log.warning("some recordings are no longer under %s: their bytes per second are left out", root)
    else:
        properties["bytes_per_second"] = sizes / np.maximum(seconds, 1e-3)
    return properties


def run_probes(
    rows: Sequence[Row],
    statistics: Statistics,
    properties: Mapping[str, np.ndarray],
    division: Division,
    params: AuditParams,
) -> dict[str, Score | None]:
    together = np.stack(list(properties.values()), axis=1)  # (clips, properties)
    return {
        "spectrum": probes.probe(probes.discriminant(), statistics.spectrum, rows, division, params),
        "silence": probes.probe(probes.discriminant(), statistics.silence, rows, division, params),
        "file": probes.probe(probes.forest(params.seed), together, rows, division, params),
    }


def exact_copies(rows: Sequence[Row], recordings: Recordings) -> int:
    """Clips whose samples stand in another split as well; decode rejects them, so there are none."""
    splits: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        splits[recordings.digest[row.id]].append(row.split)
    return sum(len(same) for same in splits.values() if len(set(same)) > 1)


def copied_clips(rows: Sequence[Row], copies: Sequence[Copy]) -> set[int]:
    """Clips outside training that a copy shows to stand in another split: what a score suffers from."""
    return {max((copy.first, copy.second), key=lambda clip: SPLITS.index(rows[clip].split)) for copy in copies}


def tell(findings: verdict.Findings, voice: Score | None, few: Sequence[str], copies: Sequence[Copy]) -> None:
    """The numbers behind the verdict, a line each."""
    for name in findings.own:
        own, random = findings.own[name], findings.random[name]
        if own is not None and random is not None:
            log.info(
                "%-9s %.3f [%.3f, %.3f], on a random split %.3f [%.3f, %.3f]; guessing %.3f",
                name, own.accuracy, own.low, own.high, random.accuracy, random.low, random.high, own.floor,
            )  # fmt: skip
    if voice is not None:
        log.info("%-9s %.3f [%.3f, %.3f] within a language; guessing %.3f",
                 "voice", voice.accuracy, voice.low, voice.high, voice.floor)  # fmt: skip
    log.info("%d near duplicates across splits, %d groups in the test", len(copies), findings.test_groups)
    if few and findings.groups_known:
        log.info("fewer than %d test groups: %s", tables.FEW_GROUPS, ", ".join(few[:12]))


if __name__ == "__main__":
    sys.exit(stage_main("audit"))
