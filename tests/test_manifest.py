"""The manifest stage on folders and tables as they are published: one contract for all layouts, and the faults."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project, make_params, speech_like, write_corpus

from stages.pipeline.errors import ParamsError, StorageError
from stages.pipeline.layouts import Entry, find_recordings
from stages.pipeline.manifest_table import COLUMNS, Row, read_manifest

MakeProject = Callable[..., Project]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"sound of " + path.encode())


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def folders(root: Path) -> Path:
    touch(root, "es/a.mp3", "fr/b.wav", "fr/README.md", ".git/x.mp3")
    return root


def speakers(root: Path) -> Path:
    touch(root, "es/ana/1.mp3", "fr/luc/1.mp3")
    return root


def own_corpus(root: Path) -> Path:
    touch(root, "x/1.mp3", "y/2.mp3")
    write(root / "corpus.csv", "path,language,group,split\nx/1.mp3,es,ana,train\ny/2.mp3,fr,luc,test\n")
    return root


def any_table(root: Path) -> Path:
    touch(root, "audio/1.mp3", "audio/2.mp3")
    return write(root / "calls.tsv", "path\tlanguage\naudio/1.mp3\tes\naudio/2.mp3\tfr\n")


def topcoder(root: Path) -> Path:
    touch(root, "1.mp3", "2.mp3")
    return write(root / "train.csv", "Sample Filename,Language\n1.mp3,es\n2.mp3,fr\n")


def common_voice(root: Path) -> Path:
    for language, speaker in (("es", "ana"), ("fr", "luc")):
        touch(root, f"{language}/clips/common_voice_{language}_1.mp3")
        write(
            root / language / "validated.tsv",
            f'client_id\tpath\tsentence\tlocale\n{speaker}\tcommon_voice_{language}_1.mp3\tHe said "no\t{language}\n',
        )
    return root


def voxlingua107(root: Path) -> Path:
    touch(root, "es/ab-_c__U__S12---0030.440-0038.880.wav", "fr/zz__U__S0---0001.000-0009.000.wav")
    touch(root, "dev/es/qq__U__S0---0001.000-0009.000.wav")
    return root


def fleurs(root: Path) -> Path:
    for language in ("es_419", "fr_fr"):
        touch(root, f"{language}/audio/train/11.wav", f"{language}/audio/test/12.wav")
        for split, number in (("train", 1), ("test", 2)):
            line = f"{number}\t1{number}.wav\tHola.\thola\th o l a\t32000\tFEMALE\n"
            write(root / language / f"{split}.tsv", line)
    return root


@pytest.mark.parametrize(
    ("make", "layout", "expected"),
    [
        (folders, "folders", [Entry("es/a.mp3", "es"), Entry("fr/b.wav", "fr")]),
        (speakers, "folders", [Entry("es/ana/1.mp3", "es", "ana"), Entry("fr/luc/1.mp3", "fr", "luc")]),
        (own_corpus, "table", [Entry("x/1.mp3", "es", "ana", "train"), Entry("y/2.mp3", "fr", "luc", "test")]),
        (any_table, "table", [Entry("audio/1.mp3", "es"), Entry("audio/2.mp3", "fr")]),
        (topcoder, "topcoder", [Entry("1.mp3", "es"), Entry("2.mp3", "fr")]),
        (
            common_voice,
            "common_voice",
            [
                Entry("es/clips/common_voice_es_1.mp3", "es", "ana"),
                Entry("fr/clips/common_voice_fr_1.mp3", "fr", "luc"),
            ],
        ),
        (
            voxlingua107,
            "voxlingua107",
            [
                Entry("es/ab-_c__U__S12---0030.440-0038.880.wav", "es", "ab-_c"),
                Entry("fr/zz__U__S0---0001.000-0009.000.wav", "fr", "zz"),
                Entry("dev/es/qq__U__S0---0001.000-0009.000.wav", "es", "qq", "test"),
            ],
        ),
        (
            fleurs,
            "fleurs",
            [
                Entry("es_419/audio/train/11.wav", "es_419", "sentence-1"),
                Entry("es_419/audio/test/12.wav", "es_419", "sentence-2"),
                Entry("fr_fr/audio/train/11.wav", "fr_fr", "sentence-1"),
                Entry("fr_fr/audio/test/12.wav", "fr_fr", "sentence-2"),
            ],
        ),
    ],
)
def test_layouts(tmp_path: Path, make: Callable[[Path], Path], layout: str, expected: list[Entry]) -> None:
    dataset = make(tmp_path)
    found, entries = find_recordings(str(dataset), make_params().manifest)
    assert (found, entries) == (layout, expected)
    root = dataset if dataset.is_dir() else dataset.parent
    assert all((root / entry.path).is_file() for entry in entries)


def test_named_columns(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp3")
    table = write(tmp_path / "t.csv", "file;x,lang,who\n1.mp3,es,ana\n")
    params = make_params(manifest={"columns": {"path": "file;x", "language": "lang", "group": "who"}}).manifest
    assert find_recordings(str(table), params)[1] == [Entry("1.mp3", "es", "ana")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1.mp3,es\n", "expected the column.s. path, language, received 'a,b'"),
        ("path,language,split\n1.mp3,es,tset\n", "expected a split of .* received 'tset'"),
        ("path,language\n1.mp3,\n", "line 2 has too many cells or an empty"),
        ("path,language\n1.mp3,es,x,y\n", "line 2 has too many cells"),
        ("", "expected the column"),
        ("path,language\n", "found no recording"),
        ("x" * 200_000, "cannot be read as a table: field larger"),
    ],
)
def test_faulty_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        find_recordings(str(write(tmp_path / "t.csv", text)), make_params().manifest)


def test_a_name_that_is_no_utf8_in_fleurs(tmp_path: Path) -> None:
    table = fleurs(tmp_path) / "fr_fr/test.tsv"
    table.write_bytes(b"2\t1\xff.wav\tHola.\n")
    entries = find_recordings(str(tmp_path), make_params().manifest)[1]
    assert entries[-1].path == os.fsdecode(b"fr_fr/audio/test/1\xff.wav")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("id,a\0.mp3,es,g,train,ff,s0,", "no file has a name such as"),
        ("id,a%00.mp3,es,g,train,ff,s0,", "no file has a name such as"),
        ("id,a.zip/a.mp3,es,g,train,ff,s0,99999999999999999999+1", "expected the place of a recording"),
        ("id,a.mp3,es,g,train,ff,../s0,", "expected a shard's name, received '../s0'"),
        ("id,a.mp3,es,g,dev,ff,s0,", "expected a split of .* received 'dev'"),
        ("id,a.mp3", "cannot be read as a manifest"),
    ],
)
def test_a_row_that_no_stage_writes(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path / "manifest.csv", f"{','.join(COLUMNS)}\n{row}\n")
    with pytest.raises(StorageError, match=message):
        read_manifest(path)


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="found nothing"):
        find_recordings(str(tmp_path / "gone"), make_params().manifest)


def test_table_layout_of_a_folder(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "path,language\n")
    with pytest.raises(ParamsError, match="expected a folder"):
        find_recordings(str(table), make_params(manifest={"layout": "folders"}).manifest)


# The stage, run as a process.


def quarantine(project: Project, stage: str = "manifest") -> dict[str, str]:
    with (project.folder / "metrics" / stage / "quarantine.csv").open(encoding="utf-8", newline="") as handle:
        return {row["path"]: row["reason"] for row in csv.DictReader(handle)}


def manifest(project: Project) -> list[Row]:
    return read_manifest(project.folder / "data/manifest.csv")


def test_groups_and_files_stand_in_one_split(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", languages=3, groups=12, clips=2, seconds=0.1)
    shutil.copy(corpus / "l0/speaker0/0.wav", corpus / "l0/speaker5/copy.wav")  # a copy under another speaker
    shutil.copy(corpus / "l1/speaker0/0.wav", corpus / "l2/speaker0/liar.wav")  # a copy under another language
    project = make_project(corpus)
    project.stage("manifest")
    rows = manifest(project)
    assert len({(row.group, row.split) for row in rows}) == len({row.group for row in rows})
    assert len({row.sha256 for row in rows}) == len(rows)
    assert {row.split for row in rows} >= {"train", "test"}
    assert quarantine(project) == {
        "l0/speaker5/copy.wav": "duplicate_file",
        "l1/speaker0/0.wav": "conflicting_labels",
        "l2/speaker0/liar.wav": "conflicting_labels",
    }
    summary = json.loads((project.folder / "metrics/manifest/summary.json").read_text())
    assert (summary["rows"], summary["kept"], summary["rejected"]) == (74, 71, 3)


def test_adding_clips_moves_none(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=12, clips=2, seconds=0.1)
    project = make_project(corpus)
    project.stage("manifest")
    before = {row.id: row for row in manifest(project)}
    write_corpus(corpus, groups=14, clips=3, seconds=0.1)
    project.stage("manifest")
    after = {row.id: row for row in manifest(project)}
    assert len(after) > len(before)
    assert all(after[clip].split == row.split for clip, row in before.items())


def test_random_split_says_what_it_is(make_project: MakeProject) -> None:
    project = make_project(groups=6, clips=10, seconds=0.1)
    project.set(manifest={"split_by": "random"})
    assert "random split: may measure voices, not languages" in project.stage("manifest")
    info = json.loads((project.folder / "data/manifest.json").read_text())
    assert info["split_label"] == "random split: may measure voices, not languages"
    assert len({(row.group, row.split) for row in manifest(project)}) > 6


def test_no_groups_known_says_so_too(make_project: MakeProject, tmp_path: Path) -> None:
    for language in ("es", "fr"):
        for number in range(40):
            touch(tmp_path / "flat", f"{language}/{number}.mp3")
    project = make_project(tmp_path / "flat")
    assert "random split: may measure voices" in project.stage("manifest")


def test_group_pattern(make_project: MakeProject, tmp_path: Path) -> None:
    for language in ("es", "fr"):
        for number in range(40):
            touch(tmp_path / "flat", f"{language}/{language}-v{number % 10}-{number}.mp3")
    project = make_project(tmp_path / "flat")
    project.set(manifest={"group_pattern": r"-(v\d+)-"})
    assert "group-disjoint" in project.stage("manifest")
    assert {row.group for row in manifest(project)} == {f"v{n}" for n in range(10)}


def test_a_language_more_or_less_is_one_param(make_project: MakeProject) -> None:
    project = make_project(languages=4, groups=12, seconds=0.1)
    project.set(manifest={"drop_languages": ["l1"]})
    project.stage("manifest")
    assert {row.language for row in manifest(project)} == {"l0", "l2", "l3"}
    project.set(manifest={"drop_languages": [], "languages": ["l0", "l1"]})
    project.stage("manifest")
    assert {row.language for row in manifest(project)} == {"l0", "l1"}
    project.set(manifest={"languages": ["l0", "klingon"]})
    assert "names klingon; the dataset has l0, l1, l2, l3" in project.stage("manifest", status=2)


def test_own_split_that_tears_a_group(make_project: MakeProject, tmp_path: Path) -> None:
    touch(tmp_path, "1.mp3", "2.mp3", "3.mp3", "4.mp3")
    table = write(
        tmp_path / "t.csv",
        "path,language,group,split\n1.mp3,es,ana,train\n2.mp3,es,ana,test\n3.mp3,fr,luc,train\n4.mp3,fr,eve,test\n",
    )
    output = make_project(table).stage("manifest", status=4)
    assert "'ana' in test and train" in output


def test_too_few_groups_names_a_seed_that_works(make_project: MakeProject) -> None:
    project = make_project(groups=3, seconds=0.1)
    failing = next(seed for seed in range(99) if not works(project, seed))
    project.set(manifest={"seed": failing})
    output = project.stage("manifest", status=4)
    seed = int(output.split("manifest.seed: ")[1].split()[0])
    assert works(project, seed)


def works(project: Project, seed: int) -> bool:
    project.set(manifest={"seed": seed})
    with project.start("python", "-m", "stages.manifest") as process:
        process.communicate()
    return bool(process.returncode == 0)


def test_one_language(make_project: MakeProject) -> None:
    assert "expected at least two languages, received l0" in make_project(languages=1).stage("manifest", status=4)


def test_what_is_no_recording_is_rejected_and_read_by_nobody(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=12, clips=3, seconds=0.1)
    secret = write(tmp_path / "secret.mp3", "secret")
    (corpus / "l0/speaker0/link.mp3").symlink_to(secret)
    (corpus / "l0/speaker0/broken.mp3").symlink_to(corpus / "nowhere.mp3")
    os.mkfifo(corpus / "l0/speaker0/pipe.mp3")
    (corpus / "l0/speaker0/empty.mp3").touch()
    project = make_project(corpus)
    project.set(manifest={"max_reject_fraction": 0.2})
    project.stage("manifest")
    assert {os.path.basename(path): reason for path, reason in quarantine(project).items()} == {
        "link.mp3": "outside_dataset",
        "broken.mp3": "missing",
        "pipe.mp3": "not_a_file",
        "empty.mp3": "empty_file",
    }


def test_rows_that_leave_the_root(make_project: MakeProject, tmp_path: Path) -> None:
    write(tmp_path / "secret.mp3", "secret")
    touch(tmp_path / "data", *(f"{n}.mp3" for n in range(40)))
    rows = [f"{n}.mp3,{'es' if n % 2 else 'fr'}" for n in range(40)]
    rows += ["../secret.mp3,es", f"{tmp_path}/secret.mp3,es", "gone.mp3,es", "0.mp3,fr", "a\0b.mp3,es"]
    project = make_project(write(tmp_path / "data/t.csv", "path,language\n" + "\n".join(rows) + "\n"))
    project.set(manifest={"max_reject_fraction": 0.5})
    project.stage("manifest")
    reasons = quarantine(project)
    assert reasons["../secret.mp3"] == "outside_dataset"
    assert reasons[f"{tmp_path}/secret.mp3"] == "outside_dataset"
    assert reasons["gone.mp3"] == "missing"
    assert reasons["0.mp3"] == "named_twice"
    assert reasons["a%00b.mp3"] == "unreadable"


def test_too_many_rejected(make_project: MakeProject, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", groups=4, clips=1, seconds=0.1)
    for number in range(3):
        (corpus / f"l0/speaker0/empty{number}.mp3").touch()
    output = make_project(corpus).stage("manifest", status=3)
    assert "3 of 11 recordings were rejected (3 empty_file); at most 5% may be" in output
    assert "metrics/manifest/quarantine.csv" in output


def test_sounds_are_distinct() -> None:
    assert abs(speech_like(1) - speech_like(2)).max() > 0.1  # the corpora above are made of distinct files
