"""params.yaml as frozen, typed values: one class for each section, one section for each stage.

Units stand in the names. A key that no stage knows, a value of the wrong type or out of range is an error that
names the key and what was expected.
"""

from __future__ import annotations

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.pipeline.errors import ParamsError
from stages.pipeline.loopback import is_loopback
from stages.pipeline.yaml12 import load_yaml12

PARAMS_FILE = Path("params.yaml")

_MOST_FAULTS = 20
_MOST_SEED = 2**32 - 1  # of Keras and scikit-learn
_REPR = reprlib.Repr()  # short, whatever it is of: aliases can make a value without end of a few lines
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, 80, 80

Architecture = Literal["bands", "bands_deep", "cnn5", "cnn5_average", "cnn5_attention", "cnn5_relu"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ColumnParams(Section):
    """Which column of a table holds what; only read where the table is not of a known layout."""

    path: str = Field(description="path of the recording, relative to the table's folder")
    language: str = Field(description="label")
    group: str = Field(description="speaker or source; may be absent from the table")
    split: str = Field(description="train, validation or test; may be absent from the table")


class ManifestParams(Section):
    layout: Literal["auto", "folders", "table", "topcoder", "common_voice", "voxlingua107", "fleurs"] = Field(
        description="how the dataset tells the language of a recording; auto looks"
    )
    columns: ColumnParams
    languages: tuple[str, ...] = Field(description="use these languages only; empty: all", strict=False)
    drop_languages: tuple[str, ...] = Field(description="leave these languages out", strict=False)
    group_pattern: str = Field(
        description="regular expression searched in the path; its first group names the speaker or source; empty: "
        "what the layout knows"
    )
    split_by: Literal["group", "random"] = Field(
        description="group: no speaker or source stands in two splits; random: measures voices as well, for comparison"
    )
    test_fraction: float = Field(ge=0, lt=1, description="share of the groups that is kept for the test")
    validation_fraction: float = Field(ge=0, lt=1, description="share of the groups that training is steered by")
    seed: int = Field(ge=0, le=_MOST_SEED, description="which groups go where")
    clips_per_shard: int = Field(ge=1, le=4096, description="a shard holds at most this many recordings")
    megabytes_per_shard: int = Field(ge=1, description="and at most this much of the original files, or one file")
    max_reject_fraction: float = Field(ge=0, le=1, description="the stage fails when more is rejected")

    @model_validator(mode="after")
    def _make_sense(self) -> ManifestParams:
        try:
            re.compile(self.group_pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"group_pattern is no regular expression: {error}") from None
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction must leave something to train on (< 1)")
        return self


class DecodeParams(Section):
    min_seconds: float = Field(ge=0.05, description="shorter recordings are rejected")
    max_seconds: float = Field(gt=0, description="longer recordings are cut here")
    timeout_seconds: float = Field(gt=0, description="wall-clock limit for one recording")
    ffmpeg: str = Field(description="path of the ffmpeg binary; empty: the one that imageio-ffmpeg carries")
    max_reject_fraction: float = Field(ge=0, le=1, description="the stage fails when more is rejected")


class ResampleParams(Section):
    rate_hz: int = Field(ge=4000, le=48000, description="sample rate of everything that follows")
    quality: Literal["QQ", "LQ", "MQ", "HQ", "VHQ"] = Field(description="soxr's quality")


class LogmelParams(Section):
    axis: Literal["mel", "log", "linear"] = Field(description="spacing of the bands")
    n_mels: int = Field(ge=8, le=512, description="bands")
    n_fft: int = Field(ge=64, le=8192, description="samples in a Hann window")
    hop_length: int = Field(ge=16, description="samples from one frame to the next")
    fmin_hz: float = Field(ge=0, description="lower edge of the lowest band")
    fmax_hz: float = Field(gt=0, description="upper edge of the highest band; at most half of rate_hz")
    floor_db: float = Field(lt=0, description="weaker is set to this; 0 dB is a full-scale band")

    @model_validator(mode="after")
    def _frames_overlap(self) -> LogmelParams:
        if self.hop_length > self.n_fft:
            raise ValueError("hop_length must not be longer than n_fft, or samples would be skipped")
        lowest = 1.0 if self.axis == "log" else 0.0
        if not lowest <= self.fmin_hz < self.fmax_hz:
            raise ValueError(f"expected {lowest:g} <= fmin_hz < fmax_hz on the {self.axis} axis")
        return self


class ResizeParams(Section):
    height: int = Field(ge=8, le=1024, description="rows of the image: frequency")
    width: int = Field(ge=8, le=2048, description="columns of the image: time")
    window_seconds: float = Field(gt=0, description="sound in one image; shorter clips are padded")
    stride_seconds: float = Field(gt=0, description="from one window of a long recording to the next")
    intensity: Literal["log", "amplitude", "power"] = Field(
        description="what a pixel is proportional to: level in dB, or, for comparison, sound pressure or its square"
    )
    range_db: float = Field(gt=0, description="log: this far below the window's peak is black")


class AugmentParams(Section):
    """What each batch is put through in training; 0 switches a part off. Shares are of the image's height or range."""

    crop_columns: int = Field(ge=0, description="train on this many columns from a random place; 0: all of them")
    time_stretch: float = Field(ge=0, le=1, description="0.2: up to 1.2 times faster or slower")
    reverb_probability: float = Field(ge=0, le=1, description="share of the images whose sounds fade as in a room")
    frequency_warp: float = Field(
        ge=0, le=0.5, description="shift and scale of the bands: longer, shorter vocal tracts"
    )
    equalise: float = Field(ge=0, le=1, description="height of a smooth curve over frequency, as a share of range_db")
    noise_probability: float = Field(ge=0, le=1, description="share of the images that get stationary noise")
    noise_loudest: float = Field(ge=0, le=1, description="its highest level, as a share of range_db; 1: as the speech")
    band_limit_probability: float = Field(ge=0, le=1, description="share of the images that lose their upper bands")
    shorten_probability: float = Field(ge=0, le=1, description="share of the images that end sooner, padded with black")
    frequency_masks: int = Field(ge=0, le=10, description="SpecAugment: stripes of black bands")
    frequency_mask_bands: int = Field(ge=0, description="their greatest width")
    time_masks: int = Field(ge=0, le=20, description="SpecAugment: stripes of black columns")
    time_mask_columns: int = Field(ge=0, description="their greatest width")


class AuditParams(Section):
    fail_above: float = Field(
        ge=0,
        le=1,
        description="the stage fails when the lower end of a shortcut's interval lies above this, on the manifest's "
        "own split; 1: never",
    )
    max_clips: int = Field(ge=100, description="the probes learn from and ask about at most so many clips")
    bootstrap_samples: int = Field(ge=100, le=100000, description="draws for the 95 % intervals")
    seed: int = Field(ge=0, le=_MOST_SEED, description="of those draws, of the random split and of the forest")


class TrainParams(Section):
    architecture: Architecture = Field(
        description="bands: ours; bands_deep: ours for tens of thousands of clips; cnn5: the 2017 article's network; "
        "cnn5_average, cnn5_attention: the same with pooling in place of its dense layer; cnn5_relu: the same with "
        "batch normalisation and ReLU in place of ELU"
    )
    epochs: int = Field(ge=1, le=10000, description="rounds over the training split")
    batch_size: int = Field(ge=1, le=65536, description="windows in a step, all devices together")
    seed: int = Field(ge=0, le=_MOST_SEED, description="first weights, order, augmentation, dropout")
    optimizer: Literal["nadam", "adamw"] = Field(description="the article's is nadam")
    schedule: Literal["cosine", "steps"] = Field(description="how the learning rate goes down")
    learning_rate: float = Field(gt=0, le=1, description="cosine: the highest rate")
    warmup_epochs: float = Field(ge=0, description="cosine: the rate climbs from zero for so long")
    learning_rates: tuple[Annotated[tuple[int, float], Field(strict=False)], ...] = Field(
        min_length=1, strict=False, description="steps: pairs of first epoch (from 0) and rate"
    )
    weight_decay: float = Field(ge=0, le=1, description="pulls weights towards zero; 0: off")
    dropout: float = Field(ge=0, lt=1, description="before the last layer")
    label_smoothing: float = Field(ge=0, lt=1, description="share of the label that goes to all languages alike")
    class_weights: Literal["balanced", "none"] = Field(description="balanced: every language counts the same")
    unknown_languages: tuple[str, ...] = Field(
        strict=False,
        description="kept out of training; they fit and test the threshold below which the answer is "
        "`unknown`; empty: there is none",
    )
    patience: int = Field(ge=0, description="stop after so many epochs without better validation; 0: never")
    average_momentum: float = Field(ge=0, lt=1, description="running mean of the weights over the steps; 0: off")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="auto: bfloat16 where the hardware multiplies in it"
    )
    memory_gb: float = Field(
        ge=0, description="images are held in memory up to this size, else streamed, in another order"
    )
    augment: AugmentParams

    @model_validator(mode="after")
    def _rates_in_order(self) -> TrainParams:
        epochs = [epoch for epoch, _ in self.learning_rates]
        if epochs[0] != 0 or epochs != sorted(set(epochs)) or any(not 0 < rate <= 1 for _, rate in self.learning_rates):
            raise ValueError("learning_rates: expected [[0, rate], [epoch, rate], ...], epochs rising, rates in (0, 1]")
        if self.architecture.startswith("cnn5") and self.augment.crop_columns:
            raise ValueError(f"{self.architecture} takes images of one size only: set train.augment.crop_columns to 0")
        return self


class ArticleParams(Section):
    epochs: int = Field(
        ge=0, le=1000, description="of the 2017 article's network, for evaluate's ladder; the article's are 5; 0: none"
    )


class EvaluateParams(Section):
    batch_size: int = Field(ge=1, le=65536, description="windows that are scored at once")
    bootstrap_samples: int = Field(ge=100, le=100000, description="draws for the 95 % intervals")
    seed: int = Field(ge=0, le=_MOST_SEED, description="of those draws")
    calibration_bins: int = Field(ge=2, le=100, description="bins of the calibration error and the reliability plot")
    extra_corpora: dict[Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")], Annotated[str, Field(min_length=1)]] = Field(
        description="name: folder or table, laid out as `dataset` may be; only scored, never in training"
    )


class RobustnessParams(Section):
    """What test clips are put through before they are scored again; an empty list switches a part off."""

    seconds: tuple[float, ...] = Field(strict=False, description="lengths that the clips are cut to")
    codecs: tuple[Literal["mp3_32k", "opus_16k", "amr_12k2", "g711"], ...] = Field(
        strict=False, description="codecs that they go through and back"
    )
    snr_db: tuple[float, ...] = Field(
        strict=False, description="signal-to-noise ratios, once with white noise and once with babble"
    )
    max_clips: int = Field(ge=0, description="so many test clips, as evenly from all languages as can be; 0: all")
    seed: int = Field(ge=0, le=_MOST_SEED, description="which clips, where they are cut, which noise")

    @model_validator(mode="after")
    def _settings_make_sense(self) -> RobustnessParams:
        for name in ("seconds", "codecs", "snr_db"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value stands twice")
        if any(not 0.1 <= value <= 3600 for value in self.seconds):
            raise ValueError("seconds: expected lengths from 0.1 to 3600")
        if any(not -40 <= value <= 80 for value in self.snr_db):
            raise ValueError("snr_db: expected ratios from -40 to 80 dB")
        return self


class ExportParams(Section):
    """What the exported files say about the data, and how they are compared with the pipeline."""

    data_licence: dict[str, str] = Field(
        description="dataset: what its licence is, in words; goes into the exported files and the model card"
    )
    max_clips: int = Field(ge=0, description="so many test clips, as evenly from all languages as can be; 0: all")


class ExecutionParams(Section):
    """How the work is done; it changes no byte of any result, so DVC does not track it."""

    backend: Literal["loky", "dask"] = Field(description="loky: processes on this machine; dask: a cluster's workers")
    scheduler_address: str = Field(description="dask: where its scheduler is, tcp://host:port or tls://host:port")
    trusted_network: bool = Field(
        description="dask: allow tcp:// to another machine; whoever reaches the scheduler there can run code on all"
    )
    workers: int = Field(ge=0, description="loky: processes; 0: as many as there are cores")
    reuse_gb: float = Field(ge=0, description="room for finished shards of earlier runs; oldest go first")

    @model_validator(mode="after")
    def _scheduler_is_named(self) -> ExecutionParams:
        if self.backend == "dask" and not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", self.scheduler_address):
            raise ValueError(
                "backend: dask needs scheduler_address: expected tcp://host:port or tls://host:port, received "
                f"{self.scheduler_address!r}; see docs/cluster.md"
            )
        return self

    @model_validator(mode="after")
    def _network_is_closed(self) -> ExecutionParams:
        host = self.scheduler_address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
        if self.backend != "dask" or self.trusted_network or not self.scheduler_address.startswith("tcp://"):
            return self
        if is_loopback(host):
            return self
        raise ValueError(
            f"scheduler_address is {self.scheduler_address}, another machine without encryption, where whoever reaches "
            "the scheduler can run code on all its machines: expected tls://, or trusted_network: true where nobody "
            "else can reach it; see docs/cluster.md"
        )


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
