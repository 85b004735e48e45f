"""Festival's diphone voices, a third engine: twelve recorded people (ten of them different) say all languages.

eSpeak reads the text and says when each sound begins; a diphone voice says these sounds at these times, with a melody
of our own. So the sound is a person's and the reading eSpeak's. It is for training: what all twelve have of another
language is an accent. Festival and its voices are Debian packages, fetched and unpacked here without root.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from demo_corpus import speech
from demo_corpus.diphones import PAUSE, VOICES, Voice, said_as
from demo_corpus.errors import DemoError, EngineCrashError
from demo_corpus.settings import DemoParams, generator
from demo_corpus.voices import VoiceDraw, draw_voice

CACHE = Path(__file__).resolve().parents[1] / ".festival"
PITCH = (-0.2, 0.22)  # of the voice's own, in the logarithm
LIVELINESS = (0.05, 0.25)  # how far stress raises the pitch
SPEAKER_SIZE = (0.88, 1.15)
READ_MORE = 1.3  # than is said: what no sound of the voice stands for is left out
SHORTEST_SECONDS, SHORTEST_PAUSE_SECONDS = 0.03, 0.04
DECLINATION, DECLINATION_SECONDS = 0.15, 3.0  # the pitch falls by so much, over so long a phrase


@dataclass(frozen=True)
class DiphoneDraw:
    """One clip's voice. `reader`: eSpeak's voice that reads the text, at this clip's tempo."""

    reader: VoiceDraw
    voice: Voice
    hz: float
    liveliness: float
    size: float

    @property
    def variant(self) -> str:
        """The clip's group: "festival-czech_ph"."""
        return f"festival-{self.voice.name}"

    @property
    def name(self) -> str:
        return f"Festival's {self.voice.name}"

    @property
    def words_per_minute(self) -> float:
        return self.reader.words_per_minute


def draw_diphone_voice(language: str, split: str, index: int, params: DemoParams) -> DiphoneDraw:
    """The voice of clip `index` of `split`: all but the text's reader is the same in every language."""
    random = generator(params.seed, "diphone voice", split, index)
    voice = VOICES[index % len(VOICES)]
    return DiphoneDraw(
        reader=draw_voice(language, split, index, params),
        voice=voice,
        hz=voice.hz * float(np.exp(random.uniform(*PITCH))),
        liveliness=float(random.uniform(*LIVELINESS)),
        size=float(random.uniform(*SPEAKER_SIZE)),
    )


def say(text: str, draw: DiphoneDraw, seconds: float, noise_seed: int, scratch: str | None = None) -> speech.Speech:
    """Speaks `text`, at most `seconds` of it: a function of its arguments but the last.

    Raises: DemoError where Festival cannot be had; EngineCrashError where it says nothing.
    """
    read = speech.say(text, draw.reader, READ_MORE * seconds * draw.reader.size, noise_seed, scratch)
    segments, sounds = _segments(read, draw, seconds, np.random.default_rng(noise_seed))
    with tempfile.TemporaryDirectory(prefix="festival-", dir=scratch) as folder:
        path = Path(folder) / "said.wav"
        _ask(
            f"(voice_{draw.voice.name}) "
            f'(utt.save.wave (utt.synth (Utterance Segments ({segments}))) "{path}" (quote riff))'
        )
        if not path.is_file():
            raise EngineCrashError(f"expected {draw.name} to say {text[:60]!r}, received no sound.")
        samples, rate_hz = soundfile.read(path, dtype="float32")
    samples = soxr.resample(samples, rate_hz, speech.RATE_HZ)[: int(seconds * speech.RATE_HZ)]
    samples *= 0.9 / max(1e-6, float(np.abs(samples).max()))
    return speech.Speech(np.rint(samples * 32767).astype("<i2"), sounds)


def _segments(
    read: speech.Speech, draw: DiphoneDraw, seconds: float, random: np.random.Generator
) -> tuple[str, tuple[tuple[float, str], ...]]:
    """Festival's segments, "(name seconds (place hertz))", and where each sound of them begins."""
    has, hz = draw.voice.sounds, draw.hz
    segments = [f"({has[PAUSE]} 0.05)"]
    sounds: list[tuple[float, str]] = [(0.0, PAUSE)]
    now, phrase_began = 0.05, 0.05
    ends = [*(begin for begin, _ in read.sounds[1:]), len(read.samples) / speech.RATE_HZ]
    for (begin, sound), end in zip(read.sounds, ends, strict=True):
        lasts = (end - begin) / draw.reader.size
        parts = said_as(sound, has)
        if not sound and lasts >= SHORTEST_PAUSE_SECONDS:
            parts, phrase_began = (PAUSE,), now + lasts
        for part in parts:
            length = max(SHORTEST_SECONDS, lasts / len(parts) * float(np.exp(random.normal(0, 0.08))))
            if now >= seconds:
                break
            name, melody = has[part], ""
            if part[:1] in _VOWELS:
                raised = draw.liveliness * (0.6 if "ˈ" in sound else -0.1) + random.normal(0, 0.03)
                fallen = DECLINATION * min((now - phrase_began) / DECLINATION_SECONDS, 1.0)
                melody = f" ({length / 2:.3f} {hz * (1 + raised) * (1 - fallen):.0f})"
                name += draw.voice.stressed if "ˈ" in sound else ""
            segments.append(f"({name} {length:.3f}{melody})")
            sounds.append((now, part))
            now += length
    segments.append(f"({has[PAUSE]} 0.05)")
    sounds.append((now, PAUSE))
    return " ".join(segments), tuple(sounds)


_VOWELS = frozenset("aeiouyøɛɔəæɑʌ")
_current: list[subprocess.Popen[str]] = []


def _ask(command: str) -> None:
    """Lets this process's Festival do something; a fault of its own is told by what is missing afterwards."""
    if not _current:
        _current.append(_start())
    festival = _current[0]
    try:
        # (gc), or what it has said stays in memory, 3 GB after a thousand clips
        festival.stdin.write(f'(unwind-protect (begin {command}) nil) (gc) (format t "\\ndone\\n") (fflush nil)\n')  # type: ignore[union-attr]
        festival.stdin.flush()  # type: ignore[union-attr]
    except BrokenPipeError:
        pass
    for line in festival.stdout or ():
        if line == "done\n":
            return
    stop()


def stop() -> None:
    """Ends this process's Festival, if there is one; the next `say` starts another."""
    while _current:
        festival = _current.pop()
        festival.kill()
        festival.communicate()


atexit.register(stop)


def _start() -> subprocess.Popen[str]:
    root = _unpacked()
    triplets = sorted(path.parent for path in root.glob("usr/lib/*/libestools.so*"))
    library = triplets[0] if triplets else root / "usr/lib"
    folders = [library, library / "pulseaudio", root / "lib" / library.name]
    data = root / "usr/share/festival"
    festival = subprocess.Popen(
        [root / "usr/bin/festival", "--pipe"],
        env=os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, folders))},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
    )  # fmt: skip
    # Debian's build and some of its files know only /usr/share/festival
    places = {"libdir": f"{data}/", "datadir": f"{data}/", "sysconfdir": f"{root}/etc/", "lexdir": f"{data}/dicts/"}
    for voice in ("dita", "krb", "machac", "ph"):
        places[f"czech-{voice}-unisyn-index"] = f"{data}/voices/czech/czech_{voice}/group/{voice}.group"
    told = " ".join(f'(set! {name} "{path}")' for name, path in places.items())
    festival.stdin.write(f'{told} (set! load-path (cons libdir nil)) (load "{data}/init.scm")\n')  # type: ignore[union-attr]
    return festival


def _unpacked() -> Path:
    """The folder that the packages are unpacked in; whoever comes first unpacks them, the others wait."""
    try:
        from human_corpus.errors import HumanCorpusError
        from human_corpus.packages import fetch, unpack
        from human_corpus.sources import Package
    except ImportError as error:
        raise DemoError(
            "`engine: festival` fetches packages by data/human's code; put data/human on PYTHONPATH."
        ) from error
    root = CACHE / "root"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.is_dir():
            return root
        unfinished = CACHE / "root.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for line in Path(__file__).with_name("festival_packages.txt").read_text(encoding="utf-8").splitlines():
                if line and not line.startswith("#"):
                    name, version, digest = line.split()
                    unpack(fetch(Package(name, version, digest.strip("-")), CACHE / "packages"), unfinished)
        except HumanCorpusError as error:
            raise DemoError(str(error)) from error
        unfinished.rename(root)
    return root
