"""The experiments side by side: the few scores that count, with intervals, and the params in which they differ.

    python -m app.compare [--num N]

`dvc exp show` has a column for each of some 300 metrics, params and files; this reads the same list.
Status: 0 shown, 1 DVC could not list them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.report.collect import SCORES, flat
from app.report.page import number
from stages.pipeline.errors import PipelineError

_SCORES = ("log_loss", "ece", "cavg")
_LONGEST = 30


@dataclass(frozen=True)
class Run:
    """name : the workspace, a commit or an experiment. state : "" where it has ended well; scores : {} if unknown."""

    name: str
    state: str
    scores: Mapping[str, Any]
    params: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("--num", type=int, default=1, metavar="N", help="experiments of the last N commits (1)")
    options = parser.parse_args(arguments)
    command = ["dvc", "exp", "show", "--json", "--num", str(options.num)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"compare: `{' '.join(command)}` failed: {done.stderr.strip()}", file=sys.stderr)
        return PipelineError.exit_code
    print("\n".join(table(list(read_runs(json.loads(done.stdout))))))
    return 0


def read_runs(listed: Sequence[Mapping[str, Any]]) -> Iterator[Run]:
    """Of what `dvc exp show --json` prints: commits, each with its experiments, each with its states."""
    for commit in listed:
        yield _run(commit, commit["name"] or commit["rev"][:9])
        for experiment in commit["experiments"] or ():
            newest = experiment["revs"][0]
            state = (experiment["executor"] or {}).get("state") or ""
            name = experiment["name"] or newest["name"] or newest["rev"][:7]
            yield _run(newest, f"  {name}", "" if state == "success" else state.lower())


def _run(entry: Mapping[str, Any], name: str, state: str = "") -> Run:
    data = entry["data"] or {}
    scores = ((data.get("metrics") or {}).get(str(SCORES)) or {}).get("data") or {}
    params = ((data.get("params") or {}).get("params.yaml") or {}).get("data") or {}
    return Run(name, "failed" if entry["error"] and not state else state, scores, flat(params))


def table(runs: Sequence[Run]) -> list[str]:
    """Lines; params that are the same everywhere are left out, and so is the split where all have the same."""
    names = dict.fromkeys(name for run in runs for name in run.params)
    differ = [name for name in names if len({json.dumps(run.params.get(name)) for run in runs if run.params}) > 1]
    splits = {run.scores.get("split") for run in runs if run.scores}
    shown = [*_SCORES, *(["split"] if len(splits) > 1 else [])]
    rows = [("experiment", "accuracy", *(name.replace("_", " ") for name in shown), *differ)]
    for run in runs:
        accuracy = run.state or "-"
        if run.scores and not run.state:  # DVC gives one that has not ended the scores of where it started
            accuracy = f"{run.scores['accuracy']:.4f}"
            if run.scores.get("accuracy_low") is not None:
                accuracy += f" [{run.scores['accuracy_low']:.4f}, {run.scores['accuracy_high']:.4f}]"
        scores = ["-" if run.state or name not in run.scores else number(run.scores[name]) for name in shown]
        rows.append((run.name, accuracy, *scores, *(number(run.params.get(name))[:_LONGEST] for name in differ)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


if __name__ == "__main__":
    sys.exit(main())
