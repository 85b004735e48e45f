"""The training loop: epochs, validation, early stopping, best and averaged weights, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.learning.augment import Augment, is_off
from stages.learning.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from stages.learning.dataset import Images, TrainingBatches
from stages.learning.layers import SoundLoss
from stages.learning.metrics import log_loss, pool_windows
from stages.learning.network import build_network
from stages.learning.runtime import feed, keras, needs_compiler, strategy_scope
from stages.learning.scoring import predict_windows
from stages.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from stages.pipeline.model_params import TrainParams

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """weights : as `model.get_weights()` gives them; epoch : the one they come from, from 0."""

    weights: list[np.ndarray]
    epoch: int
    history: list[dict[str, float]]


def learning_rate_schedule(params: TrainParams, steps_per_epoch: int) -> Any:
    """steps: `learning_rates`, pairs of (first epoch, rate). cosine: up during the warm-up, then down to zero."""
    schedules = keras.optimizers.schedules
    if params.schedule == "steps":
        # Keras changes to the next value after `boundary` steps have been exceeded
        boundaries = [int(epoch * steps_per_epoch) - 1 for epoch, _ in params.learning_rates[1:]]
        values = [rate for _, rate in params.learning_rates]
        if not boundaries:
            return values[0]
        return schedules.PiecewiseConstantDecay(boundaries, values)
    total = params.epochs * steps_per_epoch
    warmup = min(round(params.warmup_epochs * steps_per_epoch), total - 1)
    if warmup == 0:
        return schedules.CosineDecay(params.learning_rate, total)
    return schedules.CosineDecay(
        params.learning_rate / warmup, total - warmup, warmup_target=params.learning_rate, warmup_steps=warmup
    )


def make_optimizer(params: TrainParams, steps_per_epoch: int) -> Any:
    rate = learning_rate_schedule(params, steps_per_epoch)
    if params.optimizer == "nadam":
        return keras.optimizers.Nadam(rate, weight_decay=params.weight_decay or None)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


class _AverageWeights(keras.callbacks.Callback):  # type: ignore[misc]
    """Running mean of the network's weights over the steps (momentum m), unbiased at the start."""

    def __init__(self, network: Any, average: list[np.ndarray], momentum: float, step: int) -> None:
        super().__init__()
        self.network = network
        self.average = average
        self.momentum = momentum
        self.step = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        # the plain mean as long as that forgets faster: an average that starts from random weights would lag
        momentum = min(self.momentum, 1 - 1 / self.step)
        weights = self.network.get_weights()
        if not self.average:
            self.average.extend(value.copy() for value in weights)
        for mean, value in zip(self.average, weights, strict=True):
            mean += (1 - momentum) * (value - mean)


def compiled_network(params: TrainParams, batches: TrainingBatches) -> tuple[Any, Any]:
    """The untrained network, and the model that trains it: augmentation before it, optimizer and loss behind it.

    Where the batches tell what is said, and the network listens to sounds, hearing them is a part of the loss. Without
    augmentation and sounds both are one.
    """
    bands, columns = batches.images.windows.shape
    width = columns if params.architecture.startswith("cnn5") else None
    with strategy_scope():
        network = model = build_network(params.architecture, bands, width, batches.n_languages, params.dropout)
        if batches.sounds is not None or not is_off(params.augment):
            model = _training_model(network, params, batches)
            network.compile(jit_compile=needs_compiler())  # it only predicts
        optimizer = make_optimizer(params, batches.steps)
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=params.label_smoothing),
            weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=needs_compiler(),
        )
        optimizer.build(model.trainable_variables)
    return network, model


def _training_model(network: Any, params: TrainParams, batches: TrainingBatches) -> Any:
    """`network` behind the augmentation; where the batches have sounds, with a loss on what it hears."""
    inputs = keras.tree.map_structure(lambda spec: keras.Input(spec.shape[1:], dtype=spec.dtype), batches.specs[0])
    heard = list(inputs) if isinstance(inputs, tuple) else inputs
    if not is_off(params.augment):
        heard = Augment(params.augment, params.seed, name="augment")(heard)
    if batches.sounds is None:
        return keras.Model(inputs, network(heard))
    images, classes = heard
    parts = keras.Model(network.input, [network.output, network.get_layer("sounds").output])
    probabilities, logits = parts(images)
    loss = SoundLoss(batches.sounds.weights(), params.sounds_weight, name="sound_loss")
    logits = loss([logits, classes])
    # the loss hangs on a layer that the output depends on, or Keras would leave it out
    probabilities = keras.layers.Lambda(lambda pair: pair[0], name="answer")([probabilities, logits])
    return keras.Model(inputs, probabilities)


def fit_epoch(model: Any, batches: TrainingBatches, epoch: int, callbacks: Sequence[Any] = ()) -> dict[str, float]:
    """One round over the batches; loss and accuracy, means over the round.

    Raises StorageError where a shard is damaged.
    """
    failures: list[BaseException] = []
    try:
        logs = model.fit(
            feed(batches.epoch(epoch, failures), batches.specs),
            steps_per_epoch=batches.steps,
            shuffle=False,  # already done
            verbose=0,
            callbacks=list(callbacks),
        ).history
    except Exception:
        if failures and isinstance(failures[0], PipelineError):  # TensorFlow wraps what the thread raised
            raise failures[0] from None
        raise
    return {name: float(values[-1]) for name, values in logs.items()}


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _numpy(variables: list[Any]) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]


def train_model(
    params: TrainParams,
    batches: TrainingBatches,
    validation: Images,
    checkpoint: Path,
    on_epoch: Callable[[dict[str, float]], None],
    start: Sequence[np.ndarray] = (),
) -> Trained:
    """Train, from `checkpoint` on where there is one.

    validation : may be empty; then every epoch is run and the last weights are kept.
    on_epoch : told each epoch's record, those before a resume included.
    start : weights of the same network to begin with; none, and they are drawn.

    Raises
    ------
    StorageError
        A shard is damaged, or the checkpoint cannot be written.
    """
    network, model = compiled_network(params, batches)
    optimizer = model.optimizer
    state = load_checkpoint(checkpoint)
    if state is not None:
        _assign(model.variables, state.variables)
        _assign(optimizer.variables, state.optimizer)
        log.info("going on after epoch %d of %d, from %s", state.epoch, params.epochs, checkpoint)
    else:
        state = TrainingState()
        if start:
            network.set_weights(start)
    for record in state.history:
        on_epoch(record)
    log.info("%s: %s parameters, %s", network.name, f"{network.count_params():,}", keras.config.dtype_policy().name)
    while state.epoch < params.epochs and not _patience_is_over(state, params.patience):
        record = _one_epoch(network, model, params, batches, validation, state)
        state.variables = _numpy(model.variables)
        state.optimizer = _numpy(optimizer.variables)
        save_checkpoint(checkpoint, state)
        on_epoch(record)
    if _patience_is_over(state, params.patience):
        log.info("stopped early: no better validation accuracy for %d epochs", params.patience)
    return Trained(state.best, state.best_epoch, state.history)


def _patience_is_over(state: TrainingState, patience: int) -> bool:
    return patience > 0 and state.best_epoch >= 0 and state.epoch - 1 - state.best_epoch >= patience


def _one_epoch(
    network: Any, model: Any, params: TrainParams, batches: TrainingBatches, validation: Images, state: TrainingState
) -> dict[str, float]:
    started = time.monotonic()
    epoch = state.epoch
    callbacks = []
    if params.average_momentum:
        callbacks.append(_AverageWeights(network, state.average, params.average_momentum, epoch * batches.steps))
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))  # at the epoch's start
    logs = fit_epoch(model, batches, epoch, callbacks)
    record = {
        "epoch": epoch,
        "learning_rate": rate,
        "train_loss": logs["loss"],
        "train_accuracy": logs["accuracy"],
    }
    seconds = time.monotonic() - started
    weights = [value.copy() for value in (state.average or network.get_weights())]
    if len(validation.windows):
        own = network.get_weights()
        network.set_weights(weights)
        record |= validate(network, validation, params.batch_size)
        network.set_weights(own)
    state.history.append(record)
    state.epoch = epoch + 1
    if not len(validation.windows) or _is_better(record, state):
        state.best, state.best_epoch = weights, epoch
    log.info(
        "epoch %d/%d  %s  %.0f windows/s",
        epoch + 1,
        params.epochs,
        "  ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "epoch"),
        len(batches.images.windows) / max(seconds, 1e-9),
    )
    return record


def validate(network: Any, validation: Images, batch_size: int) -> dict[str, float]:
    """Accuracy and log loss over the clips of the validation split, scores pooled over each clip's windows."""
    windows = validation.windows
    scores = pool_windows(predict_windows(network, validation, batch_size), windows.clip, len(windows.clips))
    labels = np.zeros(len(windows.clips), np.int64)
    labels[windows.clip] = windows.label
    return {
        "validation_loss": log_loss(scores, labels),
        "validation_accuracy": float(np.mean(scores.argmax(1) == labels)),
    }


def _is_better(record: dict[str, float], state: TrainingState) -> bool:
    """More accurate than the best so far; equally accurate and surer counts as well."""
    if state.best_epoch < 0:
        return True
    best = state.history[state.best_epoch]
    return (record["validation_accuracy"], -record["validation_loss"]) > (
        best["validation_accuracy"],
        -best["validation_loss"],
    )
