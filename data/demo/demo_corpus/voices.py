"""Who speaks: eSpeak NG's voice variants, who is held out, and how each clip's voice is drawn.

A variant (`+f3`, `+klatt2`...) sets pitch, formants and voicing, and can be put on any language. Clip number i of a
split has the same voice in every language (variant, tempo, pitch, liveliness, size of the speaker), so that
the voice says nothing about the language.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from demo_corpus.settings import SPLITS, DemoParams, fraction, generator
from demo_corpus.timbre import Timbre, draw_timbre

# Variants that differ by a detail are one family, and a family is never on two sides of a split.
FAMILIES: tuple[tuple[str, ...], ...] = (
    ("Alex",),
    ("Alicia", "Annie"),
    ("Andrea",),
    ("Andy", "AnxiousAndy", "Lee"),
    ("Denis", "shelby"),
    ("Diogo", "Henrique", "Hugo", "michel", "miguel"),
    ("Gene", "Gene2"),
    ("Jacky",),
    ("Marco",),
    ("Mario", "Michael"),
    ("Mike", "mike2"),
    ("Nguyen", "m7", "m8", "robosoft", "robosoft2", "robosoft3", "robosoft4", "robosoft5", "robosoft6"),
    ("Reed",),
    ("RicishayMax", "RicishayMax2", "RicishayMax3", "max", "robosoft7", "robosoft8"),
    ("Tweaky", "john", "grandpa"),
    ("UniRobot",),
    ("adam", "benjamin"),
    ("anika", "anikaRobot"),
    ("announcer",),
    ("antonio",),
    ("aunty",),
    ("belinda", "linda"),
    ("boris",),
    ("david",),
    ("ed",),
    ("edward", "edward2"),
    ("f1",),
    ("f2",),
    ("f3",),
    ("f4",),
    ("f5",),
    ("fast",),
    ("grandma",),
    ("gustave",),
    ("ian",),
    ("iven", "iven2", "iven3", "iven4"),
    ("kaukovalta",),
    ("klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6"),
    ("m1",),
    ("m2",),
    ("m3",),
    ("m4",),
    ("m5",),
    ("m6",),
    ("marcelo",),
    ("norbert",),
    ("pablo", "pedro"),
    ("paul",),
    ("quincy",),
    ("rob", "robert"),
    ("sandro",),
    ("steph", "steph2", "steph3"),
    ("travis",),
    ("victor",),
    ("zac",),
)
# Left out: whisper, whisperf and caleb (no voicing), croak and Demonic (broken on purpose), Storm and "Mr serious"
# (they bring a language of their own, or a name with a space).

WORDS_PER_MINUTE = (110.0, 215.0)
PITCH = (25, 80)  # eSpeak's scale of 0 to 99, 50 as the variant has it
PITCH_RANGE = (25, 85)
STRESS_LENGTH = (130, 220)  # eSpeak's scale; its languages have 120 to 260
SPEAKER_SIZE = (0.85, 1.18)  # all frequencies times this: 1.18 a small speaker, 0.85 a big one


@dataclass(frozen=True)
class VoiceDraw:
    """One clip's voice."""

    language: str
    variant: str
    words_per_minute: float
    pitch: int
    pitch_range: int
    size: float
    timbre: Timbre | None = None  # None: the variant as eSpeak has it
    accent: str = ""  # a language whose sounds, melody and timing the clip is said with; "": its own
    rhythm: str = ""  # lines of a variant's file

    @property
    def name(self) -> str:
        """As eSpeak wants it: "es+f3"."""
        return f"{self.language}+{self.variant}"

    @property
    def engine_words_per_minute(self) -> int:
        """What eSpeak must speak at so that the clip, played `size` times faster, has its tempo. At least 80."""
        return max(80, round(self.words_per_minute / self.size))


@functools.cache
def _partition(seed: int, test_share: float, validation_share: float) -> dict[str, tuple[str, ...]]:
    families = sorted(FAMILIES, key=lambda family: fraction(seed, "voice family", family[0]))
    total = sum(map(len, FAMILIES))
    wanted = {"test": test_share * total, "validation": validation_share * total}
    chosen: dict[str, list[str]] = {split: [] for split in SPLITS}
    for family in families:
        for split in ("test", "validation"):
            # a family that would overshoot goes to training, so that the held-out voices are many small families
            if len(family) <= 3 and len(chosen[split]) + len(family) <= wanted[split] + 0.5:
                chosen[split].extend(family)
                break
        else:
            chosen["train"].extend(family)
    return {split: tuple(sorted(variants)) for split, variants in chosen.items()}


def variants_of(split: str, params: DemoParams) -> tuple[str, ...]:
    """The variants that speak in a split, sorted; the same for every language."""
    shares = params.voice_shares
    return _partition(params.seed, shares.test, shares.validation)[split]


def draw_voice(language: str, split: str, index: int, params: DemoParams) -> VoiceDraw:
    """The voice of clip `index` of `split`: all but the language's own name is the same in every language."""
    variants = variants_of(split, params)
    # every variant equally often, in an order of its own each round
    round_number, place = divmod(index, len(variants))
    order = generator(params.seed, "voice order", split, round_number).permutation(len(variants))
    variant = variants[order[place]]
    random = generator(params.seed, "voice", split, index)
    accent, rhythm = draw_accent(language, split, index, params)
    return VoiceDraw(
        language=language,
        variant=variant,
        words_per_minute=float(random.uniform(*WORDS_PER_MINUTE)),
        pitch=int(random.integers(PITCH[0], PITCH[1] + 1)),
        pitch_range=int(random.integers(PITCH_RANGE[0], PITCH_RANGE[1] + 1)),
        size=float(random.uniform(*SPEAKER_SIZE)),
        timbre=draw_timbre(random) if split == "train" else None,
        accent=accent,
        rhythm=rhythm,
    )


def draw_accent(language: str, split: str, index: int, params: DemoParams) -> tuple[str, str]:
    """The accent of a training clip and its rhythm; ("", "") for one without.

    Over the languages, clip `index` has each accent once, so an accent says nothing about the language.
    """
    random = generator(params.seed, "accent", split, index)
    if split != "train" or random.random() >= params.accent_share:
        return "", ""
    languages = params.languages
    accent = languages[(languages.index(language) + int(random.integers(1, len(languages)))) % len(languages)]
    # how long each of eSpeak's eight grades of stress lasts, and one of its four melodies
    lengths = " ".join(str(int(length)) for length in random.integers(*STRESS_LENGTH, 8))
    return accent, f"stressLength {lengths}\nintonation {random.integers(1, 5)}\n"
