"""The audit's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from stages.auditing.near_duplicates import Copy
from stages.auditing.probes import Score
from stages.auditing.voices import Suggestion
from stages.pipeline.files import write_csv
from stages.pipeline.manifest_table import SPLITS, Row

DIGITS = 4
FEW_GROUPS = 3  # in the test: a language with fewer is named
SCORE_COLUMNS = ("accuracy", "low", "high", "chance", "majority", "n_train", "n_test", "n_groups", "over")


def write_near_duplicates(folder: Path, rows: Sequence[Row], copies: Sequence[Copy]) -> None:
    columns = ("path", "language", "split", "other_path", "other_language", "other_split",
               "bits_that_differ", "later_seconds", "common_seconds")  # fmt: skip
    table = [
        {
            "path": (a := rows[copy.first]).path,
            "language": a.language,
            "split": a.split,
            "other_path": (b := rows[copy.second]).path,
            "other_language": b.language,
            "other_split": b.split,
            "bits_that_differ": f"{copy.errors:.3f}",
            "later_seconds": f"{copy.lag_seconds:.2f}",
            "common_seconds": f"{copy.seconds:.1f}",
        }
        for copy in copies
    ]
    write_csv(folder / "near_duplicates.csv", columns, table)


def write_groups(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Write groups.csv; returns the languages with few groups in the test."""
    clips = Counter((row.language, row.split) for row in rows)
    groups = Counter((language, split) for language, split, _ in {(row.language, row.split, row.group) for row in rows})
    languages = sorted({row.language for row in rows})
    columns = ["language", *(f"{split}_{what}" for split in SPLITS for what in ("groups", "clips"))]
    table = [
        {"language": language}
        | {f"{split}_groups": groups[language, split] for split in SPLITS}
        | {f"{split}_clips": clips[language, split] for split in SPLITS}
        for language in languages
    ]
    write_csv(folder / "groups.csv", columns, table)
    return [language for language in languages if groups[language, "test"] < FEW_GROUPS]


def write_suggestion(folder: Path, rows: Sequence[Row], suggestion: Suggestion, groups_known: bool) -> None:
    table = [] if groups_known else [
        {"path": row.path, "language": row.language, "group": group}
        for row, group in zip(rows, suggestion.groups.tolist(), strict=True)
    ]  # fmt: skip
    write_csv(folder / "suggested_groups.csv", ("path", "language", "group"), table)


def write_scores(
    folder: Path,
    scores: Mapping[str, Mapping[str, Score | None]],
    voice: Score | None,
    alone: Mapping[str, Sequence[Score | None]],
) -> None:
    table: list[dict[str, object]] = []
    for split, by_probe in ((f"{name} split", by_probe) for name, by_probe in scores.items()):
        for name, score in by_probe.items():
            if score is not None:
                table.append({"probe": f"{name}, {split}", **plain_score(score)})
    if voice is not None:
        table.append({"probe": "voice within a language", **plain_score(voice)})
    write_csv(folder / "probes.csv", ("probe", *SCORE_COLUMNS), table)
    columns = ("property", "own_accuracy", "own_low", "own_high", "random_accuracy", "random_low", "random_high")
    lines = []
    for name, (own, random) in alone.items():
        line: dict[str, object] = {"property": name}
        for split, score in (("own", own), ("random", random)):
            for what in ("accuracy", "low", "high"):
                line[f"{split}_{what}"] = "" if score is None else round(getattr(score, what), DIGITS)
        lines.append(line)
    write_csv(folder / "properties.csv", columns, lines)


def plain_score(score: Score) -> dict[str, float | int | str]:
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in asdict(score).items()}


def plain(score: Score | None) -> dict[str, float | int | str] | None:
    return None if score is None else plain_score(score)
