"""Small files and helpers for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "datasets" / "samples"

# Left, top, width, height of crops that hold detail; the last one is odd both ways.
CROPS = [
    (230, 180, 128, 96),
    (60, 150, 128, 96),
    (300, 40, 112, 104),
    (20, 250, 96, 128),
    (380, 200, 120, 96),
    (140, 20, 101, 97),
]


@pytest.fixture(autouse=True)
def restore_torch_rng() -> Iterator[None]:
    """Give torch's random state back, so that no test depends on the ones before it."""
    if "torch" not in sys.modules:  # a test that needs no torch does not pay for it
        yield
        return
    import torch

    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.fixture(scope="session")
def photo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six small RGB photos (PNG), about 128x96. Read only: tests share it."""
    folder = tmp_path_factory.mktemp("photos")
    photos = [Image.open(SAMPLES / name) for name in ("colosseum.png", "otters.png")]
    for index, (left, top, width, height) in enumerate(CROPS):
        crop = photos[index % 2].crop((left, top, left + width, top + height))
        crop.save(folder / f"photo_{index + 1}.png")
    return folder


@pytest.fixture(scope="session")
def grey_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a dozen small grey pictures (PNG, mode L). Read only: tests share it."""
    folder = tmp_path_factory.mktemp("grey")
    photo = Image.open(SAMPLES / "otters.png").convert("L")
    for index in range(12):
        left, top, width, height = 36 * index, 20 * index, 64 - index, 48 + index
        photo.crop((left, top, left + width, top + height)).save(folder / f"grey_{index + 1}.png")
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that ADAPOOL_DATA names; the test is skipped where it is not set."""
    value = os.environ.get("ADAPOOL_DATA", "")
    if not value:
        pytest.skip("needs ADAPOOL_DATA, the folder of the evaluation sets (datasets/README.md)")
    root = Path(value)
    if not root.is_dir():
        pytest.fail(f"ADAPOOL_DATA is {value!r}, which is no folder")
    return root


RunCli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """``run_cli(*words, cwd=None, timeout=120) -> CompletedProcess``: the real command, as text."""

    def run(
        *words: str | Path, cwd: Path | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "adapool_sr", *map(str, words)],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
