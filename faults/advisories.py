"""Known vulnerabilities of the packages in requirements.lock, without a network: make advisories FROM=FOLDER

FOLDER is a clone of https://github.com/pypa/advisory-database, the database that pip-audit asks; a copy of it on a
stick will do. With a network, `pip-audit --require-hashes -r requirements.lock` says the same from today's database.

Status: 0 none is known that applies; 1 some are; 2 the folder is no such database.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from faults.project import ROOT

LOCK = ROOT / "requirements.lock"
# Known, without a mended version, and why it is borne
ACCEPTED = {
    "CVE-2025-69872": "diskcache unpickles what lies in its folder. It comes with DVC, which keeps it inside .dvc and "
    "the user's own cache: who may write there may change the results anyway (docs/threat_model.md)",
}
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[\w,-]+\])?==([^\s;\\]+)", re.MULTILINE)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def pinned(lock: str) -> dict[str, list[str]]:
    """Normalised name -> versions; there are several where the platform decides."""
    found: dict[str, list[str]] = {}
    for name, version in _PINNED.findall(lock):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def applies(advisory: dict[str, Any], name: str, version: str) -> bool:
    """Whether an advisory in the OSV format (https://ossf.github.io/osv-schema) is about this version."""
    if advisory.get("withdrawn"):
        return False
    for affected in advisory.get("affected", []):
        package = affected.get("package", {})
        if package.get("ecosystem") != "PyPI" or canonicalize_name(package.get("name", "")) != name:
            continue
        if version in affected.get("versions", []):
            return True
        ranges = [one["events"] for one in affected.get("ranges", []) if one.get("type") == "ECOSYSTEM"]
        if any(_inside(events, Version(version)) for events in ranges):
            return True
    return False


def _inside(events: list[dict[str, str]], version: Version) -> bool:
    """OSV's rule: of the events up to this version the last one decides."""

    def place(event: dict[str, str]) -> Version:
        (text,) = event.values()
        try:
            return Version(text)
        except InvalidVersion:  # an old name such as 2004d: before everything
            return Version("0.dev0")

    inside = False
    for event in sorted(events, key=place):
        if "introduced" in event and (event["introduced"] == "0" or version >= place(event)):
            inside = True
        elif ("fixed" in event and version >= place(event)) or ("last_affected" in event and version > place(event)):
            inside = False
    return inside


def advisories(database: Path, name: str) -> Iterator[dict[str, Any]]:
    """All that the database has on a package."""
    for path in sorted((database / "vulns" / name).glob("*.yaml")):
        yield yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506 - it is a safe one


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m faults.advisories", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("database", type=Path, help="a clone of https://github.com/pypa/advisory-database")
    database = parser.parse_args().database
    if not (database / "vulns").is_dir():
        parser.error(f"expected a clone of https://github.com/pypa/advisory-database, found no vulns in {database}")
    packages = pinned(LOCK.read_text(encoding="utf-8"))
    newest, found, borne, read = "", 0, 0, 0
    for name, versions in packages.items():
        for advisory in advisories(database, name):
            read += 1
            modified = advisory.get("modified", "")
            newest = max(newest, modified.isoformat() if isinstance(modified, datetime) else str(modified))
            for version in versions:
                if not applies(advisory, name, version):
                    continue
                names = [advisory["id"], *advisory.get("aliases", [])]
                why = next((ACCEPTED[one] for one in names if one in ACCEPTED), "")
                borne += bool(why)
                found += not why
                text = f"accepted: {why}" if why else " ".join(str(advisory.get("details", "")).split())[:300]
                print(f"{name} {version}: {', '.join(names)}: {text}")
    print(
        f"{len(packages)} packages, {read} advisories about them, the newest of {newest[:10]}: {found} apply"
        + (f", {borne} accepted" if borne else "")
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
