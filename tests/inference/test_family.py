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
def loaded() -> list[str]:
    return []


@pytest.fixture
def loader(loaded: list[str]) -> Callable[[str, int], Callable[[], OtherModel]]:
    def make(name: str, scale: int) -> Callable[[], OtherModel]:
        def load() -> OtherModel:
            loaded.append(f"{name} {scale}")
            spec = ModelSpec(name, "Nearest", scale, "MIT", None, 0, "")  # type: ignore[arg-type]
            return OtherModel(Nearest(scale), spec)

        return load

    return make


@pytest.fixture
def family(loader: Callable[[str, int], Callable[[], OtherModel]]) -> Family:
    models = {scale: loader("near", scale) for scale in (4, 2, 3)}
    return Family(models, size=Size(max_side=120), tile=0)


@pytest.mark.parametrize(
    ("side", "scale"), [(120, 2), (200, 2), (60, 2), (59, 3), (40, 3), (39, 4), (30, 4), (7, 4)]
)
def test_the_smallest_model_that_reaches_the_size_is_taken(
    side: int, scale: int, family: Family
) -> None:
    upscaler = family.choose(side, side // 2, "png")
    assert upscaler.model_scale == scale
    assert upscaler.upscale_tensor(torch.rand(1, side, side // 2)).shape[1] == 120


def test_a_model_is_loaded_once_and_only_when_needed(family: Family, loaded: list[str]) -> None:
    assert loaded == []
    for side in (50, 55, 60, 58):
        family.choose(side, side, "png")
    assert loaded == ["near 3", "near 2"]
    assert family.smallest is family.choose(60, 60, "jpeg")


def test_jpeg_files_have_a_model_of_their_own_where_there_is_one(
    loader: Callable[[str, int], Callable[[], OtherModel]], loaded: list[str]
) -> None:
    models, photo = {2: loader("near", 2)}, {2: loader("photo", 2), 4: loader("photo", 4)}
    family = Family(models, photo, scale=3)
    assert family.size is None
    names = [getattr(family.choose(8, 8, form).spec, "name", "") for form in ("png", "jpeg", "mpo")]
    assert names == ["near", "photo", "photo"]
    assert loaded == ["near 2", "photo 4"]
    assert family.choose(8, 8, "jpeg").scale == 3
