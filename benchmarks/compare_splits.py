"""The same corpus, network and params after a split by group and after a random one, in one table.

    make compare-splits

Two `dvc exp run`s of the evaluate stage, kept as the experiments `compare-group` and `compare-random`. The split that
params.yaml names runs last, so the working folder ends as it was; what is in the cache does not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.pipeline.errors import ParamsError, PipelineError
from stages.pipeline.params import load_params

METRICS = Path("metrics/evaluate/metrics.json")
SPLITS = ("group", "random")


def main() -> int:
    try:
        configured = load_params().manifest.split_by
        found = {}
        for split in sorted(SPLITS, key=lambda one: one == configured):
            found[split] = run(split)
    except PipelineError as error:
        print(f"compare-splits: {error}", file=sys.stderr)
        return error.exit_code
    print(table(found))
    return 0


def run(split: str) -> dict[str, Any]:
    """One experiment; its scores.

    Raises
    ------
    PipelineError
        DVC could not run it; it has said why.
    """
    name = f"compare-{split}"
    # an experiment of this name is an earlier comparison's: DVC would refuse to write over it
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True, check=False)
    command = ["dvc", "exp", "run", "--name", name, "--set-param", f"manifest.split_by={split}", "evaluate"]
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode:
        raise PipelineError(f"`{' '.join(command)}` ended with status {done.returncode}; its messages stand above")
    values: dict[str, Any] = json.loads(METRICS.read_text(encoding="utf-8"))
    return values


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown; found : manifest.split_by -> metrics.json.

    Raises
    ------
    ParamsError
        The corpus names no groups, so there is only one way to split it.
    """
    if found["group"]["split"] != "group-disjoint":
        raise ParamsError(
            f"the corpus names no speakers or sources, so both splits are random ({found['group']['split']}); give it "
            "groups: a folder for each speaker, a column of the table, or manifest.group_pattern"
        )
    lines = [
        "| split | test accuracy | 95 % interval | discriminant on mel statistics | 95 % interval | chance "
        "| test clips | groups |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for split in SPLITS:
        values = found[split]
        lda = values["ladder"]["mel_lda"]
        lines.append(
            f"| {values['split']} | {values['accuracy']:.3f} | {interval(values)} | {lda['accuracy']:.3f} "
            f"| {interval(lda)} | {values['chance']:.3f} | {values['n_clips']} | {values['n_groups']} |"
        )
    return "\n".join(lines)


def interval(values: Mapping[str, Any]) -> str:
    return f"{values['accuracy_low']:.3f} to {values['accuracy_high']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
