"""What is said: sentences put together from words.py.

No country, number, date or phrase that is said in the test was ever said in training. What grammar needs everywhere
(the names of the months, "in 3 days", the digits' own words) is shared, as it is between any two texts of a language.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np

from demo_corpus.running import say_running_words
from demo_corpus.settings import DemoParams, generator
from demo_corpus.words import BRACKETS, has_professions, locale_of, pool_of, split_of_item

# How often each kind of sentence is said, the same in every language. Without professions (words.has_professions) the
# others share what is theirs, each in its proportion.
KINDS = {"phrase": 5, "list": 3, "amount": 2, "money": 2, "date": 2, "relative": 1, "job": 2, "number": 1}


_SPANS = (
    ("second", 1),
    ("minute", 60),
    ("hour", 3600),
    ("day", 86400),
    ("week", 7 * 86400),
    ("month", 30 * 86400),
    ("year", 365 * 86400),
)


def compose(language: str, split: str, clip_key: str, words: int, params: DemoParams) -> str:
    """The text of a clip: sentences of `words` words or a few more, a function of (seed, clip key)."""
    random = generator(params.seed, "text of", clip_key)
    kinds = [kind for kind in KINDS if kind != "job" or has_professions(params)]
    weights = np.array([KINDS[kind] for kind in kinds], dtype=np.float64)
    weights /= weights.sum()
    sentences: list[str] = []
    said = 0
    while said < words:
        # asked for first, so that a corpus without running words draws what it drew before there were any
        if params.running_words_share and random.random() < params.running_words_share:
            sentence = say_running_words(language, split, random, params)
        else:
            kind = kinds[int(random.choice(len(kinds), p=weights))]
            sentence = _MAKERS[kind](language, split, random, params)
        sentences.append(sentence[:1].upper() + sentence[1:])
        # a long word counts for more: agglutinating languages have fewer and longer ones
        said += max(1, len(sentence) // 6)
    return ". ".join(sentences) + "."


def _pick(language: str, kind: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    pool = pool_of(language, kind, split, params)
    return pool[int(random.integers(len(pool)))].text


def _name(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    kinds = ("territories", "languages", "currencies", "jobs")[: 4 if has_professions(params) else 3]
    return _pick(language, kinds[int(random.integers(len(kinds)))], split, random, params)


def draw_number(split: str, random: np.random.Generator, params: DemoParams) -> int:
    """A number of one to four digits that belongs to the split."""
    top = (20, 100, 1000, 10000)[int(random.integers(4))]
    while True:
        number = int(random.integers(2, top))
        if split_of_item(f"number:{number}", params) == split:
            return number


def draw_day(split: str, random: np.random.Generator, params: DemoParams) -> date:
    while True:
        day = date(1900, 1, 1) + timedelta(days=int(random.integers(200 * 365)))
        if split_of_item(f"date:{day.isoformat()}", params) == split:
            return day


def _say_phrase(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    phrase = _pick(language, "phrases", split, random, params)
    if random.random() < 0.35:
        return f"{phrase}: {_name(language, split, random, params)}"
    if random.random() < 0.35:
        return f"{phrase}, {_pick(language, 'phrases', split, random, params)}"
    return phrase


def _say_list(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    from babel.lists import format_list

    count = int(random.integers(2, 4))
    style = "or" if random.random() < 0.3 else "standard"
    items = [_name(language, split, random, params) for _ in range(count)]
    return format_list(items, style=style, locale=locale_of(language))  # type: ignore[arg-type]


def _say_amount(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    from babel.units import format_unit

    unit = _pick(language, "units", split, random, params)
    return format_unit(draw_number(split, random, params), unit, "long", format="0", locale=locale_of(language))


def _say_money(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    from babel.numbers import format_currency

    pool = pool_of(language, "currencies", split, params)
    code = pool[int(random.integers(len(pool)))].key.partition(":")[2]
    number = draw_number(split, random, params)
    text = format_currency(number, code, "0", locale=locale_of(language), format_type="name", currency_digits=False)
    return BRACKETS.sub("", text)


def _say_date(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    from babel.dates import format_date, format_skeleton

    day = draw_day(split, random, params)
    if random.random() < 0.5:
        return format_date(day, "full", locale=locale_of(language))
    return format_skeleton("MMMMd" if random.random() < 0.5 else "yMMMM", day, locale=locale_of(language))


def _say_relative(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    from babel.dates import format_timedelta

    unit, seconds = _SPANS[int(random.integers(len(_SPANS)))]
    sign = -1 if random.random() < 0.5 else 1
    span = timedelta(seconds=sign * seconds * (draw_number(split, random, params) % 1000))
    return format_timedelta(span, granularity=unit, threshold=10**9, add_direction=True, locale=locale_of(language))  # type: ignore[arg-type]


def _say_job(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    return f"{_pick(language, 'jobs', split, random, params)}, {_pick(language, 'territories', split, random, params)}"


def _say_number(language: str, split: str, random: np.random.Generator, params: DemoParams) -> str:
    return ", ".join(str(draw_number(split, random, params)) for _ in range(2))


_MAKERS: dict[str, Callable[[str, str, np.random.Generator, DemoParams], str]] = {
    "phrase": _say_phrase,
    "list": _say_list,
    "amount": _say_amount,
    "money": _say_money,
    "date": _say_date,
    "relative": _say_relative,
    "job": _say_job,
    "number": _say_number,
}
