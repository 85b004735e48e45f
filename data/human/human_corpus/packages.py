"""Debian packages: fetched with apt-get, kept in a cache folder, unpacked with dpkg-deb. No root, nothing installed."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from human_corpus.errors import PackageError
from human_corpus.sources import Package

log = logging.getLogger(__name__)

DOWNLOAD_SECONDS = 1800
UNPACK_SECONDS = 600
HINT = (
    "this corpus needs Debian or Ubuntu with apt-get and dpkg-deb; without them choose another dataset in params.yaml"
)


def fetch(package: Package, cache: Path) -> Path:
    """The package's .deb file, from the cache or else from the machine's own package sources.

    A file stands in `cache` only when its download was complete: apt writes to another folder and verifies it there
    (signature of the lists, hash of the file), then it is renamed.

    Raises
    ------
    PackageError
        apt-get is missing, or there is no network, or no source has the package.
    """
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / f"{package.name}_{_in_file_names(package.version)}.deb"
    for path in (wanted, *sorted(cache.glob(f"{package.name}_*.deb"))):
        if path.exists():
            return _checked(package, path)
    apt = _program("apt-get")
    with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as folder:
        got = _download(apt, package, Path(folder), cache)
        version = got.name.split("_")[1]
        kept = cache / f"{package.name}_{version}.deb"
        with got.open("rb") as handle:
            os.fsync(handle.fileno())
        got.replace(kept)
    log.info("fetched %s %s, %.0f MB", package.name, version, kept.stat().st_size / 1e6)
    return _checked(package, kept)


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a .deb into `folder`.

    Raises
    ------
    PackageError
        dpkg-deb is missing or cannot read the file; a damaged file is removed, so that the next run fetches it anew.
    """
    done = _run([_program("dpkg-deb"), "-x", os.fspath(deb), os.fspath(folder)], UNPACK_SECONDS)
    if done.returncode != 0:
        if "No space left" not in done.stderr:
            deb.unlink(missing_ok=True)
        raise PackageError(
            f"dpkg-deb could not unpack {deb.name}: {_last_line(done.stderr)}; run it again to fetch it anew"
        )


def need_programs() -> None:
    """Raise PackageError at once where dpkg-deb is missing, before anything is fetched."""
    _program("dpkg-deb")


def _checked(package: Package, path: Path) -> Path:
    version = path.name.removesuffix(".deb").split("_")[1]
    if version != _in_file_names(package.version):
        log.warning(
            "%s: expected version %s, received %s; the README's counts may differ",
            package.name,
            package.version,
            version,
        )
        return path
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if package.sha256 and digest != package.sha256:
        path.unlink()
        raise PackageError(
            f"{path.name}: expected sha256 {package.sha256[:12]}..., received {digest[:12]}...; the file was removed, "
            "run it again to fetch it anew"
        )
    return path


def _in_file_names(version: str) -> str:
    """As apt writes a version into a file's name."""
    return version.replace(":", "%3a")


def _download(apt: str, package: Package, folder: Path, cache: Path) -> Path:
    """The machine's own package lists first; where they are missing or old, lists of our own, which need no root."""
    lists = cache.parent / "apt"
    for name in ("main", package.component):
        (lists / name / "partial").mkdir(parents=True, exist_ok=True)
    (lists / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    apt_here: tuple[str, ...] = (
        apt, "-q", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30",
        "-o", f"Dir::Cache={(lists / 'cache').absolute()}",
    )  # fmt: skip
    apt_own: tuple[str, ...] = (*apt_here, "-o", f"Dir::State::Lists={(lists / 'main').absolute()}")
    log.info("fetching %s ...", package.name)
    faults: list[str] = []
    # what is not in main, most machines' lists lack
    for command in (apt_here, apt_own) if package.component == "main" else (apt_own,):
        if command is apt_own:
            if faults:
                log.info("no luck with this machine's package lists (%s); fetching lists of our own", _cause(faults))
            faults.append(_updated(apt_own, folder))
            if package.component != "main":
                command = (*apt_own, *_sources_with(package.component, apt_own, lists))
                faults.append(_updated(command, folder))
        for wanted in (f"{package.name}={package.version}", package.name):
            done = _run([*command, "download", wanted], DOWNLOAD_SECONDS, folder)
            found = sorted(folder.glob(f"{package.name}_*.deb"))
            if done.returncode == 0 and found:
                return found[0]
            faults.append(_last_line(done.stderr))
    raise PackageError(
        f"apt-get could not fetch {package.name}: {_cause(faults)}. Is there a network? {HINT[0].upper()}{HINT[1:]}"
    )


_up_to_date: set[tuple[str, ...]] = set()


def _updated(command: tuple[str, ...], folder: Path) -> str:
    """Fetches lists of our own, once for all packages; returns apt's fault, if there is one."""
    if command in _up_to_date:
        return ""
    fault = _last_line(_run([*command, "update"], DOWNLOAD_SECONDS, folder).stderr)
    if not fault:
        _up_to_date.add(command)
    return fault


def _sources_with(component: str, apt: tuple[str, ...], lists: Path) -> list[str]:
    """Options that let apt read one component of the machine's own Debian, which its sources may leave out."""
    wanted = ["--format", "$(ORIGIN) $(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    rows = [line.split() for line in _run([*apt, "indextargets", *wanted], UNPACK_SECONDS).stdout.splitlines()]
    lines = {f"deb {row[1]} {row[2]} {component}" for row in rows if row[:1] == ["Debian"] and row[3:] == ["main"]}
    if not lines:
        return []
    path = lists / f"{component}.list"
    path.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    return [
        "-o",
        f"Dir::Etc::SourceList={path.absolute()}",
        "-o",
        "Dir::Etc::SourceParts=-",
        "-o",
        f"Dir::State::Lists={(lists / component).absolute()}",
    ]


def _cause(faults: list[str]) -> str:
    """The fault to tell: a package that the lists lack often follows from lists that could not be fetched."""
    told = [fault for fault in faults if fault]
    network = [fault for fault in told if "Failed to fetch" in fault]
    return (network or told or ["it said nothing"])[-1]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise PackageError(f"expected the program {name} on PATH, received none; {HINT}")
    return path


def _run(command: list[str], seconds: float, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"{Path(command[0]).name} took longer than {seconds:.0f} s; try again") from error
    except OSError as error:
        raise PackageError(f"{command[0]} could not be run: {error.strerror}; {HINT}") from error


def _last_line(text: str) -> str:
    """The last error line of apt or dpkg, which names the cause."""
    lines = text.splitlines()
    lines = [line for line in lines if line.startswith(("E:", "W: Failed", "dpkg-deb:"))] or lines
    return " ".join(lines[-1].split())[:300] if lines else ""
