"""Which packages there are, and which of their files are speech of which language.

A source is a recording family: one project, its microphones and its sound processing. Each group of the corpus is
one source in one language, which here is one speaker at most times.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from human_corpus.errors import PackageError
from human_corpus.settings import PANEL_LANGUAGES, HumanParams


@dataclass(frozen=True)
class Package:
    """A Debian package, and the version that the README's counts were taken from (Debian 12).

    sha256 : of the .deb file of that version; "" where it differs by architecture, then apt's own check has to do.
    component : of Debian; not all machines have contrib and non-free among their sources.
    """

    name: str
    version: str
    sha256: str
    component: str = "main"


@dataclass(frozen=True)
class Group:
    """One source in one language.

    folder : inside the unpacked package, where its sound files lie, at any depth.
    pattern : glob of the sound files' names.
    """

    source: str
    language: str
    package: str
    folder: str
    pattern: str

    @property
    def name(self) -> str:
        return f"{self.source}-{self.language}"


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "asterisk-core-sounds-en-wav",
            "1.6.1-1",
            "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
        ),
        Package(
            "asterisk-core-sounds-es-wav",
            "1.6.1-1",
            "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
        ),
        Package(
            "asterisk-core-sounds-fr-wav",
            "1.6.1-1",
            "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
        ),
        Package(
            "asterisk-core-sounds-it-wav",
            "1.6.1-1",
            "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
        ),
        Package(
            "asterisk-core-sounds-ru-wav",
            "1.6.1-1",
            "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201",
        ),
        Package(
            "tuxpaint-stamps-default",
            "2022.06.04-1",
            "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        ),
        Package("festvox-ru", "0.5+dfsg-6", "21ef3f0f2978ecf2e2eddb367cb0ff4a72572196d28dc69feb84f4177af5e6c4"),
    )
}

_ASTERISK = "usr/share/asterisk/sounds"
_TUXPAINT = "usr/share/tuxpaint/stamps"
_FESTVOX = "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav"

GROUPS = (
    Group("asterisk", "es", "asterisk-core-sounds-es-wav", f"{_ASTERISK}/es_MX_f_Allison", "*.wav"),
    Group("asterisk", "fr", "asterisk-core-sounds-fr-wav", f"{_ASTERISK}/fr_CA_f_June", "*.wav"),
    Group("asterisk", "ru", "asterisk-core-sounds-ru-wav", f"{_ASTERISK}/ru_RU_f_IvrvoiceRU", "*.wav"),
    Group("tuxpaint", "es", "tuxpaint-stamps-default", _TUXPAINT, "*_desc_es.ogg"),
    Group("tuxpaint", "fr", "tuxpaint-stamps-default", _TUXPAINT, "*_desc_fr.ogg"),
    Group("tuxpaint", "ru", "tuxpaint-stamps-default", _TUXPAINT, "*_desc_ru.ogg"),
    Group("festvox", "ru", "festvox-ru", _FESTVOX, "*.wav"),
    # Only where `train_only_languages` names them
    Group("asterisk", "en", "asterisk-core-sounds-en-wav", f"{_ASTERISK}/en_US_f_Allison", "*.wav"),
    Group("asterisk", "it", "asterisk-core-sounds-it-wav", f"{_ASTERISK}/it_IT_m_Carlo", "*.wav"),
    *(
        Group("tuxpaint", language, "tuxpaint-stamps-default", _TUXPAINT, f"*_desc_{language}.ogg")
        for language in ("bg", "ca", "da", "el", "ro")
    ),
)


def groups_of(params: HumanParams) -> list[Group]:
    """The groups that a corpus is made of: no language is in the test that is not in the panel."""
    return [
        group
        for group in GROUPS
        if group.source in params.sources
        and (
            group.language in PANEL_LANGUAGES
            or (group.language in params.train_only_languages and group.source != params.test_source)
        )
    ]


# What in Asterisk's folders is not speech of its language, by path below the group's folder, and why.
NOT_SPEECH = (
    ("silence", re.compile(r"^silence/")),
    (
        "tone",
        re.compile(r"^(beep|beeperr|ascending-2tone|descending-2tone|confbridge-join|confbridge-leave)\.wav$"),
    ),
    ("monkeys screaming", re.compile(r"^tt-monkeys\.wav$")),
    # Names of Latin letters and the radio alphabet (alfa, bravo) are much the same words in all languages.
    ("single letter or sign", re.compile(r"^letters/")),
    ("radio alphabet", re.compile(r"^phonetic/")),
)


def why_not_speech(group: Group, name: PurePosixPath) -> str | None:
    """The reason why a file is left out by its name, or None.

    name : path below `group.folder`.
    """
    if group.source != "asterisk":
        return None
    return next((reason for reason, pattern in NOT_SPEECH if pattern.search(str(name))), None)


@dataclass(frozen=True)
class SoundFile:
    """One recorded word, prompt or sentence; `name` is its path below the group's folder."""

    path: Path
    name: str


def list_sounds(group: Group, unpacked: Path) -> Iterator[tuple[SoundFile, str | None]]:
    """All files of a group in the order of their names, each with the reason why it is left out, or None.

    Tux Paint gives one recording to several stamps: byte-identical files are used once, under the first name.

    Raises
    ------
    PackageError
        The package has no such files (another version, laid out otherwise).
    """
    folder = unpacked / group.folder
    paths = sorted(folder.rglob(group.pattern), key=lambda path: path.as_posix())
    seen: set[bytes] = set()
    for path in paths:
        name = PurePosixPath(path.relative_to(folder).as_posix())
        reason = why_not_speech(group, name)
        if path.is_symlink() or not path.is_file():
            reason = "not a plain file"
        if reason is None:
            digest = hashlib.sha256(path.read_bytes()).digest()
            reason = "same bytes as another" if digest in seen else None
            seen.add(digest)
        yield SoundFile(path, str(name)), reason
    if not paths:
        raise PackageError(
            f"expected {group.pattern} below {group.folder} in the package {group.package}, received none; "
            f"use version {PACKAGES[group.package].version}"
        )
