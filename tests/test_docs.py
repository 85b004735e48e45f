"""Every command in README.md and docs/*.md is run, every link leads somewhere, and the tables are complete.

One small project serves all of them: README's commands first, then each document's, in its order. A document begins
with the params of the start; what the ones before it have built is there.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SEED, Project
from learning_project import write_params

from stages.pipeline.yaml12 import load_yaml12

README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
# Not run here, and why.
ELSEWHERE = {
    "make test": "this is it",
    "nvidia-smi": "needs a GPU",
    "make setup-gpu": "needs a GPU; downloads 3 GB",
    "make compare-splits": "tests/test_compare_splits.py runs it",
    "make experiments": "takes hours; tests/test_experiments.py runs a part",
    "make benchmark-accuracy": "takes hours; tests/test_benchmarks_accuracy.py runs it small",
    "make bench": "takes an hour; tests/test_benchmarks*.py run it small",
    "make serve": "runs until it is stopped; tests/test_page*.py run it",
    "make faults": "takes hours; tests/test_faults*.py run a sample",
    'pip install ".[predict]"': "tests/test_packaging.py does it in an environment of its own",
    "recognise-language --model models/export recording.mp3": "the same",
    "dask scheduler --host 127.0.0.1 --port 8786 --no-dashboard": "tests/test_cluster.py runs scheduler and workers",
    "PYTHONPATH=. dask worker tcp://127.0.0.1:8786 --nworkers 2 --nthreads 1 --no-dashboard": "the same",
    "dask scheduler --protocol tls --port 8786 --no-dashboard": "the same",
    "PYTHONPATH=. dask worker tls://scheduler-host:8786 --nworkers 16 --nthreads 1 --no-dashboard": "the same",
}
VOICED = ("es", "pt", "fi", "tr", "ru", "ca")
VOICES = {"eu": "ca", "basque": "ca", "fr": "ru"}  # what they are called, and what speaks
TINY: dict[str, object] = {
    "manifest.group_pattern": r"(speaker\d)",
    "manifest.seed": SEED,
    "manifest.test_fraction": 0.25,
    "manifest.validation_fraction": 0.2,
    "logmel.n_mels": 32,
    "logmel.n_fft": 512,
    "logmel.fmin_hz": 100,
    "resize.height": 32,
    "resize.width": 32,
    "resize.window_seconds": 1,
    "resize.stride_seconds": 1,
    "train.epochs": 1,
    "train.batch_size": 16,
    "train.augment.crop_columns": 0,
    "article.epochs": 0,
    "evaluate.bootstrap_samples": 100,
    "robustness.seconds": [],
    "robustness.codecs": [],
    "robustness.snr_db": [20],
    "robustness.max_clips": 4,
    "export.max_clips": 2,
}


def commands(path: Path) -> list[str]:
    """Of all console blocks, in order."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def synthesise(folder: Path) -> Path:
    """<language>/*.mp3: eight voices of the demo corpus, the same in each language, 3 s a clip."""
    params = load_yaml12((ROOT / "data/demo/params.yaml").read_text())
    params |= {"languages": list(VOICED), "clips": {"train": 6, "validation": 1, "test": 1}, "clip_seconds": 3}
    (folder / "voices.yaml").write_text(yaml.safe_dump(params))
    command = [
        sys.executable,
        "-m",
        "demo_corpus",
        "--out",
        str(folder / "voiced"),
        "--params",
        str(folder / "voices.yaml"),
    ]
    subprocess.run(command, cwd=ROOT / "data/demo", check=True, capture_output=True)
    return folder / "voiced"


def lay(voiced: Path, folder: Path, languages: Iterable[str]) -> None:
    """<language>/speaker<n>.mp3"""
    for language in languages:
        (folder / language).mkdir(parents=True)
        # as they are numbered, so that speaker0 has the same voice everywhere
        clips = sorted((voiced / VOICES.get(language, language)).iterdir(), key=lambda path: path.stem.split("-")[-1])
        for number, path in enumerate(clips):
            shutil.copy(path, folder / language / f"speaker{number}.mp3")


def lay_published(voiced: Path, folder: Path) -> None:
    """Tiny corpora in the layouts of Common Voice, VoxLingua107 and FLEURS, and a table."""
    lines = ["file,tongue,caller"]
    lay(voiced, folder / "calls", ("es", "eu"))
    for language in ("es", "eu"):
        rows, sentences = ["client_id\tpath\tsentence"], []
        for number, path in enumerate(sorted((folder / "calls" / language).iterdir())):
            for name in (
                f"cv-corpus/{language}/clips/{path.name}",
                f"voxlingua107/{language}/speaker{number}__U__S0---0000.000-0003.000.mp3",
                f"fleurs/{language}/audio/train/{path.name}",
            ):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / name)
            rows.append(f"client{number}\t{path.name}\tWords")
            sentences.append(f"{number}\t{path.name}\tWords")
            lines.append(f"{language}/{path.name},{language},caller{number}")
        (folder / f"cv-corpus/{language}/validated.tsv").write_text("\n".join(rows) + "\n")
        (folder / f"fleurs/{language}/train.tsv").write_text("\n".join(sentences) + "\n")
    (folder / "calls/calls.csv").write_text("\n".join(lines) + "\n")


def write_set_up(folder: Path) -> None:
    """As after `make setup`: make finds .venv ready, and in it the packages that run this test."""
    lock = "".join(f"{name}=={importlib.metadata.version(name)} \\\n" for name in ("dvc", "numpy", "h5py"))
    (folder / "requirements.lock").write_text(lock)
    for name in ("activate", "../.ready"):
        path = folder / ".venv/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    outside = tmp_path_factory.mktemp("docs")
    made = Project(outside / "project", outside / "nothing")
    for name in (
        "app",
        "Makefile",
        "models/.gitignore",
        *(f"metrics/{p.name}/.gitignore" for p in ROOT.glob("metrics/*")),
    ):
        source, target = ROOT / name, made.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, target)
    write_set_up(made.folder)
    write_params(made.folder / "params.yaml", TINY)  # the real one, a few lines changed: sed must find its lines
    made.with_dvc()
    voiced = synthesise(outside)
    lay(voiced, made.folder / "data/demo/clips", ("es", "pt", "fi", "tr"))
    lay(voiced, made.folder / "data/human/clips", ("es", "fr"))
    lay(voiced, outside / "recordings", ("es", "eu"))
    lay(voiced, outside, ("basque",))
    lay_published(voiced, outside)
    yield made
    shutil.rmtree(outside)


@pytest.mark.parametrize("name", [name for name, path in zip(NAMES, DOCUMENTS, strict=True) if commands(path)])
def test_every_command_runs(project: Project, name: str) -> None:
    if name != "README.md":
        if not (project.folder / "models/export/model.onnx").exists():  # this document alone was asked for
            project.run("make", "repro")
        write_params(project.folder / "params.yaml", TINY)
        (project.folder / "notes.txt").write_text(name)  # so that there is something to commit
    output: dict[str, str] = {}
    for command in commands(ROOT / name):
        if command not in ELSEWHERE:
            output[command] = output.get(command, "") + project.run("bash", "-c", command)
    check = CHECKS.get(name)
    if check:
        check(project, output)


def check_readme(project: Project, output: dict[str, str]) -> None:
    assert "test accuracy" in output["make repro"]
    assert re.match(r"\.\./recordings/es/speaker0\.mp3  ", output["python -m app.predict ../recordings/es/*.mp3"])
    assert "log_loss" in output["dvc metrics diff"]  # an accuracy of so few clips may stay the same
    shown = output["make compare"]  # dvc exp show hides what has no room
    assert "  longer " in shown
    assert "  article " in shown
    assert (project.folder / "dvc_plots/index.html").is_file()
    assert list((project.folder.parent / "team-cache").rglob("*"))


def check_tuning(project: Project, output: dict[str, str]) -> None:
    rates = re.findall(r"^  \w+.*\[.*  (0\.\d+)$", output["make compare"], re.MULTILINE)
    assert {"0.0010", "0.0050"} <= set(rates) or "train.learning_rate" in output["make compare"]
    assert (project.folder / "report.html").is_file()


def check_new_language(project: Project, output: dict[str, str]) -> None:
    added = next(text for command, text in output.items() if command.startswith("make new-language"))
    assert re.search(r"^all languages +0\.\d+ \[.* 8 clips", added, re.MULTILINE)
    assert re.search(r"^eu +- +[01]\.\d+ \[", added, re.MULTILINE)
    assert "dataset: data/with/eu" in (project.folder / "params.yaml").read_text()


def test_the_notebook_runs(project: Project) -> None:
    if not (project.folder / "models/export/model.onnx").exists():
        project.run("make", "repro")
    write_params(project.folder / "params.yaml", TINY)
    project.run("dvc", "repro", "export")
    shutil.copytree(ROOT / "docs", project.folder / "docs")
    before = (project.folder / "docs/one_clip.ipynb").read_text()
    project.run("python", "docs/run_notebook.py")
    cells = json.loads((project.folder / "docs/one_clip.ipynb").read_text())["cells"]
    shown = "".join(str(cell.get("outputs")) for cell in cells)
    assert "the same bytes: True" in shown
    assert shown.count("image/png") == 5
    assert "the same bytes: True" in before
    assert len(before) < 300_000


def check_corpora(project: Project, output: dict[str, str]) -> None:
    layouts = re.findall(r"layout (\w+), 16 recordings", "".join(output.values()))
    assert set(layouts) == {"common_voice", "voxlingua107", "fleurs", "table", "folders"}


CHECKS = {
    "README.md": check_readme,
    "docs/tuning.md": check_tuning,
    "docs/new_language.md": check_new_language,
    "docs/corpora.md": check_corpora,
}


def test_exceptions_are_as_few_as_can_be() -> None:
    there = {command for path in DOCUMENTS for command in commands(path)}
    documented = {"make bench", "make benchmark-accuracy", "make serve", "make faults"}  # may come and go
    assert not set(ELSEWHERE) - there - documented
    assert {"make repro", "make doctor", "make report", "make compare"} <= there


def test_make_knows_every_target() -> None:
    targets = {command for path in DOCUMENTS for command in commands(path) if re.match(r"make [a-z]", command)}
    for command in sorted(targets):
        done = subprocess.run(f"{command} -n", shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in sorted(set(re.findall(r"\]\(([^)#\s]+)", text))):
        if not target.startswith("https://"):
            assert ((ROOT / name).parent / target).exists(), target


def test_every_document_is_listed() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert [path.name for path in DOCUMENTS[1:] if path.name != "README.md" and f"({path.name})" not in index] == []


def test_params_reference_is_up_to_date() -> None:
    document = runpy.run_path(str(ROOT / "docs/make_params.py"))["document"]
    assert document() == (ROOT / "docs/params.md").read_text(encoding="utf-8"), "run python docs/make_params.py"
    assert re.search(r"`train`|## train", document())


def test_results_are_those_of_the_records() -> None:
    filled = runpy.run_path(str(ROOT / "docs/fill_results.py"))["filled"]
    text = README.read_text(encoding="utf-8")
    assert filled(text, ROOT / "docs/results") == text


def test_every_reason_code_is_explained() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "stages").rglob("*.py")))
    reasons = set(re.findall(r'(?:RejectedClip|Fault)\(\s*"([a-z_]+)"', code))
    archives = (ROOT / "stages/pipeline/archives.py").read_text(encoding="utf-8")
    reasons |= set(re.findall(r'(?:name|""|return),? "([a-z_]+)", f?"', archives))
    reasons |= set(re.findall(r'\(\s*"(duplicate_[a-z]+|conflicting_labels)"', code))
    reasons |= set(re.findall(r'row\.path, "([a-z_]+)",', code))
    assert {"too_large", "damaged_archive", "encrypted", "not_audio"} < reasons
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    assert not {reason for reason in reasons if f"`{reason}`" not in text}
