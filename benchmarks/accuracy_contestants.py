"""The accuracy benchmark's contestants that learn: our network, the article's, and LDA on mel statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from benchmarks.accuracy_corpora import BENCHMARK, Clips
from stages import article
from stages.learning.network import build_network
from stages.learning.sounds import SOUNDS, sound_weights
from stages.pipeline.files import sha256_of_json
from stages.pipeline.model_params import TrainParams
from stages.pipeline.params import Params, parse_params

CHECKPOINTS = BENCHMARK / ".checkpoints"

# What params.yaml's train section changes to, and what changes once more where training goes on with recordings: as
# often as there are seeds, and the weights are averaged (model soups, Wortsman et al. 2022, arXiv:2203.05482).
# Panel T's have no sound above 4 kHz.
OURS: dict[str, Any] = {
    "epochs": 15, "warmup_epochs": 0.5, "augment": {"band_limit_probability": 0.5},
    "again": {"epochs": 4, "learning_rate": 1e-3, "seeds": (1, 2, 3)},
}  # fmt: skip
ARTICLE = article.RECIPE | {
    "epochs": 5, "augment": None,
    "again": {"epochs": 2, "learning_rates": [[0, 1e-3], [1, 1e-4]]},
}  # fmt: skip


@dataclass(frozen=True)
class _Windows:
    """What the learning stages ask of windows."""

    label: np.ndarray
    clip: np.ndarray
    clips: np.ndarray
    shape: tuple[int, int]
    n_bytes: int

    def __len__(self) -> int:
        return len(self.label)


class _InMemory:
    """And of images."""

    in_memory = True

    def __init__(self, clips: Clips, languages: list[str]) -> None:
        self.images = clips.images
        label = np.searchsorted(languages, clips.language)[clips.clip]
        shape = (clips.images.shape[1], clips.images.shape[2])
        self.windows = _Windows(label, clips.clip, clips.language, shape, clips.images.nbytes)

    def take(self, numbers: np.ndarray) -> np.ndarray:
        out: np.ndarray = self.images[numbers]
        return out

    def reading_order(self) -> np.ndarray:
        return np.arange(len(self.images))


class _Told:
    """And of what is said."""

    def __init__(self, said: np.ndarray) -> None:
        self.said = said

    def columns(self, windows: np.ndarray, n_columns: int) -> np.ndarray:
        out: np.ndarray = self.said[windows]
        return out

    def weights(self) -> np.ndarray:
        return sound_weights(np.bincount(self.said.ravel(), minlength=256)[: len(SOUNDS)])


class Network:
    """One of our networks: `fit` trains, further where it was trained before; `scores` gives probabilities.

    name : of its checkpoints, by which a killed training goes on
    """

    def __init__(self, name: str, recipe: dict[str, Any], params: Params) -> None:
        self.name, self.recipe, self.params = name, recipe, params
        self.trained: Any = None

    def fit(self, clips: Clips, validation: Clips) -> None:
        """Validation : which epoch is kept is chosen on it; may be empty, then it is the last."""
        from stages.learning import runtime

        again = self.trained is not None
        recipe = self.recipe | (self.recipe["again"] if again else {})
        self.languages = sorted(set(clips.language))
        start = self.trained.get_weights() if again else ()
        weights = []
        for seed in recipe.get("seeds", (self.params.train.seed,)):
            train = self._train_params(recipe | {"seed": seed})
            runtime.make_reproducible(seed)
            runtime.keras.config.set_dtype_policy(runtime.policy_name(train.precision))
            weights.append(self._fitted(train, clips, validation, start))
        bands, columns = clips.images.shape[1:]
        self.trained = build_network(train.architecture, bands, columns, len(self.languages), train.dropout)
        self.trained.set_weights([np.mean(values, axis=0) for values in zip(*weights, strict=True)])

    def _fitted(
        self, train: TrainParams, clips: Clips, validation: Clips, start: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The weights of one training, from the weights `start` on; none: from the beginning."""
        from stages.learning.dataset import TrainingBatches
        from stages.learning.training import train_model

        images: Any = _InMemory(clips, self.languages)
        label = images.windows.label
        held_out: Any = _InMemory(validation, self.languages)
        told: Any = _Told(clips.said) if train.architecture == "phonetic" else None
        batches = TrainingBatches(
            images, len(self.languages), train.batch_size, train.class_weights, train.seed, sounds=told
        )
        given = [sha256(values.tobytes()).hexdigest() for values in (clips.images, clips.said, label, *start)]
        key = sha256_of_json([train.model_dump(mode="json"), given])[:12]
        checkpoint = CHECKPOINTS / f"{self.name}-{key}.npz"
        return train_model(train, batches, held_out, checkpoint, lambda record: None, start).weights

    def _train_params(self, recipe: dict[str, Any]) -> TrainParams:
        values = self.params.model_dump(mode="json")
        augment = values["train"]["augment"]
        augment = dict.fromkeys(augment, 0) if recipe["augment"] is None else augment | recipe["augment"]
        changes = {key: value for key, value in recipe.items() if key not in ("again", "seeds")}
        values["train"] |= changes | {"augment": augment}
        return parse_params(values).train

    def scores(self, test: Clips) -> np.ndarray:
        """(clips, languages)"""
        from stages.learning.metrics import pool_windows

        found = self.trained.predict(test.images[..., None], batch_size=256, verbose=0)
        return pool_windows(found, test.clip, len(test.language))


class MelLda:
    """LDA on each band's mean and deviation over time."""

    def fit(self, clips: Clips, validation: Clips) -> None:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        self.languages = sorted(set(clips.language))
        priors = np.full(len(self.languages), 1 / len(self.languages))
        self.model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors)
        self.model.fit(self._statistics(clips), clips.language)

    def scores(self, test: Clips) -> np.ndarray:
        """(clips, languages)"""
        return np.asarray(self.model.predict_proba(self._statistics(test)))

    @staticmethod
    def _statistics(clips: Clips) -> np.ndarray:
        """Of each clip its windows' mean."""
        from stages.learning.mel_statistics import image_statistics

        of_windows = np.stack([image_statistics(image) for image in clips.images])
        summed = np.zeros((len(clips.language), of_windows.shape[1]))
        np.add.at(summed, clips.clip, of_windows)
        return summed / np.bincount(clips.clip)[:, None]
