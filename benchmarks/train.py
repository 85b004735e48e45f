"""Training: clips per second of the train stage's own path beside plain Keras, and of its batches alone.

    python benchmarks/train.py --json
    KERAS_BACKEND=jax python benchmarks/train.py      # any Keras backend

Contestants are processes that wait for their turn, so that rounds alternate; each figure is the median over rounds.

- plain       the 2017 article's network as it was written (ELU before pooling), float32, `model.fit` on uint8 arrays
- cnn5        the same function by the train stage: its network, batches and step, precision as train.precision says
- device      cnn5 with the images held on the device and no input at all from Python: what the input may cost
- phonetic    the default network, hearing sounds, with the augmentation of params.yaml; phonetic_plain without it

Loss: plain and cnn5 start from the same weights and take the same batches for the same steps, twice with other
dropout, so that the difference of precision can be seen beside that of chance.

Input: batches alone, made in one thread: from memory, streamed from shards. (Augmentation is a part of the step.)

The roofline of the article's network has two sides, by formula: multiplications and additions (three times the forward
pass for a training step) at the rate of a large matrix product, and the bytes that each layer by itself must move at
the rate of a large copy, both rates measured in the same run in the same number format. The longer of the two times is
the least that a step can take as long as convolution, pooling and activation are not fused.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.train_contestants import CONTESTANTS, FILTERS, batches_of, train_params  # noqa: E402
from stages.pipeline.manifest_table import Row, clip_id, write_manifest  # noqa: E402
from stages.pipeline.shard_writer import ShardWriter  # noqa: E402
from stages.pipeline.shards import Item, Signal  # noqa: E402

WORKER = ROOT / "benchmarks/train_contestants.py"
CLIPS_PER_SHARD = 64


def write_shards(folder: Path, clips: int, languages: int, size: int) -> None:
    """Feature shards and a manifest in the pipeline's form: each language has its own faint pattern, under noise."""
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0, 24, (languages, size // 8, size // 8))
    (folder / "features").mkdir(parents=True)
    rows = []
    for first in range(0, clips, CLIPS_PER_SHARD):
        shard = f"{first // CLIPS_PER_SHARD:05d}"
        with ShardWriter(folder / "features" / f"{shard}.h5", Item((size, size, 1), "uint8", 1)) as writer:
            for number in range(first, min(first + CLIPS_PER_SHARD, clips)):
                language = number % languages
                path = f"l{language:03d}/{number}.wav"
                name = clip_id(path)
                rows.append(Row(name, path, f"l{language:03d}", f"g{number}", "train", name * 4, shard))
                image = np.kron(coarse[language], np.ones((8, 8))) + rng.integers(0, 230, (size, size))
                block = image.astype(np.uint8)[None, :, :, None]
                writer.add(name, path, lambda block=block: Signal(0.0, [block]), 10.0)  # type: ignore[misc]
            writer.finish()
    write_manifest(rows, folder / "manifest.csv")


def forward_flops(size: int, languages: int) -> int:
    """Multiplications and additions for one clip through the article's network."""
    total, channels, side = 0, 1, size
    for filters in FILTERS:
        total += 2 * side * side * 9 * channels * filters
        channels, side = filters, side // 2
    return total + 2 * side * side * channels * 512 + 2 * 512 * languages


def training_bytes(size: int, width: int) -> int:
    """Bytes that a training step moves for one clip, layer by layer; `width`: bytes of a number.

    Forward, each map (convolved, pooled) is written and read again; backward, so is its gradient, and the map is read
    once more.
    """
    maps, side = 0, size
    for filters in FILTERS:
        maps += side * side * filters + (side // 2) ** 2 * filters
        side //= 2
    return size * size + 5 * maps * width


def start(name: str, folder: Path, options: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), name, str(folder), json.dumps(options)]
    # JAX's contestants would each take three quarters of a GPU's memory at their start
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        sys.exit(f"a contestant ended early:\n{process.stderr.read() if process.stderr else ''}")
    values: dict[str, Any] = json.loads(line)
    return values


def speeds(folder: Path, clips: int, rounds: int, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Clips per second and per CPU second of each contestant, and what they say of themselves."""
    processes, facts = {}, {}
    for name in CONTESTANTS:  # one after another: they compile
        processes[name] = start(name, folder, options)
        facts[name] = answer(processes[name])
    times: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, process in processes.items():
            print("round", file=process.stdin, flush=True)
            times[name].append(answer(process))
    for process in processes.values():
        process.communicate()
    out: dict[str, Any] = {
        name: {
            f"clips_per_{unit}": round(clips / statistics.median(t[kind] for t in taken), 1)
            for kind, unit in (("wall", "second"), ("cpu", "cpu_second"))
        }
        for name, taken in times.items()
    }
    for kind in ("wall", "cpu"):
        ratios = [a[kind] / b[kind] for a, b in zip(times["plain"], times["cnn5"], strict=True)]
        out[f"ratio_{kind}"] = round(statistics.median(ratios), 2)
        out[f"ratios_{kind}"] = [round(ratio, 2) for ratio in ratios]
    return out, facts


def input_speeds(folder: Path, clips: int, size: int) -> dict[str, Any]:
    """Batches alone, consumed as fast as they come; the epoch before warms the page cache."""
    out: dict[str, Any] = {}
    quarter = clips * size * size / 4
    for name, memory_gb in (("memory", 4.0), ("streamed", 0.0)):
        params = train_params("phonetic", augmented=True, memory_gb=memory_gb)
        batches = batches_of(folder, params, pool_bytes=quarter)
        rates = []
        for epoch in range(4):
            cpu, wall = time.process_time(), time.monotonic()
            for _ in batches.epoch(epoch):
                pass
            rates.append((clips / (time.monotonic() - wall), clips / (time.process_time() - cpu)))
        second, cpu_second = (statistics.median(values) for values in zip(*rates[1:], strict=True))
        out[name] = {"clips_per_second": round(second), "clips_per_cpu_second": round(cpu_second)}
    out["pool_megabytes"] = round(quarter / 1e6, 1)
    return out


def loss_comparison(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for contestant in ("plain", "cnn5"):
        for seed in (1, 2):
            process = start(f"loss:{contestant}:{seed}", folder, options)
            out[f"{contestant}_{seed}"] = answer(process)
            process.communicate()
    for kind in ("training", "all_clips"):
        mean = {name: (out[f"{name}_1"][kind] + out[f"{name}_2"][kind]) / 2 for name in ("plain", "cnn5")}
        out[f"{kind}_difference"] = mean["cnn5"] - mean["plain"]
        out[f"{kind}_spread_of_chance"] = abs(out["plain_1"][kind] - out["plain_2"][kind])
    return out


def measure(
    clips: int = 512,
    rounds: int = 5,
    languages: int = 176,
    size: int = 192,
    steps: int = 80,
    input_clips: int = 4096,
    train: dict[str, Any] | None = None,
    matmul_seconds: float = 1.0,
) -> dict[str, object]:
    """All of it, as plain values. train : changes to params.yaml's train section; steps : of the loss comparison."""
    options: dict[str, Any] = {
        "train": train or {}, "outputs": languages, "steps": steps, "matmul_seconds": matmul_seconds,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        write_shards(folder / "train", clips, languages, size)
        write_shards(folder / "input", input_clips, 10, size)
        speed, facts = speeds(folder / "train", clips, rounds, options)
        loss = loss_comparison(folder / "train", options) if steps else {}
        inputs = input_speeds(folder / "input", input_clips, size)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "clips": clips, "rounds": rounds, "languages": languages, "size": size,
        "batch_size": train_params("cnn5", False, **options["train"]).batch_size,
        "contestants": facts, "speed": speed, "loss": loss, "input": inputs,
        "roofline": roofline(size, languages, speed, facts),
    }  # fmt: skip


def roofline(size: int, languages: int, speed: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What the device could do, from its measured rates, and the share that is reached."""
    flops = 3 * forward_flops(size, languages)
    moved = training_bytes(size, 4 if facts["cnn5"]["policy"] == "float32" else 2)
    matmul = facts["cnn5"].pop("matmul_flops_per_second")
    copy = facts["cnn5"].pop("copy_bytes_per_second")
    limit = 1 / max(flops / matmul, moved / copy)
    return {
        "flops_per_clip": flops, "bytes_per_clip": moved,
        "matmul_tflops": round(matmul / 1e12, 4), "copy_gigabytes_per_second": round(copy / 1e9, 2),
        "clips_per_second": round(limit), "bound_by": "arithmetic" if flops / matmul > moved / copy else "memory",
        "share": {name: round(speed[name]["clips_per_second"] / limit, 3) for name in ("cnn5", "device")},
    }  # fmt: skip


def section(result: dict[str, Any]) -> str:
    """Markdown for benchmarks/results.md."""
    speed, loss, roofline, inputs = result["speed"], result["loss"], result["roofline"], result["input"]
    names = {
        "plain": "article's network as written, `model.fit`",
        "cnn5": "`cnn5`, train stage",
        "device": "`cnn5`, images on the device",
        "phonetic": "`phonetic`, the default, with augmentation",
        "phonetic_plain": "`phonetic`, no augmentation",
    }
    lines = [
        "## Training", "",
        f"{result['clips']} clips of {result['size']}x{result['size']}, {result['languages']} languages, batches of "
        f"{result['batch_size']}, Keras on {result['contestants']['cnn5']['backend']}. Medians of {result['rounds']} "
        f"rounds in turn. `cnn5` trains {speed['ratio_wall']:.2f} times as many clips a second as plain Keras "
        f"({speed['ratio_cpu']:.2f} times by CPU seconds).", "",
        "| | precision | clips/s | clips per CPU s |", "|---|---|---|---|",
    ]  # fmt: skip
    for key, text in names.items():
        rate = speed[key]
        policy = result["contestants"][key]["policy"]
        lines.append(f"| {text} | {policy} | {rate['clips_per_second']:.0f} | {rate['clips_per_cpu_second']:.0f} |")
    lines += [
        "",
        f"The roofline, layer by layer: {roofline['flops_per_clip'] / 1e9:.2f} G operations a clip at "
        f"{roofline['matmul_tflops']:.2f} T/s (a large matrix product, same run) and "
        f"{roofline['bytes_per_clip'] / 1e6:.1f} MB at {roofline['copy_gigabytes_per_second']:.0f} GB/s (a copy): at "
        f"most {roofline['clips_per_second']:,} clips/s, bound by {roofline['bound_by']}. `cnn5` reaches "
        f"{roofline['share']['cnn5']:.0%} of it, with its images on the device {roofline['share']['device']:.0%}.",
    ]
    if loss:
        lines += [
            "",
            f"Same first weights, same batches, {loss['cnn5_1']['steps']} steps; two runs each with other dropout.",
            "", "| loss | plain | `cnn5` | difference of means | spread of plain's two |", "|---|---|---|---|---|",
        ]  # fmt: skip
        for kind, text in (("training", "training, last epoch"), ("all_clips", "all clips, no dropout")):
            values = [f"{loss[f'{name}_1'][kind]:.4f}, {loss[f'{name}_2'][kind]:.4f}" for name in ("plain", "cnn5")]
            difference, spread = loss[f"{kind}_difference"], loss[f"{kind}_spread_of_chance"]
            lines.append(f"| {text} | {values[0]} | {values[1]} | {difference:+.4f} | {spread:.4f} |")
    lines += ["", "| batches alone, one thread | clips/s | clips per CPU s |", "|---|---|---|"]
    texts = {
        "memory": "from memory",
        "streamed": f"streamed through a pool of {inputs['pool_megabytes']:g} MB",
    }
    for key, text in texts.items():
        lines.append(f"| {text} | {inputs[key]['clips_per_second']:,} | {inputs[key]['clips_per_cpu_second']:,} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=512, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--languages", type=int, default=176)
    parser.add_argument("--size", type=int, default=192, help="pixels a side")
    parser.add_argument("--steps", type=int, default=80, help="of the loss comparison; 0: leave it out")
    parser.add_argument("--input-clips", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, help="in place of params.yaml's")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of Markdown")
    given = parser.parse_args()
    train = {"batch_size": given.batch_size} if given.batch_size else {}
    result = measure(given.clips, given.rounds, given.languages, given.size, given.steps, given.input_clips, train)
    print(json.dumps(result) if given.json else section(result))


if __name__ == "__main__":
    main()
