"""How fast a command starts: what it imports, and seconds beyond those that torch itself takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

UNUSED = ("cv2", "lightning", "gradio", "kornia", "tensorboard", "jsonargparse", "torchmetrics")
WATCH = f"""
import sys
from adapool_sr.cli.main import main
status = main(sys.argv[1:])
print(*({set(UNUSED)!r} & set(sys.modules)))
sys.exit(status)
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of a command that enlarges a picture of 8x8 pixels."""
    Image.new("RGB", (8, 8), (10, 200, 90)).save(tmp_path / "in.png")
    return ["upscale", "-i", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "-q",
            "--overwrite"]  # fmt: skip


def processor_seconds(*command: str) -> float:
    """Of a process with one thread: the clock would measure what else the machine does."""
    before = os.times()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], env=env, check=True, capture_output=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def test_upscale_imports_nothing_that_it_does_not_use(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.slow
def test_a_tiny_picture_takes_little_more_than_importing_torch(words: list[str]) -> None:
    processor_seconds("-m", "adapool_sr", *words)  # builds the kernels, fills the page cache
    bare, upscale = [], []
    for _ in range(5):
        bare.append(processor_seconds("-c", "import torch"))
        upscale.append(processor_seconds("-m", "adapool_sr", *words))
    # Where the cores are shared with other work, everything takes longer, torch's import too.
    slower = max(1.0, min(bare) / 1.2)
    assert min(upscale) - min(bare) <= 0.6 * slower
