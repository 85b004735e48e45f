"""What is sent to the page as a recording: good ones, damaged ones, and files that ask for something."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from faults.bombs import flac
from faults.injection import PLAYLISTS, mov_reference
from faults.sounds import run_ffmpeg, speech_like, write_spoken

Rng = np.random.Generator


class Uploads:
    """Bodies, made from some good recordings. canary : a recording on this machine that none of them may reach."""

    def __init__(self, folder: Path, canary: Path) -> None:
        folder.mkdir()
        self._folder, self._canary = folder, canary
        spoken, rate_hz = folder / "spoken.wav", 16000
        write_spoken(spoken)
        for number, (name, seconds) in enumerate((("tone.flac", 2.0), ("tone.ogg", 3.0), ("long.mp3", 30.0))):
            soundfile.write(folder / name, speech_like(number, seconds, rate_hz), rate_hz)
        for name in ("spoken.m4a", "spoken.webm"):  # ffmpeg reads them, libsndfile does not
            run_ffmpeg("-i", f"file:{spoken}", f"file:{folder / name}")
        self.good = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self.bombs = [self._bomb(hours) for hours in (24.0, 0.2)]

    def any_good(self, rng: Rng) -> bytes:
        return self.good[sorted(self.good)[rng.integers(len(self.good))]]

    def cut(self, rng: Rng) -> bytes:
        body = self.any_good(rng)
        return body[: int(rng.integers(1, len(body)))]

    def flipped(self, rng: Rng) -> bytes:
        """Up to 64 bits; mostly near the head, where the sizes stand."""
        body = bytearray(self.any_good(rng))
        reach = len(body) if rng.random() < 0.5 else min(512, len(body))
        for _ in range(rng.integers(1, 65)):
            body[rng.integers(reach)] ^= 1 << int(rng.integers(8))
        return bytes(body)

    def spliced(self, rng: Rng) -> bytes:
        """The head of one, the rest of another."""
        head, rest = self.any_good(rng), self.any_good(rng)
        return head[: int(rng.integers(4, 400))] + rest[int(rng.integers(len(rest))) :]

    def random(self, rng: Rng) -> bytes:
        magic = (
            b"",
            b"RIFF\xff\xff\xff\xffWAVEfmt ",
            b"fLaC",
            b"OggS",
            b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
            b"\xff\xfb\x90",
        )
        return magic[rng.integers(len(magic))] + rng.bytes(int(rng.integers(1, 60_000)))

    def playlist(self, rng: Rng) -> bytes:
        """Text that names the canary, or an address."""
        template = PLAYLISTS[rng.integers(len(PLAYLISTS))]
        relative = os.path.relpath(self._canary, self._folder)
        text = template.format(canary=self._canary, relative=relative, url="http://127.0.0.1:9/a.wav", port=9)
        return text.encode()

    def document(self, rng: Rng) -> bytes:
        makers: tuple[Callable[[], bytes], ...] = (
            self._zip,
            lambda: b"<!doctype html><html><script src='/api/recognise'></script>" + b"<p>a</p>" * 1000,
            lambda: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>',
            lambda: b"#!/bin/sh\ntouch /tmp/evil\n",
            lambda: b"%PDF-1.7\n" + bytes(3000),
        )
        return makers[rng.integers(len(makers))]()

    def not_numbers(self) -> bytes:
        return self._wav(np.full(16000, np.nan, np.float32))

    def silent(self) -> bytes:
        return self._wav(np.zeros(16000, np.float32))

    def referring(self) -> bytes:
        """A MOV whose sound is said to be the canary; it has sound of its own, too."""
        path = self._folder / "reference.mov"
        if not path.exists():
            mov_reference(path, self._canary, 9)
        return path.read_bytes()

    def _bomb(self, hours: float) -> bytes:
        """Constant sound, in some kilobytes."""
        path = self._folder / "bomb.flac"
        flac(path, hours, 8000, 1, loud=True)
        return path.read_bytes()

    def _zip(self) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../evil.wav", self.good["spoken.wav"])
            archive.writestr("zeros.wav", bytes(20_000_000))
        return out.getvalue()

    @staticmethod
    def _wav(samples: np.ndarray) -> bytes:
        out = io.BytesIO()
        soundfile.write(out, samples, 16000, format="WAV", subtype="FLOAT")
        return out.getvalue()
