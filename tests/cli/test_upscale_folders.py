from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from adapool_sr.models.checkpoint import save
from adapool_sr.models.sr import AdaPoolSR

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights."""
    path = tmp_path_factory.mktemp("model") / "small-x2.safetensors"
    torch.manual_seed(0)
    net = AdaPoolSR(widths=(4, 4), blocks=(0, 1))
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    save(path, net, name="small-x2", license="MIT", training={})
    return path


def make_pictures(root: Path, photo_dir: Path, count: int, side: int = 48) -> Path:
    """``count`` small pictures, three deep, of three formats."""
    with Image.open(photo_dir / "photo_1.png") as image:
        for index in range(count):
            name = f"{'a/b/'[: 2 * (index % 3)]}{index}.{('png', 'jpg', 'webp')[index % 3]}"
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize((side + index, side)).save(path)
    return root


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_at_any_of_fifty_moments_is_resumed_to_the_last_byte(
    model: Path, photo_dir: Path, tmp_path: Path
) -> None:
    source = make_pictures(tmp_path / "in", photo_dir, 24)
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "kill_and_resume.py"),
            str(model),
            str(source),
            str(tmp_path / "outs"),
            "50",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 40  # the last few may come when the run has ended
