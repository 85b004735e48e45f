"""`make new-language`: the second dataset; docs/new_language.md's command is run by tests/test_docs.py."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project, write_corpus

from app.new_language import Evaluation, grow, main, told
from app.paired import read_predictions
from stages.pipeline.errors import ParamsError
from stages.pipeline.manifest_table import read_manifest
from stages.pipeline.params import load_params

MakeProject = Callable[..., Project]


def grown_rows(project: Project, grown: Path) -> dict[str, tuple[str, str, str]]:
    """The manifest over the second dataset: id -> language, group, split."""
    project.set(dataset=str(grown))
    project.stage("manifest")
    return {row.id: (row.language, row.group, row.split) for row in read_manifest()}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Eight speakers of a third language."""
    return write_corpus(tmp_path / "more", languages=3, groups=8) / "l2"


def test_old_clips_keep_ids_and_splits(
    make_project: MakeProject, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(groups=8)
    monkeypatch.chdir(project.folder)
    project.stage("manifest")
    before = {row.id: (row.language, row.group, row.split) for row in read_manifest()}
    grown = Path("data/with/l2")
    grow(load_params(), recordings, "l2", grown)
    after = grown_rows(project, grown)
    assert {name: after[name] for name in before} == before
    new = [row for name, row in after.items() if name not in before]
    assert len(new) == 16
    assert {language for language, _, _ in new} == {"l2"}
    assert {group for _, group, _ in new} == {f"speaker{i}" for i in range(8)}
    original = next((project.folder.parent / "corpus").rglob("*.wav"))
    assert original.stat().st_nlink == 2  # a link, no copy


def test_a_table_with_splits_of_its_own(
    make_project: MakeProject, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=6)
    names = sorted(path.relative_to(corpus) for path in corpus.rglob("*.wav"))
    splits = ("train", "train", "train", "train", "valid", "test")
    lines = [f"{name},{name.parts[0]},{name.parts[1]},{splits[int(name.parts[1][-1])]}" for name in names]
    table = corpus / "corpus.csv"
    table.write_text("file,tongue,group,split\n" + "\n".join(lines) + "\n")
    project = make_project(corpus)
    project.set(manifest={"columns": {"path": "file", "language": "tongue", "group": "group", "split": "split"}})
    monkeypatch.chdir(project.folder)
    was = table.read_text()
    grow(load_params(), recordings, "l2", Path("data/with/l2"))
    assert table.read_text() == was
    with Path("data/with/l2/corpus.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(names) + 16
    assert all(row["split"] for row in rows)
    assert {"train", "test"} <= {row["split"] for row in rows if row["tongue"] == "l2"}
    assert {row[2] for row in grown_rows(project, Path("data/with/l2")).values()} == {"train", "validation", "test"}


def test_what_cannot_be_added(
    make_project: MakeProject, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project()
    monkeypatch.chdir(project.folder)
    with pytest.raises(ParamsError, match=r"holds recordings in l1 that params\.yaml leaves out"):
        grow(load_params(), recordings, "l1", Path("data/with/l1"))
    Path("empty").mkdir()
    with pytest.raises(ParamsError, match="expected recordings in empty, found none"):
        grow(load_params(), Path("empty"), "l2", Path("data/with/l2"))
    assert main([str(recordings), "../l2"]) == 2
    assert main(["nowhere", "l2"]) == 2
    assert "expected a folder of recordings, found none at nowhere" in capsys.readouterr().err


def test_what_is_told() -> None:
    def evaluation(accuracy: float, languages: dict[str, str], right: int) -> Evaluation:
        scores = {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1, "chance": 0.5}
        rows = {
            name: {"recall": recall, "recall_low": "0.5", "recall_high": "1.0", "n": "10"}
            for name, recall in languages.items()
        }
        lines = "".join(f"{i},g{i % 3},es,{'es' if i < right else 'fr'},0.9\n" for i in range(10))
        answers = read_predictions("id,group,actual,predicted,probability\n" + lines)
        return Evaluation({**scores, "n_clips": 20, "split": "group-disjoint"}, rows, answers)

    before = evaluation(0.8, {"es": "0.7", "fr": "0.9"}, 7)
    after = evaluation(0.75, {"es": "0.5", "fr": "0.9", "eu": "0.8"}, 5)
    lines = told(before, after, "eu", Path("data/with/eu"))
    assert lines[1].split("  ")[0] == "all languages"
    assert lines[2].startswith("eu             -")
    assert "0.700 [0.500, 1.000]" in lines[3]
    assert "-0.2000 [" in lines[3]
    assert "10 clips" in lines[3]
    assert "dvc exp apply with-eu" in lines[-2]
