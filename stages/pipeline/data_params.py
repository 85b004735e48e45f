"""The sections of params.yaml for what is done with sound, and how the work is shared out."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.pipeline.loopback import is_loopback

MOST_SEED = 2**32 - 1  # of Keras and scikit-learn


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
    seed: int = Field(ge=0, le=MOST_SEED, description="which groups go where")
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
