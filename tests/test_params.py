from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from conftest import PARAMS, merged
from ruamel.yaml import YAML

from stages.pipeline.errors import ParamsError
from stages.pipeline.params import load_params, parse_params
from stages.pipeline.yaml12 import load_yaml12


def test_norwegian_is_a_language_and_1e_3_a_number() -> None:
    assert load_yaml12("languages: [no, en, on, yes, y]\nrate: 1e-3") == {
        "languages": ["no", "en", "on", "yes", "y"],
        "rate": 0.001,
    }


@pytest.mark.parametrize(
    "scalar",
    ["no", "off", "true", "True", "1e-3", "1E+5", "010", "0o17", "0x1F", "1_000", ".5", "5.", "-3", "12:30:00", ".inf",
     "~", "null", "", "''", "1.5", "+4", "0.0001", "es", "-.inf"],
)  # fmt: skip
def test_scalars_are_read_as_dvc_reads_them(scalar: str) -> None:
    text = f"a: {scalar}\n"
    ours, theirs = load_yaml12(text), YAML(typ="safe").load(io.StringIO(text))
    assert ours == theirs
    assert type(ours["a"]) is type(theirs["a"])


def test_key_twice() -> None:
    with pytest.raises(Exception, match="'a' stands twice"):
        load_yaml12("a: 1\na: 2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": {"widht": 96}}, r"resize\.widht: Extra inputs"),
        ({"resize": {"width": "wide"}}, r"resize\.width: .*integer.*received 'wide'"),
        ({"resize": {"width": 0}}, r"resize\.width: .*greater than or equal to 8; received 0"),
        ({"logmel": {"fmax_hz": 9000}}, r"logmel\.fmax_hz = 9000 is above half of resample\.rate_hz = 16000"),
        ({"logmel": {"hop_length": 2048}}, "hop_length must not be longer than n_fft"),
        ({"manifest": {"test_fraction": 0.95}}, "leave something to train on"),
        ({"manifest": {"group_pattern": "("}}, "group_pattern is no regular expression"),
        ({"manifest": {"group_pattern": "a{99999999999999999999}"}}, "group_pattern is no regular expression"),
        ({"manifest": {"group_pattern": "(" * 5000 + ")" * 5000}}, "group_pattern is no regular expression"),
        ({"train": {"seed": 2**32}}, r"train\.seed: .*less than or equal to 4294967295"),
        ({"decode": {"max_seconds": float("inf")}}, r"decode\.max_seconds: .*finite number; received inf"),
        ({"robustness": {"codecs": ["x"] * 30}}, r"has 30 fault\(s\)(.|\n)*  and 10 more"),
        ({"manifest": {"layout": "foo"}}, r"manifest\.layout: .*'folders'.*received 'foo'"),
    ],
)
def test_faults_name_the_key_and_what_was_received(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse_params(merged(PARAMS, changes))


def test_missing_section() -> None:
    with pytest.raises(ParamsError, match="decode: Field required"):
        parse_params({key: value for key, value in PARAMS.items() if key != "decode"})


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe", b"- a\n", b""])
def test_unreadable_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        load_params(path)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000, "nested too deeply"),
        ("k: !!int x", "not what its tag or its escape says"),
        ("k: !!bool x", "not what its tag or its escape says"),
        ("k: !!timestamp x", "not what its tag or its escape says"),
        (f"k: {'9' * 5000}", "not what its tag or its escape says"),
        ('k: "\\U00110000"', "not what its tag or its escape says"),
        (f"k: 0x{'f' * 5000}", "received a int too long to show"),
        (LAUGHS, "Extra inputs"),
        (MERGES, "merges more than 100 mappings or 10000 keys"),
        (f"k: {{<<: [{'{}, ' * 101}]}}", "merges more than 100 mappings"),
    ],
    ids=range(10),
)  # fmt: skip
def test_what_fuzzing_found(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=message):
        load_params(path)


def test_merges_that_are_meant() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}"
    ours = load_yaml12(text)
    assert ours == YAML(typ="safe").load(io.StringIO(text))
    assert ours["b"] == {"x": 1, "y": 3}


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="run from the repository's root"):
        load_params(tmp_path / "params.yaml")
