"""The words there are: CLDR's names and units (through Babel), Faker's professions, and our own phrases.

Every item (a country, a currency, a unit, a date, a number, a profession, a phrase) belongs to one split, by a hash of
its key, which is the same in every language wherever the source has one (`territories:FR`).
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from demo_corpus.errors import DemoError
from demo_corpus.settings import DemoParams, fraction

FAKER_LOCALES = {
    "cs": "cs_CZ",
    "da": "da_DK",
    "de": "de_DE",
    "el": "el_GR",
    "en": "en_US",
    "es": "es_ES",
    "fi": "fi_FI",
    "fr": "fr_FR",
    "hr": "hr_HR",
    "hu": "hu_HU",
    "pl": "pl_PL",
    "pt": "pt_PT",
    "ro": "ro_RO",
    "ru": "ru_RU",
    "sk": "sk_SK",
    "tr": "tr_TR",
    "uk": "uk_UA",
}

_LETTERS = re.compile(r"[^\W\d_]{3,}")
BRACKETS = re.compile(r"\s*[(\[/].*$")


@dataclass(frozen=True)
class Item:
    """A piece of text and the key that decides its split."""

    key: str
    text: str


def has_professions(params: DemoParams) -> bool:
    """Whether the corpus says professions: only where Faker has them in all its languages.

    Otherwise the kind of sentence would tell the languages apart: a corpus has the same kinds, equally often, in all
    of its languages.
    """
    return all(language in FAKER_LOCALES for language in params.languages)


def split_of_item(key: str, params: DemoParams) -> str:
    """The split an item belongs to: a function of (seed, key)."""
    return params.text_shares.split_of(fraction(params.seed, "text", key))


@functools.cache
def names(language: str) -> dict[str, tuple[Item, ...]]:
    """All names CLDR and Faker have in a language, by kind, each with at least three letters and each once.

    CLDR calls several keys alike (ARP and ARS are both the Argentine peso once the years in brackets are gone): only
    the first keeps the name, or it might be said in training under one key and in the test under another.
    """
    locale = locale_of(language)
    found: dict[str, list[Item]] = {"territories": [], "languages": [], "currencies": []}
    for kind, table in found.items():
        for code, text in sorted(getattr(locale, kind).items()):
            if not code.isdigit() and _LETTERS.search(text):
                table.append(Item(f"{kind}:{code}", BRACKETS.sub("", text)))
    found["units"] = [Item(f"units:{unit}", unit) for unit in units_of(language)]
    found["jobs"] = _jobs(language) if language in FAKER_LOCALES else []
    found["phrases"] = _phrases(language)
    return _each_text_once(found)


def _each_text_once(found: dict[str, list[Item]]) -> dict[str, tuple[Item, ...]]:
    seen: set[str] = set()
    once: dict[str, list[Item]] = {kind: [] for kind in found}
    for kind, items in found.items():
        for item in items:
            text = item.text.casefold()
            if text not in seen:
                seen.add(text)
                once[kind].append(item)
    return {kind: tuple(items) for kind, items in once.items()}


@functools.cache
def pool_of(language: str, kind: str, split: str, params: DemoParams) -> tuple[Item, ...]:
    """The names or phrases of one split."""
    items = names(language)[kind]
    chosen = tuple(item for item in items if split_of_item(item.key, params) == split)
    if not chosen:
        raise DemoError(f"expected {kind} in {language!r} for {split}, found none among {len(items)}.")
    return chosen


def pools(language: str, split: str, params: DemoParams) -> dict[str, tuple[Item, ...]]:
    """All names and phrases that a split may say, by kind."""
    kinds = [kind for kind in names(language) if kind != "jobs" or has_professions(params)]
    return {kind: pool_of(language, kind, split, params) for kind in kinds}


@functools.cache
def locale_of(language: str):  # type: ignore[no-untyped-def]
    try:
        from babel import Locale, UnknownLocaleError
    except ImportError as error:
        raise DemoError(
            "the demo corpus takes its words from CLDR; expected the package babel, found none. "
            "Install it: pip install babel (`make setup` does)."
        ) from error
    try:
        return Locale(language)
    except UnknownLocaleError as error:
        raise DemoError(f"expected a language that CLDR knows, received {language!r} in `languages`.") from error


@functools.cache
def units_of(language: str) -> tuple[str, ...]:
    """CLDR's units with a long form that a number goes into."""
    patterns = locale_of(language)._data["unit_patterns"]
    return tuple(sorted(unit for unit in patterns if "other" in patterns[unit].get("long", {})))


def _phrases(language: str) -> list[Item]:
    """Our own sentences; line n says the same in every language, so its key is the same too."""
    path = Path(__file__).parent / "phrases" / f"{language}.txt"
    if not path.is_file():
        raise DemoError(
            f"expected sentences in {path}, a line for each line of the other languages' files, found no such file. "
            f"Write it, or drop {language!r} from `languages` in data/demo/params.yaml."
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Item(f"phrases:{number}", line) for number, line in enumerate(lines, 1) if line]


def _jobs(language: str) -> list[Item]:
    """Faker's professions, real words of the language; a word list of another locale is never taken instead."""
    code = FAKER_LOCALES[language]
    try:
        provider = importlib.import_module(f"faker.providers.job.{code}").Provider
    except ImportError as error:
        raise DemoError(
            f"expected the package faker with its professions in {code}. Install it: pip install faker."
        ) from error
    texts = sorted({BRACKETS.sub("", str(job)).strip() for job in provider.jobs})
    return [Item(f"jobs:{language}:{text}", text) for text in texts if _LETTERS.search(text)]
