import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adapool_sr.evaluation.inputs import Degradation, make_input
from adapool_sr.files.errors import UsageError
from adapool_sr.imaging import imresize, to_uint8


@pytest.fixture
def hr() -> Tensor:
    ramp = torch.linspace(0, 255, 48 * 60).reshape(1, 48, 60)
    noise = torch.rand(3, 48, 60, generator=torch.Generator().manual_seed(0)) * 60
    return (ramp + noise).clamp(0, 255).to(torch.uint8)


def test_clean_inputs_are_matlabs_bicubic(hr: Tensor) -> None:
    picture = make_input(hr, 3)
    assert torch.equal(to_uint8(picture.pixels), imresize(hr, 1 / 3))


def test_at_scale_1_the_input_is_the_original(hr: Tensor) -> None:
    assert torch.equal(to_uint8(make_input(hr, 1).pixels), hr)


def test_jpeg_is_pillows_of_that_quality(hr: Tensor) -> None:
    lr = imresize(hr, 0.5)
    stream = io.BytesIO()
    Image.fromarray(lr.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=30)
    with Image.open(stream) as image:
        wanted = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(to_uint8(make_input(hr, 2, Degradation(jpeg=30)).pixels), wanted)


def test_grey_stays_grey_in_jpeg(hr: Tensor) -> None:
    assert make_input(hr[:1], 2, Degradation(jpeg=50)).pixels.shape == (1, 24, 30)


def test_noise_has_its_sigma_and_depends_on_the_name_alone() -> None:
    hr = torch.full((3, 128, 128), 128, dtype=torch.uint8)
    noisy, same, other = (
        to_uint8(make_input(hr, 1, Degradation(noise=10), name).pixels) for name in "aab"
    )
    assert torch.equal(noisy, same)
    assert not torch.equal(noisy, other)
    assert float((noisy.double() - 128).std()) == pytest.approx(10, abs=0.3)
    assert float(noisy.double().mean()) == pytest.approx(128, abs=0.2)


def test_words_say_what_happens_in_its_order() -> None:
    assert Degradation().words == ""
    assert Degradation(75, 5).words == (
        "Gaussian noise of sigma 5 of 255, then JPEG quality 75, 4:2:0"
    )


@pytest.mark.parametrize(
    ("jpeg", "noise", "words"),
    [(0, 0, "jpeg: must be 1 to 100, got 0"), (None, -1, "noise: must be 0 to 255, got -1")],
)
def test_what_cannot_be_is_refused(jpeg: int | None, noise: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Degradation(jpeg, noise)
