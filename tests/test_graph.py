"""dvc.yaml against the code: a stage that leaves out a module it imports would serve stale results from the cache."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import dvc.api
import pytest

from stages.pipeline.params import Params, load_params
from stages.pipeline.yaml12 import load_yaml12

ROOT = Path(__file__).parent.parent
STAGES: dict[str, Any] = {
    name: stage.get("do", stage)  # the template of a stage that DVC runs for each of a list
    for name, stage in load_yaml12((ROOT / "dvc.yaml").read_text())["stages"].items()
}


def module_file(name: str) -> Path | None:
    path = ROOT / Path(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imports(path: Path) -> set[Path]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {file for name in found if name.startswith(("stages", "app")) and (file := module_file(name))}


def closure(path: Path) -> set[Path]:
    done: set[Path] = set()
    todo = {path}
    while todo:
        done |= (now := todo)
        todo = {file for one in now for file in imports(one)} - done
    return done


def is_only_a_docstring(path: Path) -> bool:
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def stage_module(stage: str) -> Path:
    command = STAGES[stage]["cmd"].removesuffix(" ${key}")
    assert command == f"python -m stages.{stage}"
    return ROOT / "stages" / f"{stage}.py"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_import_closure(stage: str) -> None:
    needed = {file for file in closure(stage_module(stage)) if not is_only_a_docstring(file)}
    listed = {ROOT / dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert {str(p.relative_to(ROOT)) for p in listed} == {str(p.relative_to(ROOT)) for p in needed}


# extra takes recordings all the way at once,
# export puts the definitions of these stages into the model that it writes, robustness takes damaged sound through them
TAKEN_UP = {
    "export": {"logmel", "resize"},
    "robustness": {"logmel", "resize"},
    "extra": {"decode", "resample", "logmel", "resize"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_never_imports_another_stage(stage: str) -> None:
    others = {ROOT / "stages" / f"{other}.py" for other in STAGES if other not in {stage, *TAKEN_UP.get(stage, ())}}
    assert not closure(stage_module(stage)) & others


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_sections_or_keys_that_exist(stage: str) -> None:
    values = load_params(ROOT / "params.yaml").model_dump()
    for name in STAGES[stage].get("params", []):
        value: Any = values
        for part in name.removesuffix(".${key}").split("."):
            assert part in value, f"{stage} tracks {name}, which params.yaml does not have"
            value = value[part]


def test_every_section_is_tracked_but_execution() -> None:
    tracked = {name.split(".")[0] for stage in STAGES.values() for name in stage.get("params", [])}
    assert tracked == set(Params.model_fields) - {"execution"}


@pytest.mark.parametrize("stage", STAGES)
def test_params_that_are_read_are_tracked(stage: str) -> None:
    """`params.decode` in a stage's module means that the stage depends on that section."""
    read = {
        node.attr
        for node in ast.walk(ast.parse(stage_module(stage).read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    } & set(Params.model_fields)
    assert read - {"execution"} <= {name.split(".")[0] for name in STAGES[stage].get("params", [])}


def test_stages_read_what_dvc_reads() -> None:
    with_dvc = dvc.api.params_show("params.yaml", repo=str(ROOT))
    assert load_yaml12((ROOT / "params.yaml").read_text()) == with_dvc


def test_no_data_stage_imports_tensorflow() -> None:
    for stage in ("manifest", "decode", "resample", "logmel", "resize"):
        for path in closure(stage_module(stage)):
            assert "learning" not in path.parts, f"{stage} imports {path}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_plain_out_is_left_out_of_the_cache(stage: str) -> None:
    """It would switch the run cache off: params changed back would run the stage again."""
    for out in STAGES[stage].get("outs", []):
        assert isinstance(out, str), f"{stage}: {out}"
