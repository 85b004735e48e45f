"""The sections of params.yaml for what is done with images: audit, training, evaluation, robustness, export."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.pipeline.data_params import MOST_SEED, Section

Architecture = Literal["phonetic", "bands", "bands_deep", "cnn5", "cnn5_average", "cnn5_attention", "cnn5_relu"]


class AuditParams(Section):
    fail_above: float = Field(
        ge=0,
        le=1,
        description="the stage fails when the lower end of a shortcut's interval lies above this, on the manifest's "
        "own split; 1: never",
    )
    max_clips: int = Field(ge=100, description="the probes learn from and ask about at most so many clips")
    bootstrap_samples: int = Field(ge=100, le=100000, description="draws for the 95 % intervals")
    seed: int = Field(ge=0, le=MOST_SEED, description="of those draws, of the random split and of the forest")


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


class TrainParams(Section):
    architecture: Architecture = Field(
        description="phonetic: ours, it hears sounds and from their order the language; bands, bands_deep: ours before "
        "it, on the picture as a whole, the second for tens of thousands of clips; cnn5: the 2017 article's network; "
        "cnn5_average, cnn5_attention: the same with pooling in place of its dense layer; cnn5_relu: the same with "
        "batch normalisation and ReLU in place of ELU"
    )
    epochs: int = Field(ge=1, le=10000, description="rounds over the training split")
    batch_size: int = Field(ge=1, le=65536, description="windows in a step, all devices together")
    seed: int = Field(ge=0, le=MOST_SEED, description="first weights, order, augmentation, dropout")
    optimizer: Literal["nadam", "adamw"] = Field(description="the article's is nadam")
    schedule: Literal["cosine", "steps"] = Field(description="how the learning rate goes down")
    learning_rate: float = Field(gt=0, le=1, description="cosine: the highest rate")
    warmup_epochs: float = Field(ge=0, description="cosine: the rate climbs from zero for so long")
    learning_rates: tuple[Annotated[tuple[int, float], Field(strict=False)], ...] = Field(
        min_length=1, strict=False, description="steps: pairs of first epoch (from 0) and rate"
    )
    weight_decay: float = Field(ge=0, le=1, description="pulls weights towards zero; 0: off")
    dropout: float = Field(ge=0, lt=1, description="before the last layer")
    sounds_weight: float = Field(
        ge=0, le=100, description="phonetic: how much it counts to hear the sounds that the corpus tells; 0: nothing"
    )
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
        description="auto: bfloat16 where the hardware gains by it"
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
    seed: int = Field(ge=0, le=MOST_SEED, description="of those draws")
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
    seed: int = Field(ge=0, le=MOST_SEED, description="which clips, where they are cut, which noise")

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
