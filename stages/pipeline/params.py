"""params.yaml as frozen, typed values: one class for each section, one section for each stage.

Units stand in the names. A key that no stage knows, a value of the wrong type or out of range is an error that
names the key and what was expected.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from stages.pipeline.data_params import (
    DecodeParams,
    ExecutionParams,
    LogmelParams,
    ManifestParams,
    ResampleParams,
    ResizeParams,
    Section,
)
from stages.pipeline.errors import ParamsError
from stages.pipeline.model_params import (
    ArticleParams,
    AuditParams,
    EvaluateParams,
    ExportParams,
    RobustnessParams,
    TrainParams,
)
from stages.pipeline.yaml12 import load_yaml12

PARAMS_FILE = Path("params.yaml")

_MOST_FAULTS = 20
_REPR = reprlib.Repr()  # short, whatever it is of: aliases can make a value without end of a few lines
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, 80, 80


class Params(Section):
    dataset: str = Field(min_length=1, description="folder of recordings, or a CSV or TSV table that names them")
    manifest: ManifestParams
    decode: DecodeParams
    resample: ResampleParams
    logmel: LogmelParams
    resize: ResizeParams
    audit: AuditParams
    train: TrainParams
    article: ArticleParams
    evaluate: EvaluateParams
    robustness: RobustnessParams
    export: ExportParams
    execution: ExecutionParams

    @model_validator(mode="after")
    def _bands_below_nyquist(self) -> Params:
        if self.logmel.fmax_hz > self.resample.rate_hz / 2:
            raise ValueError(
                f"logmel.fmax_hz = {self.logmel.fmax_hz:g} is above half of resample.rate_hz = "
                f"{self.resample.rate_hz}: there is no sound up there"
            )
        return self


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """Check plain values and freeze them.

    Raises
    ------
    ParamsError
        One line for each key at fault: what was expected, what was received.
    """
    if not isinstance(values, dict):
        raise ParamsError(f"{source}: expected a mapping of sections, received {type(values).__name__}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines, count = [], error.error_count()
        for fault in error.errors(include_url=False)[:_MOST_FAULTS]:
            key = ".".join(str(part)[:80] for part in fault["loc"]) or "(whole file)"
            received = "" if fault["type"] == "missing" else f"; received {_short(fault['input'])}"
            lines.append(f"  {key}: {fault['msg']}{received}")
        if count > _MOST_FAULTS:
            lines.append(f"  and {count - _MOST_FAULTS} more")
        raise ParamsError(f"{source} has {count} fault(s); mend these keys:\n" + "\n".join(lines)) from None


def _short(value: Any) -> str:
    try:
        return _REPR.repr(value)[:80]
    except ValueError:  # Python writes no number of more than 4,300 digits
        return f"a {type(value).__name__} too long to show"


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises
    ------
    ParamsError
        The file is missing, is no YAML 1.2, or a key is unknown, missing or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(
            f"expected {path} in the current folder ({Path.cwd()}); run from the repository's root"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read as UTF-8 text: {error}") from None
    try:
        values = load_yaml12(text)
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML 1.2: {error}") from None
    return parse_params(values, str(path))
