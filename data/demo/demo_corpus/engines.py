"""The synthesisers that there are, by the name that stands in params.yaml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from demo_corpus import festival, mbrola, pico, speech, voices
from demo_corpus.settings import DemoParams


class Engine(NamedTuple):
    """`draw`: the voice of a clip, from (language, split, index, params). `say`: speech.say or its like."""

    draw: Callable[[str, str, int, DemoParams], Any]
    say: Callable[..., speech.Speech]


_ENGINES = {
    "espeak": Engine(voices.draw_voice, speech.say),
    "festival": Engine(festival.draw_diphone_voice, festival.say),
    "mbrola": Engine(mbrola.draw_mbrola_voice, mbrola.say),
    "pico": Engine(pico.draw_pico_voice, pico.say),
}


def engine_of(params: DemoParams) -> Engine:
    """The engine that a corpus is spoken by."""
    return _ENGINES[params.engine]
