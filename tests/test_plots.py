"""`dvc plots show`: what is on the page, with titles, intervals and the right way round."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import Any

from conftest import ROOT, Project


def specs(html: str) -> dict[str, dict[str, Any]]:
    """Vega-Lite specifications on the page, by title."""
    decoder = json.JSONDecoder()
    found = [decoder.raw_decode(html[match.end() :])[0] for match in re.finditer(r"var spec\s*=\s*", html)]
    return {spec["title"]["text"]: spec for spec in found}


def test_the_page(make_project: Callable[..., Project]) -> None:
    project = make_project()
    shutil.copytree(ROOT / "metrics", project.folder / "metrics", dirs_exist_ok=True)
    for split in ("train", "validation"):
        for name in ("loss", "accuracy"):
            path = project.folder / f"metrics/train/plots/metrics/{split}/{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"step\t{name}\n0\t0.5\n1\t0.6\n")
    project.with_dvc()
    project.run("dvc", "plots", "show")
    html = (project.folder / "dvc_plots/index.html").read_text()
    found = specs(html)
    assert list(found) == [
        "Loss by epoch",
        "Accuracy by epoch",
        "What can be told without hearing a word",
        "Confusion on the test split",
        "Recall of each language on the test split",
        "How sure against how right, on the test split",
        "Accuracy on damaged test clips",
    ]
    assert "<DVC_METRIC_" not in html
    confusion = found["Confusion on the test split"]["spec"]
    assert confusion["encoding"]["y"]["field"] == "actual"
    assert confusion["transform"][1]["groupby"] == ["rev", "actual"]  # shares of the language that was spoken
    recall = found["Recall of each language on the test split"]
    assert recall["transform"][0]["calculate"].count("recall_low") == 2
    assert recall["data"]["values"][0]["recall_low"]
    assert found["Accuracy on damaged test clips"]["encoding"]["y"]["sort"] is None  # 1 s, 3 s, 10 s as in the table
    assert 'src="static/' in html  # the pictures, which need no network
