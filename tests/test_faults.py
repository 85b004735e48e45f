"""A small sample of each family of faults; `make faults` runs them all (docs/reliability.md)."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from conftest import ROOT

from faults.__main__ import NAMES
from faults.page import PAGE, ROWS, filled

# (how many, from which one on): what is quick and has found something once
SAMPLE = {
    "media": (40, 0),
    "bombs": (3, 10),
    "injection": (24, 0),
    "names": (60, 0),
    "kills": (2, 2),
    "signals": (1, 0),
    "disk": (1, 12),
    "flips": (20, 0),
    "invariance": (1, 4),
    "models": (3, 19),
    "fuzzing": (1000, 0),
    "server": (48, 0),
    "training": (1, 2),
    "duplicates": (1, 5),
}
SLOW = {"training"}  # TensorFlow starts three times; tests/test_train.py kills a training among the quick ones


@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.slow) if one in SLOW else one for one in SAMPLE])
def test_nothing_is_lost(name: str, tmp_path: Path) -> None:
    count, first = SAMPLE[name]
    result = importlib.import_module(f"faults.{name}").run(count, 0, tmp_path, first)
    assert not result.failures
    assert result.skipped or result.tried == count


def test_the_numbers_in_the_docs_are_those_that_were_measured() -> None:
    measured = json.loads((ROOT / "metrics/faults.json").read_text())
    page = PAGE.read_text()
    assert filled(page, measured) == page, "run `python -m faults.page`"
    assert set(ROWS) == set(NAMES)
