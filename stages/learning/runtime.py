"""The learning runtime: quiet logs, fixed seeds, number format, devices.

Import Keras through this module (`from stages.learning.runtime import keras`): the variables below are only
read when TensorFlow is loaded, so they have to be set before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors come as exceptions; the rest is noise


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep back what C++ code writes to stderr, whatever the log level (TensorFlow on every start); told on failure."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        own = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(own, kept.read())
            raise
        finally:
            os.dup2(own, 2)
            os.close(own)


with quiet_stderr():
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow  # noqa: F401 - loaded here, while it is quiet

log = logging.getLogger(__name__)

__all__ = [
    "accelerators",
    "feed",
    "keras",
    "make_reproducible",
    "needs_compiler",
    "number_of_devices",
    "policy_name",
    "quiet_stderr",
    "strategy_scope",
]

CPUINFO = Path("/proc/cpuinfo")


def make_reproducible(seed: int) -> None:
    """Same seed, same machine type, same bytes: seeds everything and asks for deterministic kernels."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def needs_compiler() -> bool:
    """Whether a step is to go through XLA.

    JAX has no other way to be fast. TensorFlow's own kernels are faster than XLA's on CPUs (measured: 184 against 25
    clips/s), and deterministic.
    """
    return bool(keras.backend.backend() != "tensorflow")


def accelerators() -> list[Any]:
    """The GPUs (or TPUs) that the backend sees."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return list(tf.config.list_logical_devices("GPU"))
    return [name for name in keras.distribution.list_devices() if not str(name).startswith("cpu")]


def policy_name(precision: str, cpuinfo: Path = CPUINFO) -> str:
    """Keras's name for `train.precision`.

    auto is bfloat16 where that is faster: on a GPU, and on a CPU with amx_bf16 or AMD's avx512_bf16. By Intel's
    avx512_bf16 training is slower than in float32 (docs/speed.md).
    """
    if precision == "auto":
        precision = "bfloat16" if accelerators() or _cpu_gains_by_bfloat16(cpuinfo) else "float32"
    return {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]


def _cpu_gains_by_bfloat16(cpuinfo: Path) -> bool:
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):  # no such file outside Linux
        for line in cpuinfo.read_text(errors="replace").split("\n\n")[0].splitlines():  # the first processor
            key, _, value = line.partition(":")
            told[key.strip()] = value.strip()
    flags = told.get("flags", "").split()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and told.get("vendor_id") == "AuthenticAMD")


def feed(batches: Iterator[tuple[Any, ...]], specs: tuple[Any, ...]) -> Any:
    """Batches in the form in which `model.fit` takes them best.

    specs : shape and dtype of each part of a batch, as KerasTensors

    Keras hands a generator to tf.data, whose autotuner keeps every second `fit` waiting for a second at its end
    (measured on two cores: 198 clips/s in place of 380). Several devices get their generator, which Keras distributes.
    """
    if keras.backend.backend() != "tensorflow" or number_of_devices() > 1:
        return batches
    import tensorflow as tf

    signature = keras.tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), specs)
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_generator(lambda: batches, output_signature=signature).prefetch(1).with_options(options)


def _tensorflow_devices() -> list[str]:
    import tensorflow as tf

    for kind in ("GPU", "CPU"):
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        if devices:
            return devices
    return []


def number_of_devices() -> int:
    """How many devices share a batch: all GPUs; without any, the logical CPU devices (one, but for tests)."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return max(1, len(_tensorflow_devices()))


def strategy_scope() -> contextlib.AbstractContextManager[Any]:
    """Scope in which to build and compile: mirrored over several devices, plain on one."""
    if number_of_devices() == 1:
        return contextlib.nullcontext()
    import tensorflow as tf

    devices = _tensorflow_devices()
    log.info("each batch is shared by %d devices", len(devices))
    # NCCL is there for GPUs only, and not deterministic; the hierarchical copy serves both
    scope: contextlib.AbstractContextManager[Any] = tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.HierarchicalCopyAllReduce()
    ).scope()
    return scope
