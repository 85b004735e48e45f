"""Running words: sentences of a language's own words, drawn as often as the language uses them (package wordfreq).

CLDR's names show a language's sounds from a narrow side: half of them are the same foreign names everywhere. These
sentences have no grammar, but the words, endings and clusters that a language is full of. They are off in the demo
(`running_words_share: 0`): wordfreq's wheel has 57 MB.

The COMMON most frequent words of a language are its grammar and are said in every split. Each other word belongs to one
split, by a hash of its spelling, the same in all languages.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from demo_corpus.errors import DemoError
from demo_corpus.settings import DemoParams
from demo_corpus.words import split_of_item

COMMON = 100
MOST_WORDS = 20000
SENTENCE_WORDS = (4, 9)

# wordfreq knows Croatian as sh
_WORDFREQ_CODES = {"hr": "sh"}
# one-letter words would be spelled out where a list has clitics (French "l", "d")
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Words:
    """Words that may be said, the most frequent first; `cumulative`: the share of each and of all before it, (n,)."""

    texts: tuple[str, ...]
    cumulative: np.ndarray


def say_running_words(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    """One sentence, without its full stop."""
    words = running_words(language, split, params)
    count = int(random.integers(SENTENCE_WORDS[0], SENTENCE_WORDS[1] + 1))
    places = np.searchsorted(words.cumulative, random.random(count), side="right")
    return " ".join(words.texts[min(int(place), len(words.texts) - 1)] for place in places)


@functools.cache
def running_words(language: str, split: str, params: DemoParams) -> Words:
    """The words of a split. Raises DemoError where wordfreq or its list of the language is missing."""
    texts, frequencies = zip(*list(_own_words(language).items())[:MOST_WORDS], strict=True)
    share = np.array(frequencies) / sum(frequencies)
    here = np.array(
        [rank < COMMON or split_of_item(f"words:{text}", params) == split for rank, text in enumerate(texts)]
    )
    # the common ones keep their share, or a split with few words would say little else
    rest = here[COMMON:] * share[COMMON:]
    share[COMMON:] = rest * (share[COMMON:].sum() / rest.sum())
    return Words(tuple(text for text, said in zip(texts, here, strict=True) if said), np.cumsum(share[here]))


@functools.cache
def _own_words(language: str) -> dict[str, float]:
    """Word -> frequency, most frequent first, in the language's own script.

    The lists come from subtitles, encyclopaedias and the web, so they hold English too: a word that English uses more
    often is left out.
    """
    listed = {word: value for word, value in _frequencies(language).items() if _WORD.fullmatch(word)}
    english = {} if language == "en" else _frequencies("en")
    script = _script(next(iter(listed)))
    own = {
        _written(word): value
        for word, value in listed.items()
        if english.get(word, 0.0) <= value and all(_script(letter) == script for letter in word)
    }
    return dict(sorted(own.items(), key=lambda entry: (-entry[1], entry[0])))


def _frequencies(language: str) -> dict[str, float]:
    try:
        from wordfreq import get_frequency_dict  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise DemoError(
            "`running_words_share` above 0 takes words from the package wordfreq; expected it, found none. "
            "Install it (pip install wordfreq), or set running_words_share to 0."
        ) from error
    try:
        listed: dict[str, float] = get_frequency_dict(_WORDFREQ_CODES.get(language, language), wordlist="small")
    except LookupError as error:
        raise DemoError(
            f"expected a language that wordfreq has a list of, received {language!r} in `languages`. Drop it, or set "
            "running_words_share to 0: all languages of a corpus have the same kinds of sentences."
        ) from error
    return listed


def _script(text: str) -> str:
    """LATIN, CYRILLIC, GREEK...: the first word of the first letter's name in Unicode."""
    return unicodedata.name(text[0], "?").split()[0]


def _written(word: str) -> str:
    """Wordfreq folds the Greek final sigma; eSpeak reads it as it is written."""
    return f"{word[:-1]}ς" if word.endswith("σ") else word
