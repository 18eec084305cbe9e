"""What the shipped weights can do, and that the pooled branch does it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapool_sr.evaluation import Degradation, evaluate
from adapool_sr.evaluation.inputs import make_input
from adapool_sr.imaging.metrics import modcrop, psnr_y, to_uint8
from adapool_sr.imaging.resize import imresize
from adapool_sr.io import list_images, read_rgb8
from adapool_sr.models import AdaPoolSR, LoadedModel, available, find, load

SAMPLES = Path(__file__).resolve().parents[2] / "datasets" / "samples"


#: What the cards say: Y-PSNR on Set5 in float32 (of networks that keep the size, on Set5 saved as
#: JPEG of quality 30), and the most parameters that the family may have.
SHIPPED = {
    "base-x2": (37.571, 1_000_000),
    "base-x4": (31.432, 1_000_000),
    "tiny-clean": (35.861, 150_000),
    "nano-x2": (37.248, 30_000),
    "tiny-photo-x2": (37.121, 150_000),
    "tiny-photo-x4": (30.997, 150_000),
    "tiny-x2": (37.448, 150_000),
    "tiny-x4": (31.248, 150_000),
}

#: What tiny-photo gains over tiny on Set14 made small and saved as JPEG, at least.
GAINS = {30: 0.6, 50: 0.5, 75: 0.3, 95: -0.3}


@pytest.fixture(scope="module", params=sorted(SHIPPED))
def shipped(request: pytest.FixtureRequest) -> LoadedModel:
    return load(find(request.param))


@pytest.fixture(scope="module")
def tiny() -> AdaPoolSR:
    return load(find("tiny-x2")).network


def test_every_shipped_model_is_held_to_its_card() -> None:
    assert {spec.name for spec in available()} == set(SHIPPED)


def degradation_for(network: AdaPoolSR) -> Degradation:
    """What an input needs that there be something to do."""
    return Degradation(jpeg=30) if network.scale == 1 else Degradation()


def mean_psnr(network: AdaPoolSR, folder: Path) -> float:
    """Mean Y-PSNR of a folder of HR pictures, float32."""
    return _mean(network, folder, lambda lr: enlarged(network, lr))


def bicubic_psnr(network: AdaPoolSR, folder: Path) -> float:
    """Bicubic's; of a network that keeps the size, the input's."""
    scale = network.scale
    if scale == 1:
        return _mean(network, folder, to_uint8)
    return _mean(network, folder, lambda lr: imresize(to_uint8(lr), scale))


def _mean(network: AdaPoolSR, folder: Path, method: Callable[[Tensor], Tensor]) -> float:
    scores = []
    for path in list_images(folder):
        hr = modcrop(read_rgb8(path), network.scale)
        lr = make_input(hr, network.scale, degradation_for(network), path.name).pixels
        border = network.scale if network.scale > 1 else 0
        scores.append(psnr_y(method(lr), hr, border))
    return sum(scores) / len(scores)


@torch.inference_mode()
def enlarged(network: AdaPoolSR, lr: Tensor) -> Tensor:
    return to_uint8(network(lr[None])[0])


def repeated(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """Every value over its whole window, in AdaUnpool's place."""
    height, width = output.shape[-2:]
    return F.interpolate(inputs[0], scale_factor=2)[..., :height, :width]


def without_masks(network: AdaPoolSR, folder: Path) -> float:
    """The same score with repetition in AdaUnpool's place."""
    hooks = [unpool.register_forward_hook(repeated) for unpool in network.unpools]
    try:
        return mean_psnr(network, folder)
    finally:
        for hook in hooks:
            hook.remove()


def test_photos_never_seen_are_better_than_bicubic(shipped: LoadedModel) -> None:
    network = shipped.network
    assert mean_psnr(network, SAMPLES) >= bicubic_psnr(network, SAMPLES) + 0.8


def test_set5_is_as_the_card_says(shipped: LoadedModel, data_root: Path) -> None:
    figure, _ = SHIPPED[shipped.spec.name]
    found = mean_psnr(shipped.network, data_root / "eval" / "Set5")
    assert found == pytest.approx(figure, abs=0.003)
    card = shipped.spec.path.with_suffix(".md").read_text()
    assert f"**{figure:.2f}**" in card


def test_the_masks_carry_more_than_a_decibel_of_set5(tiny: AdaPoolSR, data_root: Path) -> None:
    folder = data_root / "eval" / "Set5"
    assert mean_psnr(tiny, folder) >= without_masks(tiny, folder) + 1


def test_the_masks_help_on_the_samples(tiny: AdaPoolSR) -> None:
    assert mean_psnr(tiny, SAMPLES) >= without_masks(tiny, SAMPLES) + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("quality", GAINS)
@pytest.mark.parametrize("scale", [spec.scale for spec in available() if "-photo-" in spec.name])
def test_the_photo_model_gains_on_jpeg_files(data_root: Path, scale: int, quality: int) -> None:
    sets = {"Set14": data_root / "eval" / "Set14"}
    degradation = Degradation(jpeg=quality)
    names = [f"tiny-x{scale}", f"tiny-photo-x{scale}"]
    rows = evaluate(names, sets, scale, degradation=degradation, precision="fp32").rows
    usual, photo = (row.psnr for row in rows)
    assert photo >= usual + GAINS[quality]


def test_the_cleaner_leaves_good_jpeg_files_alone(data_root: Path) -> None:
    network = load(find("tiny-clean")).network
    gains = []
    for path in list_images(data_root / "eval" / "Set5"):
        if path.stem == "woman":  # was a JPEG file itself, whose blocks it takes away
            continue
        hr = read_rgb8(path)
        saved = make_input(hr, 1, Degradation(jpeg=95)).pixels
        gains.append(psnr_y(enlarged(network, saved), hr, 0) - psnr_y(to_uint8(saved), hr, 0))
    assert len(gains) == 4
    assert sum(gains) / 4 >= -0.1


def test_budgets_are_kept(shipped: LoadedModel) -> None:
    _, most = SHIPPED[shipped.spec.name]
    assert shipped.spec.parameters <= most
