"""The report: one file, complete, from the numbers that the stages wrote; whole or in parts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from app.paired import paired_difference, read_predictions
from app.report.__main__ import main
from app.report.collect import flat
from app.report.page import number

SCORES = Path("metrics/evaluate/metrics.json")
HEADER = "id,group,actual,predicted,probability\n"


class Page(HTMLParser):
    """All text and all that the page points to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href"):
                self.targets.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in ("img", "meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def git(*arguments: str) -> None:
    names = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *names, *arguments], check=True, capture_output=True)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed results of the demo, in a repository of their own, one commit after others."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics", ignore=shutil.ignore_patterns(".gitignore"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    good = SCORES.read_text()
    git("init", "-q")
    change(SCORES, accuracy=0.7123)
    git("add", ".")
    git("commit", "-qm", "Earlier & <worse>")
    SCORES.write_text(good)
    git("commit", "-qam", "Now")
    return tmp_path


def report() -> tuple[str, Page]:
    assert main([]) == 0
    html = Path("report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    return html, page


def test_one_file_with_every_number(results: Path) -> None:
    table = Path("metrics/export/table.csv")
    table.write_text(
        "file,bytes,accuracy,accuracy_low,accuracy_high,n_clips\nmodel.int8.onnx,1234567,0.8,0.7,0.9,200\n"
    )
    html, page = report()
    text = " ".join(page.texts)
    assert "1234567" in text
    for target in page.targets:
        assert target.startswith("data:image/png;base64,") or target.removeprefix("#") in page.ids, target[:80]
    assert not re.search(r"https?:|<script|@import|url\(", html)
    for path in [*results.glob("metrics/*/metrics.json"), *results.glob("metrics/*/summary.json")]:
        for name, value in flat(json.loads(path.read_text())).items():
            assert name in text
            assert str(value) in text, (path, name, value)
    scores = json.loads(SCORES.read_text())
    assert number(scores["accuracy"]) in text
    assert f"95 % interval {number(scores['accuracy_low'])} to {number(scores['accuracy_high'])}" in text
    assert scores["split"] in text
    assert "<title>Spoken language recognition: " in html


def test_beside_the_commit_before(results: Path) -> None:
    html, page = report()
    assert "Earlier &amp; &lt;worse&gt;" in html
    text = " ".join(" ".join(page.texts).split())
    scores = json.loads(SCORES.read_text())
    assert f"accuracy 0.7123 {number(scores['accuracy'])} {scores['accuracy'] - 0.7123:+.4f}" in text
    assert "look at the intervals before you believe a difference" in text
    values = Path("params.yaml").read_text()
    assert "dropout: 0.3" in values
    Path("params.yaml").write_text(values.replace("dropout: 0.3", "dropout: 0.4"))
    text = " ".join(" ".join(report()[1].texts).split())
    assert f"train.dropout {number(0.3)} {number(0.4)}" in text
    assert main(["--base", "nowhere"]) == 2


def test_other_corpora_and_unknown_languages(results: Path) -> None:
    several = {"accuracy": 0.4321, "accuracy_low": 0.3, "accuracy_high": 0.5, "chance": 0.1, "ece": 0.2}
    counts = {"languages": "es fr", "n_clips": 77, "n_groups": 7}
    closed = {"closed_accuracy": 0.6543, "closed_accuracy_low": 0.5, "closed_accuracy_high": 0.8, "closed_chance": 0.5}
    unknown = {"threshold": 0.4, "n_clips": 55, "n_groups": 5}
    for name in ("accepted_unknown", "refused_known", "auroc"):
        unknown |= {name: 0.8765, f"{name}_low": 0.8, f"{name}_high": 0.9}
    extra = {"<b>calls": {**several, **counts, **closed}, "one": {**several, **counts, "languages": "es"}}
    change(SCORES, extra_corpora=extra, unknown=unknown)
    html, page = report()
    text = " ".join(page.texts)
    assert "<b>calls " in page.texts
    assert "&lt;b&gt;calls" in html
    assert all(found in text for found in ("0.4321", "0.6543", "0.8765"))


@pytest.mark.parametrize(
    "missing", ["audit", "evaluate", "train", "robustness", "manifest", "evaluate/per_language.csv", "train/plots"]
)
def test_what_was_not_run_is_left_out(results: Path, missing: str) -> None:
    path = results / "metrics" / missing
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    report()


@pytest.mark.parametrize("text", ["[" * 100_000, "\x00", '{"rows": 1, "kept": 1}', '{"rows": "many"}', "[1]"])
def test_a_damaged_account(results: Path, text: str, capsys: Any) -> None:
    (results / "metrics/decode/summary.json").write_text(text)
    assert main([]) == 74
    assert "metrics/decode/summary.json" in capsys.readouterr().err


def test_nothing_run_and_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert "run `make repro`" in capsys.readouterr().err
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert "There is no earlier commit" in report()[0]
    Path("folder").mkdir()
    assert main(["--out", "folder"]) == 74


def test_same_clips_one_by_one() -> None:
    before = HEADER + "".join(f"{i},g{i % 5},es,{'fr' if i % 4 == 0 else 'es'},0.9\n" for i in range(40))
    after = HEADER + "".join(f"{i},g{i % 5},es,es,0.9\n" for i in range(20, 60))
    found = paired_difference(read_predictions(before), read_predictions(after))
    assert found is not None
    assert (found.accuracy, found.n_clips, found.n_groups) == (0.25, 20, 5)
    assert found.low <= 0.25 <= found.high
    assert paired_difference(read_predictions(before), read_predictions(HEADER)) is None
    assert paired_difference(read_predictions(before), read_predictions(after), "fr") is None


def test_the_difference_comes_from_dvc_s_cache(results: Path) -> None:
    subprocess.run(["dvc", "init", "-q"], check=True)
    path = results / "metrics/evaluate/predictions.csv"
    for accuracy, right in ((0.7, 5), (0.9, 8)):
        path.write_text(HEADER + "".join(f"{i},g{i % 4},es,{'es' if i < right else 'fr'},0.9\n" for i in range(10)))
        subprocess.run(["dvc", "add", "-q", str(path)], check=True)
        change(SCORES, accuracy=accuracy)
        git("add", ".")
        git("commit", "-qm", f"{accuracy}")
    text = " ".join(" ".join(report()[1].texts).split())
    assert "On the 10 test clips that both have scored (4 groups), accuracy changed by +0.3000 [" in text
