"""The knobs of the demo corpus (data/demo/params.yaml), parsed once into a frozen object."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from demo_corpus.errors import DemoParamsError

SPLITS = ("train", "validation", "test")

Language = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z]{2,3}$")]


class ClipCounts(BaseModel):
    """Clips of each language."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int = Field(ge=0, le=100000)
    validation: int = Field(ge=0, le=100000)
    test: int = Field(ge=0, le=100000)

    def of(self, split: str) -> int:
        """The number for a split's name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


class HeldOut(BaseModel):
    """Shares that never stand in training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: float = Field(gt=0, lt=0.5)
    test: float = Field(gt=0, lt=0.5)

    def split_of(self, value: float) -> str:
        """The split that a number in [0, 1) falls in."""
        if value < self.test:
            return "test"
        return "validation" if value < self.test + self.validation else "train"


class DemoParams(BaseModel):
    """What is built. Workers are no part of it: they change no byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[Language, ...] = Field(min_length=1, description="ISO 639-1 codes; see texts.FAKER_LOCALES")
    clips: ClipCounts = Field(description="clips per language and split")
    engine: Literal["espeak", "festival", "mbrola", "pico"] = Field(
        description="the synthesiser; festival, mbrola: recorded people, from Debian; pico: five languages, py-nanotts"
    )
    voice_shares: HeldOut = Field(description="share of the voices held out; training has the rest")
    text_shares: HeldOut = Field(description="share of the texts' items held out; training has the rest")
    accent_share: float = Field(
        default=0, ge=0, le=1, description="share of the training clips said with another language's sounds"
    )
    running_words_share: float = Field(
        ge=0, le=1, description="share of the sentences that are running words (package wordfreq)"
    )
    clip_seconds: float = Field(gt=0.5, le=60, description="length of every clip")
    bitrate_kbps: int = Field(ge=32, le=320, description="of the MP3")
    telephone_share: float = Field(ge=0, le=1, description="share of clips that sound like a telephone")
    noise_share: float = Field(ge=0, le=1, description="share of clips with background noise")
    seed: int = Field(ge=0, description="another seed, another corpus")

    @model_validator(mode="after")
    def _an_accent_needs_another_language(self) -> DemoParams:
        if self.accent_share and len(self.languages) < 2:
            raise ValueError("an accent_share above 0 needs two languages or more")
        return self

    @field_validator("languages")
    @classmethod
    def _no_language_twice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a language is named twice")
        return value


def load_params(path: Path, section: str = "") -> DemoParams:
    """Reads `path`, or one section of it. Raises DemoParamsError that names the file, the key and what was received."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        if section:
            if not isinstance(settings, dict) or section not in settings:
                raise DemoParamsError(f"expected a section {section!r} in {path}, found none.")
            settings = settings[section]
        return DemoParams.model_validate(settings)
    except OSError as error:
        raise DemoParamsError(f"expected the demo's settings in {path}, received: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise DemoParamsError(f"expected YAML in {path}, received: {error}.") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}, received {fault['input']!r}"
            for fault in error.errors()
        )
        # YAML 1.1 reads a bare `no` as false; nb is Norwegian here, so this is the likely slip
        raise DemoParamsError(f"{path}: {faults}. Put codes such as 'no' in quotes.") from error


def fraction(seed: int, *key: object) -> float:
    """A number in [0, 1) that is a function of (seed, key) and of nothing else."""
    return _digest(seed, key) / 2**64


def generator(seed: int, *key: object) -> np.random.Generator:
    """Random numbers that are a function of (seed, key): never of order, of workers or of PYTHONHASHSEED."""
    return np.random.Generator(np.random.PCG64(_digest(seed, key)))


def _digest(seed: int, key: tuple[object, ...]) -> int:
    text = "\x1f".join([str(seed), *map(str, key)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
