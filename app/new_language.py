"""Add a folder of recordings as a new language, run the pipeline, and show what it does to the scores.

    python -m app.new_language FOLDER LANGUAGE

The dataset is not touched: data/with/<language> becomes a second one, hard links to the same files plus the folder's,
with a table of all of them. Ids, and with them splits, stay, so the clips that were tested before are tested again,
and the difference on them is paired. The run is kept as the experiment `with-<language>`; the working folder ends as
it was. In the folder, subfolders are speakers or sources where all recordings lie in subfolders.

Status: 0 shown; 2 the folder or the language cannot be used; otherwise that of the stage that failed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.paired import Answer, paired_difference, read_predictions
from stages.pipeline.errors import ParamsError, PipelineError
from stages.pipeline.layouts import CORPUS_TABLE, Entry, find_recordings
from stages.pipeline.manifest_table import dataset_root
from stages.pipeline.params import PARAMS_FILE, Params, load_params
from stages.pipeline.splits import split_of
from stages.pipeline.tree import Tree

GROWN = Path("data/with")
METRICS = Path("metrics/evaluate")
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}"


@dataclass(frozen=True)
class Evaluation:
    """What metrics/evaluate holds: metrics.json, per_language.csv by language, predictions.csv by clip."""

    scores: dict[str, Any]
    languages: dict[str, dict[str, str]]
    answers: dict[str, Answer]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.new_language", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="recordings in the new language; subfolders are speakers or sources")
    parser.add_argument("language", help="its code, such as eu")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(add_language(options.folder, options.language)))
    except PipelineError as error:
        print(f"new-language: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def add_language(folder: Path, language: str) -> list[str]:
    """The two runs; lines that tell what came of it.

    Raises
    ------
    ParamsError
        The folder holds nothing, or the language is there already.
    PipelineError
        A run failed; it has said why.
    """
    params = load_params()
    if not re.fullmatch(_NAME, language):
        raise ParamsError(f"expected a language's code such as eu, received {language!r}")
    if not folder.is_dir():
        raise ParamsError(f"expected a folder of recordings, found none at {folder}")
    _run("dvc", "repro", "evaluate")
    before = read_evaluation()
    if language in before.languages:
        raise ParamsError(
            f"the model knows {language} already; put more recordings of it into {params.dataset} and run `make repro`"
        )
    grown = GROWN / language
    grow(params, folder, language, grown)
    as_it_was = PARAMS_FILE.read_bytes()
    name = f"with-{language}"
    # an experiment of this name is that of an earlier try: DVC would refuse to write over it
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True, check=False)  # noqa: S607
    try:
        _run("dvc", "exp", "run", "--name", name, *_changes(params, grown, language), "evaluate")
        after = read_evaluation()
    finally:
        PARAMS_FILE.write_bytes(as_it_was)
    _run("dvc", "repro", "evaluate")  # from DVC's run cache
    return told(before, after, language, grown)


def grow(params: Params, folder: Path, language: str, grown: Path) -> None:
    """Make the second dataset: hard links, or copies where the disk is another, and corpus.csv over all of it."""
    columns = params.manifest.columns
    _, entries = find_recordings(params.dataset, params.manifest)
    if any(entry.language == language for entry in entries):
        raise ParamsError(
            f"{params.dataset} holds recordings in {language} that params.yaml leaves out; look at manifest.languages, "
            "manifest.drop_languages and train.unknown_languages"
        )
    new = new_entries(folder, language, params, {entry.group: entry.split for entry in entries if entry.split})
    if not new:
        raise ParamsError(f"expected recordings in {folder}, found none")
    if grown.exists():
        shutil.rmtree(grown)  # links that an earlier try left, no recording
    _link_tree(dataset_root(params.dataset), grown)
    _link_tree(folder, grown / language)
    table = grown / CORPUS_TABLE
    table.unlink(missing_ok=True)  # the dataset's own, by another name
    with table.open("w", encoding="utf-8", errors="surrogateescape", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([columns.path, columns.language, columns.group, columns.split])
        for entry in [*entries, *new]:
            writer.writerow([entry.path, entry.language, entry.group, entry.split])


def new_entries(folder: Path, language: str, params: Params, own_splits: Mapping[str, str]) -> list[Entry]:
    """The folder's recordings, as they will stand in the second dataset.

    own_splits : group -> split where the dataset names splits itself, so the new recordings need theirs named as well;
        a speaker of both stays in one split.
    """
    found = Tree(folder).files()
    nested = all(os.sep in one.name for one in found)
    entries = []
    section = params.manifest
    for one in found:
        group = one.name.partition(os.sep)[0] if nested else ""
        split = ""
        if own_splits:
            drawn = split_of(group or one.name, section.seed, section.test_fraction, section.validation_fraction)
            split = own_splits.get(group, drawn)
        entries.append(Entry(os.path.join(language, one.path), language, group, split))
    return entries


def _link_tree(source: Path, target: Path) -> None:
    def link(origin: str, name: str) -> str:
        try:
            os.link(os.path.realpath(origin), name)
        except OSError:
            shutil.copyfile(origin, name)
        return name

    skip = shutil.ignore_patterns(".*")
    shutil.copytree(source, target, copy_function=link, ignore=skip, dirs_exist_ok=True)


def _changes(params: Params, grown: Path, language: str) -> list[str]:
    changes = [f"dataset={grown}", "manifest.layout=auto"]
    if params.manifest.languages:
        changes.append(f"manifest.languages=[{','.join([*params.manifest.languages, language])}]")
    return [part for change in changes for part in ("--set-param", change)]


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode:
        raise PipelineError(
            f"`{shlex.join(command)}` ended with status {done.returncode}; its messages stand above. params.yaml is "
            "as it was"
        )


def read_evaluation() -> Evaluation:
    """What the evaluate stage has left."""
    with (METRICS / "per_language.csv").open(encoding="utf-8", newline="") as handle:
        languages = {row["language"]: row for row in csv.DictReader(handle)}
    scores = json.loads((METRICS / "metrics.json").read_text(encoding="utf-8"))
    return Evaluation(scores, languages, read_predictions((METRICS / "predictions.csv").read_text(encoding="utf-8")))


def told(before: Evaluation, after: Evaluation, language: str, grown: Path) -> list[str]:
    """A table, the new language first after the sum, and what may be done next."""
    head = ("", "before", "with " + language, "change on the clips that both scored", "test clips")
    rows = [head, _row("all languages", _all(before), _all(after), before, after, "", after.scores["n_clips"])]
    for name in sorted({*before.languages, *after.languages}, key=lambda one: (one != language, one)):
        then, now = (_recall(one.languages.get(name)) for one in (before, after))
        rows.append(_row(name, then, now, before, after, name, after.languages.get(name, {}).get("n", "0")))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    split = after.scores["split"]
    return [
        *lines,
        "",
        f"Accuracy of all, recall of each, with 95 % intervals over groups; {split}; chance was "
        f"{before.scores['chance']:.3f} and is {after.scores['chance']:.3f}. Where the interval of a change holds 0, "
        "it may be luck.",
        f"The working folder is as it was. To keep {language}: dvc exp apply with-{language}",
        f"To forget it: dvc exp remove with-{language} && rm -r {grown}",
    ]


def _row(
    name: str, then: str, now: str, before: Evaluation, after: Evaluation, language: str, n_clips: object
) -> tuple[str, ...]:
    change = paired_difference(before.answers, after.answers, language)
    return (name, then, now, f"{change}, {change.n_clips} clips" if change else "-", str(n_clips))


def _all(found: Evaluation) -> str:
    values = found.scores
    return f"{values['accuracy']:.3f} [{values['accuracy_low']:.3f}, {values['accuracy_high']:.3f}]"


def _recall(row: Mapping[str, str] | None) -> str:
    if row is None:
        return "-"
    return f"{float(row['recall']):.3f} [{float(row['recall_low']):.3f}, {float(row['recall_high']):.3f}]"


if __name__ == "__main__":
    sys.exit(main())
