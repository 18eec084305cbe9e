from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.inference.backends import OtherModel
from adapool_sr.inference.family import Family
from adapool_sr.inference.sizes import Size
from adapool_sr.models.registry import ModelSpec


class Nearest(nn.Module):
    size_multiple, receptive_radius = 1, 0

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.scale)


@pytest.fixture
def loaded() -> list[int]:
    return []


@pytest.fixture
def family(loaded: list[int], tmp_path: object) -> Family:
    def loader(scale: int) -> Callable[[], OtherModel]:
        def load() -> OtherModel:
            loaded.append(scale)
            spec = ModelSpec("near", "Nearest", scale, "MIT", None, 0, "")  # type: ignore[arg-type]
            return OtherModel(Nearest(scale), spec)

        return load

    models = {scale: loader(scale) for scale in (4, 2, 3)}
    return Family(models, Size(max_side=120), tile=0)


@pytest.mark.parametrize(
    ("side", "scale"), [(120, 2), (200, 2), (60, 2), (59, 3), (40, 3), (39, 4), (30, 4), (7, 4)]
)
def test_the_smallest_model_that_reaches_the_size_is_taken(
    side: int, scale: int, family: Family
) -> None:
    upscaler = family.for_size(side, side // 2)
    assert upscaler.model_scale == scale
    assert upscaler.upscale_tensor(torch.rand(1, side, side // 2)).shape[1] == 120


def test_a_model_is_loaded_once_and_only_when_needed(family: Family, loaded: list[int]) -> None:
    assert loaded == []
    for side in (50, 55, 60, 58):
        family.for_size(side, side)
    assert loaded == [3, 2]
    assert family.smallest is family.for_size(60, 60)
