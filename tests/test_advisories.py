"""The lock: everything pinned with its hashes, and looked up in a database of known vulnerabilities."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from faults.advisories import ACCEPTED, LOCK, applies, pinned

PINNED = pinned(LOCK.read_text())


def advisory(*events: dict[str, str], **more: Any) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": "JobLib"},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": "PYSEC-0000-1", "modified": "2026-01-02T00:00:00Z", "affected": [affected], **more}


def test_everything_is_pinned_with_hashes() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.read_text().strip())
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"[\w.\[\],-]+==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: one
        for name, one in project["optional-dependencies"].items()
        if name not in ("gpu", "benchmark", "explain", "microphone")
    }
    for text in [*project.get("dependencies", []), *(one for extra in extras.values() for one in extra)]:
        asked = Requirement(text)
        versions = PINNED.get(canonicalize_name(asked.name), [])
        assert any(asked.specifier.contains(version) for version in versions), text


@pytest.mark.parametrize(
    ("events", "version", "hit"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], "1.9", True),
        ([{"introduced": "0"}, {"fixed": "2.0"}], "2.0", False),
        ([{"introduced": "0"}, {"last_affected": "2.0"}], "2.0", True),
        ([{"introduced": "0"}, {"last_affected": "2.0"}], "2.0.1", False),
        ([{"introduced": "1.5"}], "1.4", False),
        ([{"fixed": "1.2"}, {"introduced": "1.0"}, {"fixed": "2.2"}, {"introduced": "2.0"}], "2.1", True),
        ([{"fixed": "1.2"}, {"introduced": "1.0"}, {"fixed": "2.2"}, {"introduced": "2.0"}], "1.5", False),
    ],
)
def test_ranges(events: list[dict[str, str]], version: str, hit: bool) -> None:
    assert applies(advisory(*events), "joblib", version) == hit
    assert not applies(advisory(*events), "scipy", version)
    assert not applies(advisory(*events, withdrawn="2026-01-01T00:00:00Z"), "joblib", version)


def look_up(database: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "faults.advisories", str(database)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_known_vulnerability_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "vulns/joblib"
    folder.mkdir(parents=True)
    (folder / "PYSEC-0000-1.yaml").write_text(yaml.safe_dump(advisory({"introduced": "0"}, details="all of it")))
    done = look_up(tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"joblib {PINNED['joblib'][0]}: PYSEC-0000-1: all of it" in done.stdout
    assert "the newest of 2026-01-02: 1 apply" in done.stdout
    known = advisory({"introduced": "0"}, aliases=list(ACCEPTED))
    (folder / "PYSEC-0000-1.yaml").write_text(yaml.safe_dump(known))
    done = look_up(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "0 apply, 1 accepted" in done.stdout


def test_no_database(tmp_path: Path) -> None:
    done = look_up(tmp_path)
    assert done.returncode == 2
    assert "found no vulns in" in done.stderr
