"""Festival's diphone voices, a third engine: twelve recorded people (ten of them different) say all languages.

They read as reading.py says. It is for training: what all twelve have of another language is an accent. Festival and
its voices are Debian packages, fetched and unpacked here without root.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from demo_corpus import reading, speech
from demo_corpus.diphones import VOICES, Voice
from demo_corpus.errors import EngineCrashError
from demo_corpus.packages import unpacked
from demo_corpus.settings import DemoParams, generator
from demo_corpus.voices import VoiceDraw, draw_voice

PITCH = (-0.2, 0.22)  # of the voice's own, in the logarithm
LIVELINESS = (0.05, 0.25)  # how far stress raises the pitch
SPEAKER_SIZE = (0.88, 1.15)


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
    manner = reading.Manner(draw.hz, draw.liveliness, draw.reader.size, stressed=draw.voice.stressed)
    read = reading.read(text, draw.reader, draw.voice.sounds, manner, seconds, noise_seed, scratch)
    segments = " ".join(map(_scheme, read.segments))
    with tempfile.TemporaryDirectory(prefix="festival-", dir=scratch) as folder:
        path = Path(folder) / "said.wav"
        _ask(
            f"(voice_{draw.voice.name}) "
            f'(utt.save.wave (utt.synth (Utterance Segments ({segments}))) "{path}" (quote riff))'
        )
        if not path.is_file():
            raise EngineCrashError(f"expected {draw.name} to say {text[:60]!r}, received no sound.")
        samples, rate_hz = soundfile.read(path, dtype="float32")
    return read.spoken(samples, rate_hz, seconds)


def _scheme(segment: reading.Segment) -> str:
    """As Festival reads it: "(name seconds (place hertz))"."""
    melody = f" ({segment.seconds / 2:.3f} {segment.hz:.0f})" if segment.hz else ""
    return f"({segment.name} {segment.seconds:.3f}{melody})"


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
    root = unpacked("festival")
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
