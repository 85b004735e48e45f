"""The contestants of benchmarks/train.py, each a process of its own: only here Keras is loaded.

python benchmarks/train_contestants.py NAME FOLDER OPTIONS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from stages.learning.dataset import Images, TrainingBatches, index_windows  # noqa: E402
from stages.learning.sounds import SOUNDS, WindowSounds  # noqa: E402
from stages.pipeline.manifest_table import read_manifest  # noqa: E402
from stages.pipeline.model_params import TrainParams  # noqa: E402
from stages.pipeline.params import load_params, parse_params  # noqa: E402

FILTERS = (16, 32, 64, 128, 256)
CONTESTANTS = ("plain", "cnn5", "device", "phonetic", "phonetic_plain")
SECONDS_PER_COLUMN, SECONDS_PER_SOUND = 0.026, 0.08
RECIPE = {
    "architecture": "cnn5", "optimizer": "nadam", "schedule": "steps", "learning_rates": [[0, 1e-3]],
    "weight_decay": 0, "label_smoothing": 0, "dropout": 0.5, "class_weights": "none",
}  # fmt: skip


def train_params(architecture: str, augmented: bool, **changes: Any) -> TrainParams:
    """params.yaml's train section; for cnn5 the article's recipe."""
    values = load_params(ROOT / "params.yaml").model_dump(mode="json")
    recipe = RECIPE if architecture == "cnn5" else {"architecture": architecture}
    values["train"] |= recipe | changes
    if not augmented:
        values["train"]["augment"] = dict.fromkeys(values["train"]["augment"], 0)
    return parse_params(values).train


def batches_of(folder: Path, params: TrainParams, devices: int = 1, **options: Any) -> TrainingBatches:
    rows = read_manifest(folder / "manifest.csv")
    languages = sorted({row.language for row in rows if row.split == "train"})
    images = Images(index_windows(folder / "features", rows, languages, "train"), params.memory_gb)
    outputs = options.pop("outputs", len(languages))
    if params.architecture == "phonetic":
        options["sounds"] = any_sounds(images.windows.clip, images.windows.shape[1])
    return TrainingBatches(images, outputs, params.batch_size, params.class_weights, params.seed, devices, **options)


def any_sounds(clip: np.ndarray, n_columns: int) -> WindowSounds:
    """Sounds drawn at random, as dense as speech: to hear them is a part of the step."""
    begins = np.arange(0, n_columns * SECONDS_PER_COLUMN, SECONDS_PER_SOUND)
    numbers = np.random.default_rng(1).integers(len(SOUNDS), size=(clip.max() + 1, len(begins)), dtype=np.uint8)
    return WindowSounds((begins,) * len(numbers), tuple(numbers), clip, np.zeros(len(clip)), SECONDS_PER_COLUMN)


def article_network(keras: Any, size: int, languages: int) -> Any:
    """As the article wrote it."""
    layers = keras.layers
    x = images = keras.Input((size, size, 1))
    x = layers.Rescaling(1 / 255)(x)
    for filters in FILTERS:
        x = layers.Conv2D(filters, 3, padding="same", activation="elu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(512, activation="elu")(layers.Flatten()(x))
    x = layers.Dropout(0.5)(x)
    return keras.Model(images, layers.Dense(languages, activation="softmax")(x))


def plain_keras(size: int, languages: int) -> tuple[Any, Any]:
    """The article's network in float32, compiled as its author would; the faster of the two ways on TensorFlow."""
    import keras

    model = article_network(keras, size, languages)
    jit = "auto" if keras.backend.backend() != "tensorflow" else False  # XLA is slower on CPUs
    model.compile(keras.optimizers.Nadam(1e-3), "categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return keras, model


def our_model(params: TrainParams, batches: TrainingBatches) -> Any:
    from stages.learning import runtime, training

    runtime.make_reproducible(params.seed)
    runtime.keras.config.set_dtype_policy(runtime.policy_name(params.precision))
    return training.compiled_network(params, batches)[1]


def make_contestant(name: str, folder: Path, options: dict[str, Any]) -> Callable[[int], None]:
    """What runs one round, an epoch over all clips."""
    architecture = "phonetic" if name.startswith("phonetic") else "cnn5"
    params = train_params(architecture, name == "phonetic", **options["train"])
    batches = batches_of(folder, params, outputs=options["outputs"])
    windows = batches.images.windows
    if name == "plain":
        keras, model = plain_keras(windows.shape[0], options["outputs"])
        keras.utils.set_random_seed(1)
        images = batches.images.take(np.arange(len(windows)))[..., None]
        labels = np.eye(options["outputs"], dtype=np.float32)[windows.label]

        def one_fit(_: int) -> None:
            model.fit(images, labels, batch_size=params.batch_size, verbose=0)

        return one_fit
    from stages.learning.training import fit_epoch

    model = our_model(params, batches)
    if name == "device":
        return on_device(model, batches)

    def one_epoch(epoch: int) -> None:
        fit_epoch(model, batches, epoch)

    return one_epoch


def on_device(model: Any, batches: TrainingBatches) -> Callable[[int], None]:
    from stages.learning.runtime import keras

    ops, windows = keras.ops, batches.images.windows
    images = ops.convert_to_tensor(batches.images.take(np.arange(len(windows)))[..., None])
    labels = ops.convert_to_tensor(np.eye(batches.n_languages, dtype=np.float32)[windows.label])

    def run(epoch: int) -> None:
        order = np.random.default_rng(epoch).permutation(len(windows)).astype(np.int32)
        for numbers in np.array_split(order, batches.steps):
            model.train_on_batch(ops.take(images, numbers, axis=0), ops.take(labels, numbers, axis=0))

    return run


def matmul_rate(seconds: float) -> float:
    """Operations per second of a large matrix product in the format that `train.precision: auto` chooses."""
    from stages.learning.runtime import accelerators, keras, policy_name

    ops, n = keras.ops, 8192 if accelerators() else 2048
    kind = "float32" if policy_name("auto") == "float32" else "bfloat16"
    a = ops.cast(ops.convert_to_tensor(np.random.default_rng(0).random((n, n), np.float32)), kind)

    def products() -> None:
        x = a
        for _ in range(4):
            x = ops.matmul(x, a) * (1 / n)
        float(ops.convert_to_numpy(ops.cast(ops.sum(x), "float32")))  # wait for it

    return 4 * 2 * n**3 / shortest(products, seconds)


def copy_rate(seconds: float) -> float:
    """Bytes per second, read and written, of a pass over a large array."""
    from stages.learning.runtime import accelerators, keras

    ops, n = keras.ops, 2**30 if accelerators() else 2**26
    a = ops.ones((n // 4,), "float32")

    def passes() -> None:
        x = a
        for _ in range(4):
            x = x + 1.0
        float(ops.convert_to_numpy(x[-1]))  # wait for it

    return 4 * 2 * n / shortest(passes, seconds)


def shortest(work: Callable[[], None], seconds: float) -> float:
    """The shortest of the runs of `work` that `seconds` have room for, after one that compiles; in seconds."""
    work()
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not times:
        start = time.monotonic()
        work()
        times.append(time.monotonic() - start)
    return min(times)


def losses(name: str, folder: Path, options: dict[str, Any], seed: int) -> dict[str, float]:
    """Mean training loss of the last epoch, and the loss over all clips without dropout, after the given steps."""
    params = train_params("cnn5", False, **options["train"])
    batches = batches_of(folder, params, outputs=options["outputs"])
    windows = batches.images.windows
    if name == "plain":
        keras, model = plain_keras(windows.shape[0], options["outputs"])
    else:
        model = our_model(params, batches)
        from stages.learning.runtime import keras
    rng = np.random.default_rng(5)
    start = [  # Glorot's, from the shapes alone, so that both get the same
        np.zeros(v.shape) if len(v.shape) == 1 else rng.uniform(-1, 1, v.shape) * (6 / sum(fans(v.shape))) ** 0.5
        for v in model.trainable_variables
    ]
    model.set_weights(start)
    keras.utils.set_random_seed(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign(np.array([seed, 0]))
    epochs = max(1, round(options["steps"] / batches.steps))
    for epoch in range(epochs):
        logs = model.fit(batches.epoch(epoch), steps_per_epoch=batches.steps, shuffle=False, verbose=0).history
    images = batches.images.take(np.arange(len(windows)))[..., None]
    scores = np.asarray(model.predict(images, batch_size=params.batch_size, verbose=0), np.float64)
    final = -np.log(np.maximum(scores[np.arange(len(windows)), windows.label], 1e-12)).mean()
    return {"steps": epochs * batches.steps, "training": float(logs["loss"][-1]), "all_clips": float(final)}


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    field = int(np.prod(shape[:-2]))
    return field * shape[-2], field * shape[-1]


def work(name: str, folder: Path, options: dict[str, Any]) -> None:
    """A contestant's process: says what it is when it is ready, then runs a round for each line that comes in."""
    if name.startswith("loss:"):
        _, contestant, seed = name.split(":")
        print(json.dumps(losses(contestant, folder, options, int(seed))), flush=True)
        return
    run = make_contestant(name, folder, options)
    run(0)  # traces, compiles
    facts = describe()
    if name == "cnn5":
        facts["matmul_flops_per_second"] = matmul_rate(options["matmul_seconds"])
        facts["copy_bytes_per_second"] = copy_rate(options["matmul_seconds"])
    print(json.dumps(facts), flush=True)
    for epoch, _ in enumerate(sys.stdin, start=1):
        cpu, wall = time.process_time(), time.monotonic()
        run(epoch)
        print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}), flush=True)


def describe() -> dict[str, Any]:
    import keras

    return {
        "backend": keras.backend.backend(), "policy": keras.config.dtype_policy().name,
        "device": ", ".join(sorted({str(device).rpartition(":")[0] for device in keras.distribution.list_devices()})),
    }  # fmt: skip


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
