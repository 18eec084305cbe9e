"""What is written of the operators runs, and they need nothing but torch."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from adapool_sr import ops

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
FOREIGN = ("torchvision", "timm")


@pytest.mark.parametrize("name", ["ops.pools", "ops.unpools", "nn.pooling", "nn.replace"])
def test_every_example_in_a_docstring_runs(name: str) -> None:
    module = import_module(f"adapool_sr.{name}")
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.attempted > 0
    assert result.failed == 0


def test_every_function_has_an_example_and_names_its_shapes() -> None:
    for name in ops.__all__:
        if name[0].islower():
            text = getattr(ops, name).__doc__
            assert f">>> from adapool_sr.ops import {name}" in text or f", {name}\n" in text, name
            assert "<" not in text.replace(">>>", ""), name
            space = {"1": "(N, C, L)", "2": "(N, C, H, W)", "3": "(N, C, D, H, W)"}[name[-2]]
            assert space in text


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if not b.startswith(tuple(f"import {n}" for n in FOREIGN))]
)
def test_every_example_of_the_page_runs(block: str) -> None:
    exec(compile(block, "operators.md", "exec"), {})


def test_the_page_shows_foreign_packages_and_every_function() -> None:
    assert all(f"import {name}" in PAGE for name in FOREIGN)
    for name in ("adapool", "adaunpool", "edscwpool", "empool", "idwpool"):
        assert f"`{name}2d" in PAGE


def test_the_operators_need_nothing_but_torch() -> None:
    code = (
        "import sys\n"
        "from adapool_sr.ops import adapool2d, compat\n"
        "import torch\n"
        "adapool2d(torch.ones(1, 1, 4, 4), 0.5)\n"
        "others = {'cv2', 'PIL', 'safetensors', 'lightning', 'adapool_sr.models'}\n"
        "assert not others & set(sys.modules), others & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
