"""The knobs of the human corpus (data/human/params.yaml), parsed once into a frozen object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from human_corpus.errors import HumanParamsError

SourceName = Literal["asterisk", "tuxpaint", "festvox"]


class HumanParams(BaseModel):
    """What is built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceName, ...] = Field(min_length=2, description="which recordings go in")
    test_source: SourceName = Field(description="this source is the test split, all others are the training split")
    clip_seconds: float = Field(gt=1, le=60, description="length that the clips come near to")
    seed: int = Field(ge=0, description="another seed, another order of the items")

    @model_validator(mode="after")
    def _sources_make_a_split(self) -> HumanParams:
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("a source is named twice")
        if self.test_source not in self.sources:
            raise ValueError(f"test_source {self.test_source} is not among sources {', '.join(self.sources)}")
        return self


def load_params(path: Path) -> HumanParams:
    """Read `path`.

    Raises
    ------
    HumanParamsError
        Names the file, the key and what was received.
    """
    try:
        return HumanParams.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
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
