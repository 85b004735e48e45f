"""The knobs of the human corpus (data/human/params.yaml), parsed once into a frozen object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from human_corpus.errors import HumanParamsError

# The languages that all sources but Festvox have: the test is of these
PANEL_LANGUAGES = ("es", "fr", "ru")

TrainOnlyLanguage = Literal["bg", "ca", "da", "el", "en", "it", "ro"]
SourceName = Literal["asterisk", "tuxpaint", "festvox"]


class HumanParams(BaseModel):
    """What is built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceName, ...] = Field(min_length=2, description="which recordings go in")
    test_source: SourceName = Field(description="this source is the test split, all others are the training split")
    train_only_languages: tuple[TrainOnlyLanguage, ...] = Field(
        default=(), description="more languages to train on, from the sources that are not the test"
    )
    rate_hz: int = Field(default=0, ge=0, le=48000, description="0: each source's own; else all are resampled to it")
    clip_seconds: float = Field(gt=1, le=60, description="length that the clips come near to")
    seed: int = Field(ge=0, description="another seed, another order of the items")

    @model_validator(mode="after")
    def _sources_make_a_split(self) -> HumanParams:
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("a source is named twice")
        if len(set(self.train_only_languages)) != len(self.train_only_languages):
            raise ValueError("a language is named twice")
        if 0 < self.rate_hz < 4000:
            raise ValueError(f"rate_hz must be 0, or 4000 and more; received {self.rate_hz}")
        if self.test_source not in self.sources:
            raise ValueError(f"test_source {self.test_source} is not among sources {', '.join(self.sources)}")
        return self


def load_params(path: Path, section: str = "") -> HumanParams:
    """Read `path`, or one section of it.

    Raises
    ------
    HumanParamsError
        Names the file, the key and what was received.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        if section:
            if not isinstance(settings, dict) or section not in settings:
                raise HumanParamsError(f"expected a section {section!r} in {path}, found none")
            settings = settings[section]
        return HumanParams.model_validate(settings)
    except OSError as error:
        raise HumanParamsError(f"expected the corpus's settings in {path}, received: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HumanParamsError(f"expected YAML in {path}, received: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}, received {fault['input']!r}"
            for fault in error.errors()
        )
        raise HumanParamsError(f"{path}: {faults}") from error
