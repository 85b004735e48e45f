"""`make compare`: what `dvc exp show` lists, in few columns."""

from __future__ import annotations

from typing import Any

from app.compare import read_runs, table

SCORES = {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 1.0, "log_loss": 0.25, "ece": 0.03, "cavg": 0.02}


def entry(name: str | None, epochs: int, split: str = "group-disjoint", **scores: Any) -> dict[str, Any]:
    params = {"params.yaml": {"data": {"dataset": "corpus", "train": {"epochs": epochs, "seed": 1}}}}
    metrics = {"metrics/evaluate/metrics.json": {"data": {**SCORES, "split": split, **scores}}}
    data = {"params": params, "metrics": metrics}
    return {"rev": "0123456789", "name": name, "data": data, "error": None, "experiments": None}


def test_scores_with_intervals_and_what_differs() -> None:
    queued = {"rev": "abcdef01234", "name": None, "error": None, "data": {"params": entry("", 40)["data"]["params"]}}
    listed = [
        entry("workspace", 20),
        entry("main", 20)
        | {
            "experiments": [
                {"name": "longer", "revs": [entry(None, 30, accuracy=0.95)], "executor": None},
                {"name": "cut", "revs": [entry(None, 50)], "executor": {"state": "running"}},
                {"name": None, "revs": [queued], "executor": {"state": "Queued"}},
            ]
        },
        {"rev": "fedcba987654", "name": None, "data": None, "error": {"msg": "no dvc.yaml"}, "experiments": None},
    ]
    assert table(list(read_runs(listed))) == [
        "experiment  accuracy                 log loss  ece     cavg    train.epochs",
        "workspace   0.9000 [0.8000, 1.0000]  0.2500    0.0300  0.0200  20",
        "main        0.9000 [0.8000, 1.0000]  0.2500    0.0300  0.0200  20",
        "  longer    0.9500 [0.8000, 1.0000]  0.2500    0.0300  0.0200  30",
        "  cut       running                  -         -       -       50",
        "  abcdef0   queued                   -         -       -       40",
        "fedcba987   failed                   -         -       -       –",
    ]


def test_the_split_is_shown_where_it_is_not_the_same() -> None:
    lines = table(list(read_runs([entry("workspace", 1), entry("main", 1, split="random split", accuracy_low=None)])))
    assert lines[0].split()[-1] == "split"
    assert lines[2] == "main        0.9000                   0.2500    0.0300  0.0200  random split"
