"""Audit: does a score on this split measure the language, or the voice, the microphone, the codec? -> metrics/audit.

verdict.txt            one sentence
metrics.json           the probes' scores on the manifest's split and on a random one, and the counts
probes.csv, .png       the scores with their intervals as a table and as a picture
properties.csv         what each property of the files gives away alone
groups.csv             clips and groups of each language in each split
near_duplicates.csv    pairs of clips in different splits that hold the same sound
suggested_groups.csv   path,language,group by likeness of voice, where the dataset names no groups; else empty

docs/audit.md says how to read them.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from stages.auditing import picture, probes, tables, verdict, voices
from stages.auditing.file_properties import Recordings, file_properties, read_recordings
from stages.auditing.near_duplicates import find_candidates
from stages.auditing.probes import Division, Score
from stages.auditing.same_sound import Copy, find_copies
from stages.auditing.statistics import Statistics, measure
from stages.pipeline.files import write_atomically, write_json
from stages.pipeline.manifest_table import SPLITS, Row, dataset_root, read_manifest
from stages.pipeline.model_params import AuditParams
from stages.pipeline.params import Params
from stages.pipeline.splits import straddling
from stages.pipeline.stage_main import stage_main

log = logging.getLogger(__name__)

LOGMEL = Path("data/logmel")
DECODED = Path("data/decoded")
FOLDER = Path("metrics/audit")
MOST_CLIPS = 200_000  # are listened to, for copies above all: more would take gigabytes and hours


def run(params: Params) -> None:
    # The matrices are small: more threads would wait for each other, and the number of cores must change no digit.
    with threadpool_limits(1):
        examine(params)


def examine(params: Params) -> None:
    """All of the audit: listen, score, judge, write, and fail where the gate says so."""
    listed = read_manifest()
    chosen = [listed[i] for i in probes.sample(listed, MOST_CLIPS, params.audit.seed)]
    statistics = measure(LOGMEL, chosen, params.execution)
    by_id = {row.id: row for row in chosen}
    rows = [by_id[clip] for clip in statistics.ids]
    recordings = read_recordings(DECODED, rows)
    clips = probes.sample(rows, params.audit.max_clips, params.audit.seed)
    properties = file_properties(rows, clips.tolist(), statistics, recordings, dataset_root(params.dataset))

    own = probes.own_division(rows, clips)
    random = probes.random_division(rows, own, params.audit.seed)
    scores = {
        name: run_probes(rows, statistics, properties, division, params.audit)
        for name, division in (("manifest", own), ("random", random))
    }
    voice = probes.voice_probe(statistics.spectrum, rows, clips, params.audit)
    alone = {
        name: [
            probes.probe(probes.tree(params.audit.seed), values[:, None], rows, division, params.audit)
            for division in (own, random)
        ]
        for name, values in properties.items()
    }

    split = np.array([SPLITS.index(row.split) for row in rows])
    copies = find_copies(find_candidates(statistics.prints, split, statistics.grid), rows, LOGMEL, statistics.grid)
    exact = exact_copies(rows, recordings)
    groups_known = any(row.group != row.id for row in rows)
    suggestion = voices.Suggestion(np.full(len(rows), ""), {})
    if not groups_known:
        suggestion = voices.suggest_groups(statistics.spectrum, np.array([row.language for row in rows]))
    findings = verdict.Findings(
        own=scores["manifest"],
        random=scores["random"],
        groups_known=groups_known,
        suggested_groups=len(set(suggestion.groups.tolist()) - {""}),
        straddling=len(straddling((row.group, row.split) for row in listed)) if groups_known else 0,
        test_groups=len({row.group for row in rows if row.split == "test"}),
        copies=len(copied_clips(rows, copies)) + exact,
        held_out=sum(row.split != "train" for row in rows),
    )
    judged = verdict.verdict(findings)

    tables.write_near_duplicates(FOLDER, rows, copies)
    few = tables.write_groups(FOLDER, listed)
    tables.write_suggestion(FOLDER, rows, suggestion, groups_known)
    tables.write_scores(FOLDER, scores, voice, alone)
    picture.probes_picture(FOLDER / "probes.png", scores["manifest"] | {"voice": voice}, scores["random"])
    write_json(
        FOLDER / "metrics.json",
        {
            "finding": judged.finding,
            "probes": tables.numbers(scores, voice),
            "exact_duplicates": exact,
            "near_duplicates": len(copies) if statistics.grid.checks else None,
            "straddling_groups": findings.straddling if groups_known else None,
            "suggested_groups": findings.suggested_groups,
            "test_groups": findings.test_groups if groups_known else None,
            "clips": len(rows),
            "clips_probed": len(clips),
        },
    )
    with write_atomically(FOLDER / "verdict.txt") as handle:
        handle.write(judged.sentence + "\n")
    tell(findings, voice, few, len(copies), len(rows), len(listed))
    log.info("%s", judged.sentence)
    verdict.check_gate(scores["manifest"], params.audit.fail_above)


def run_probes(
    rows: Sequence[Row],
    statistics: Statistics,
    properties: Mapping[str, np.ndarray],
    division: Division,
    params: AuditParams,
) -> dict[str, Score | None]:
    together = np.stack(list(properties.values()), axis=1)  # (rows, properties)
    return {
        "mel_statistics": probes.probe(probes.discriminant(), statistics.spectrum, rows, division, params),
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


def tell(
    findings: verdict.Findings, voice: Score | None, few: Sequence[str], copies: int, heard: int, listed: int
) -> None:
    """The numbers behind the verdict, a line each."""
    for name in findings.own:
        own, random = findings.own[name], findings.random[name]
        if own is not None and random is not None:
            log.info(
                "%-14s %.3f [%.3f, %.3f], on a random split %.3f [%.3f, %.3f]; guessing %.3f",
                name, own.accuracy, own.low, own.high, random.accuracy, random.low, random.high, own.floor,
            )  # fmt: skip
    if voice is not None:
        log.info("%-14s %.3f [%.3f, %.3f] within a language; guessing %.3f",
                 "voice", voice.accuracy, voice.low, voice.high, voice.floor)  # fmt: skip
    log.info(
        "%d of %d clips: %d near duplicates across splits, %d groups in the test",
        heard, listed, copies, findings.test_groups,
    )  # fmt: skip
    if few and findings.groups_known:
        log.info("fewer than %d test groups: %s", tables.FEW_GROUPS, ", ".join(few[:12]))


if __name__ == "__main__":
    sys.exit(stage_main("audit"))
