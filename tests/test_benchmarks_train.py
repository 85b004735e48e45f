"""The training benchmark at a tiny size: it runs, and says what it promises; its figures are not judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import train
from benchmarks.train_contestants import CONTESTANTS

ROOT = Path(__file__).resolve().parent.parent


def test_flops_are_those_of_the_articles_network() -> None:
    # a layer's weights are used once for each of its output pixels
    weights = [
        (9 * a * b, (192 >> i) ** 2) for i, (a, b) in enumerate([(1, 16), (16, 32), (32, 64), (64, 128), (128, 256)])
    ]
    dense = 6 * 6 * 256 * 512 + 512 * 176
    assert train.forward_flops(192, 176) == 2 * (sum(w * pixels for w, pixels in weights) + dense)


@pytest.mark.parametrize("steps", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_tiny_run(steps: int) -> None:
    command = [sys.executable, "benchmarks/train.py", "--json", "--clips", "24", "--rounds", "1", "--languages", "3"]
    command += ["--size", "96", "--steps", f"{steps}", "--input-clips", "128", "--batch-size", "8"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["speed"]) >= {*CONTESTANTS, "ratio_wall", "ratio_cpu"}
    assert all(result["speed"][name]["clips_per_second"] > 0 for name in CONTESTANTS)
    assert result["contestants"]["plain"]["policy"] == "float32"
    if steps:
        assert result["loss"]["plain_1"]["steps"] == result["loss"]["cnn5_1"]["steps"]
    assert set(result["input"]) == {"memory", "streamed", "pool_megabytes"}
    assert 0 < result["roofline"]["share"]["cnn5"] < 2
    text = train.section(result)
    assert text.startswith("## Training\n")
    assert "batches alone" in text
