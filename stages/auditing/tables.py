"""The audit's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from stages.auditing.probes import Score
from stages.auditing.same_sound import Copy
from stages.auditing.voices import Suggestion
from stages.pipeline.files import write_csv
from stages.pipeline.manifest_table import SPLITS, Row

DIGITS = 4
FEW_GROUPS = 3  # in the test: a language with fewer is named
SCORE_COLUMNS = ("accuracy", "low", "high", "chance", "majority", "n_train", "n_test", "n_groups", "n_cells", "over")


def write_near_duplicates(folder: Path, rows: Sequence[Row], copies: Sequence[Copy]) -> None:
    columns = ("path", "language", "split", "other_path", "other_language", "other_split",
               "correlation", "later_seconds", "common_seconds")  # fmt: skip
    table = [
        {
            "path": (a := rows[copy.first]).path,
            "language": a.language,
            "split": a.split,
            "other_path": (b := rows[copy.second]).path,
            "other_language": b.language,
            "other_split": b.split,
            "correlation": f"{copy.correlation:.3f}",
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
        {"language": row.language, "group": group, "path": row.path}
        for row, group in zip(rows, suggestion.groups.tolist(), strict=True)
    ]  # fmt: skip
    write_csv(folder / "suggested_groups.csv", ("path", "language", "group"), table)


def write_scores(
    folder: Path,
    scores: Mapping[str, Mapping[str, Score | None]],
    voice: Score | None,
    alone: Mapping[str, Sequence[Score | None]],
) -> None:
    """probes.csv from `scores` (split -> probe -> score) and `voice`; properties.csv from `alone`.

    alone : property -> scores on the manifest's split and on a random one
    """
    table: list[dict[str, object]] = []
    for split, by_probe in scores.items():
        for name, score in by_probe.items():
            if score is not None:
                table.append({"probe": f"{name}, {split} split", **_rounded(asdict(score))})
    if voice is not None:
        table.append({"probe": "voice within a language", **_rounded(asdict(voice))})
    write_csv(folder / "probes.csv", ("probe", *SCORE_COLUMNS), table)
    columns = ["property", *(f"{split}_{what}" for split in scores for what in ("accuracy", "low", "high")), "guessing"]
    lines = []
    for name, pair in alone.items():
        line: dict[str, object] = {"property": name}
        for split, score in zip(scores, pair, strict=True):
            if score is not None:
                values = {"accuracy": score.accuracy, "low": score.low, "high": score.high}
                line |= _rounded(
                    {f"{split}_{what}": value for what, value in values.items()} | {"guessing": score.floor}
                )
        lines.append(line)
    write_csv(folder / "properties.csv", columns, lines)


def numbers(scores: Mapping[str, Mapping[str, Score | None]], voice: Score | None) -> dict[str, object]:
    """What `dvc metrics diff` shows of each probe: split -> accuracy, its lower end, and what guessing scores."""
    table: dict[str, object] = {}
    for name in next(iter(scores.values())):
        row: dict[str, object] = {}
        for split, by_probe in scores.items():
            score = by_probe[name]
            row[f"{split}_accuracy"] = None if score is None else round(score.accuracy, DIGITS)
            if score is not None:
                row |= _rounded({f"{split}_low": score.low, f"{split}_high": score.high, "guessing": score.floor})
        table[name] = row
    if voice is not None:
        table["voice"] = _rounded(
            {"within_a_language": voice.accuracy, "low": voice.low, "high": voice.high, "guessing": voice.floor}
        )
    return table


def _rounded(values: Mapping[str, object]) -> dict[str, object]:
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in values.items()}
