from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapool_sr.data.degrade import Degradation, _compressed, _filter_step
from adapool_sr.data.degrade_settings import PRESETS, SecondOrder, parse_degradation
from adapool_sr.data.images import Pair
from adapool_sr.data.kernels import gaussian
from adapool_sr.data.pairs import SampleRule, degraded_whole
from adapool_sr.imaging.resize import imresize

SAMPLE = Path(__file__).resolve().parents[2] / "datasets" / "samples" / "otters.png"
NOTHING: dict[str, Any] = {"chance": 0}
PLAIN: dict[str, Any] = {
    "kind": "second_order",
    "clean": 0,
    "blur": NOTHING,
    "resize": {"up": 0, "down": 0},
    "noise": NOTHING,
    "jpeg": NOTHING,
    "second": {
        "blur": NOTHING,
        "resize": {"up": 0, "down": 0},
        "noise": NOTHING,
        "jpeg": NOTHING,
    },
    "final": {"sinc": 0},
}


def settings(**changes: Any) -> SecondOrder:
    found = parse_degradation({**PLAIN, **changes})
    assert found is not None
    return found


def photo() -> np.ndarray:
    with Image.open(SAMPLE) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def pair_of(pixels: np.ndarray, scale: int) -> Pair:
    hr = torch.from_numpy(np.ascontiguousarray(pixels))
    return Pair(Path("otters.png"), imresize(hr, 1 / scale).numpy(), hr.numpy())


def generator(k: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=1, counter=[0, k, 1, 0]))


def degraded(found: SecondOrder, hr: np.ndarray, scale: int, k: int = 0) -> np.ndarray:
    degradation, random = Degradation(found, scale), generator(k)
    recipe = degradation.draw(random, hr.shape[1] // scale, hr.shape[2] // scale)
    return degradation.follow(recipe, hr, random)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_degraded_sample_shows_the_same_place(preset: str, scale: int) -> None:
    pair = pair_of(photo()[:, :192, :192], scale)
    made = Degradation(PRESETS[preset], scale)
    rule = SampleRule([pair], 24, 5, degradation=made, channel_shuffle=0.5)
    plain = SampleRule([pair], 24, 5, channel_shuffle=0.5)
    batch, wanted = rule.batch(0, 24), plain.batch(0, 24)
    assert torch.equal(batch["hr"], wanted["hr"])
    assert batch["lr"].dtype == torch.uint8
    assert batch["lr"].is_contiguous()
    # Blocks of 8x8 of the average over many samples: a shift or swapped colours would show.
    low, reference = (t["lr"].float().mean((2, 3)) for t in (batch, wanted))
    assert (low - reference).abs().mean() < 6


def test_a_degraded_sample_depends_on_seed_and_number_alone() -> None:
    pair = pair_of(photo()[:, :128, :160], 2)

    def rule(seed: int) -> SampleRule:
        return SampleRule([pair], 24, seed, degradation=Degradation(PRESETS["realesrgan"], 2))

    whole = rule(3).batch(0, 12)["lr"]
    parts = [rule(3).batch(first, 3)["lr"] for first in (9, 6, 3, 0)]
    assert torch.equal(torch.cat(parts[::-1]), whole)
    assert not torch.equal(rule(4).batch(0, 12)["lr"], whole)


def test_clean_samples_are_the_exact_bicubic_and_as_many_as_asked() -> None:
    pair = pair_of(photo()[:, :128, :160], 2)
    rule = SampleRule([pair], 16, 0, degradation=Degradation(settings(clean=0.25), 2))
    plain = SampleRule([pair], 16, 0).batch(0, 400)["lr"]
    same = [bool(torch.equal(a, b)) for a, b in zip(rule.batch(0, 400)["lr"], plain, strict=True)]
    clean = [rule.recipe(k).words == ["exact bicubic"] for k in range(400)]
    assert sum(clean) / 400 == pytest.approx(0.25, abs=0.06)
    assert all(equal for equal, is_clean in zip(same, clean, strict=True) if is_clean)


def test_nothing_asked_for_at_scale_1_changes_nothing() -> None:
    pixels = photo()[:, :40, :56]
    assert np.array_equal(degraded(settings(), pixels, 1), pixels)
    assert Degradation(settings(), 1).draw(generator(0), 40, 56).steps == ()


def test_jpeg_alone_at_scale_1_is_the_encoders(tmp_path: Path) -> None:
    pixels = photo()[:, :64, :64]
    jpeg = {"jpeg": {"chance": 1, "quality": 30, "full_colour": 1}}
    found = degraded(settings(**jpeg), pixels, 1)
    assert 2 < difference(found, pixels) < 12
    work = np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0), dtype=np.float32)
    ours = _compressed(work, 30, True, 0, 0)[..., ::-1].transpose(2, 0, 1)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(tmp_path / "p.jpg", quality=30, subsampling=0)
    with Image.open(tmp_path / "p.jpg") as image:
        theirs = np.asarray(image).transpose(2, 0, 1)
    assert difference(ours, theirs) < 0.5


def test_the_grid_of_jpeg_blocks_lies_anywhere() -> None:
    """Steps across a line of an 8x8 grid are larger than others; which line must vary."""
    pixels = np.broadcast_to(np.linspace(0, 255, 256)[None, None, :], (3, 64, 256))
    pixels = np.ascontiguousarray(pixels + generator(9).normal(0, 20, (1, 64, 256)))
    pixels = pixels.clip(0, 255).astype(np.uint8)
    found = settings(jpeg={"chance": 1, "quality": 5})
    phases = set()
    for k in range(40):
        steps = np.abs(np.diff(degraded(found, pixels, 1, k)[1].astype(float), axis=1)).mean(0)
        phases.add(int(np.argmax([steps[phase::8].mean() for phase in range(8)])))
    assert phases == set(range(8))


def test_colour_planes_stay_in_their_order() -> None:
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[0], pixels[2] = 200, 60
    jpeg = {"chance": 1, "quality": 95}
    found = degraded(settings(jpeg=jpeg, blur={"chance": 1}), pixels, 2)
    assert np.abs(found.reshape(3, -1).mean(1) - [200, 0, 60]).max() < 3


@pytest.mark.parametrize("grey", [0, 1])
def test_noise_has_the_strength_and_colour_that_were_asked_for(grey: int) -> None:
    pixels = np.full((3, 128, 128), 128, np.uint8)
    noise = {"chance": 1, "gaussian": 8, "poisson_share": 0, "grey": grey}
    found = degraded(settings(noise=noise), pixels, 1).astype(float)
    assert found.std() == pytest.approx(8, rel=0.05)
    assert [plane.std() for plane in found] == pytest.approx([8, 8, 8], rel=0.05)
    assert bool(np.ptp(found, axis=0).max() == 0) == bool(grey)


def test_poisson_noise_grows_with_the_root_of_brightness() -> None:
    noise = {"chance": 1, "poisson": 1, "poisson_share": 1, "grey": 0}
    spreads = []
    for level in (50, 200):
        pixels = np.full((3, 128, 128), level, np.uint8)
        spreads.append(degraded(settings(noise=noise), pixels, 1).astype(float).std())
    assert spreads[1] / spreads[0] == pytest.approx(2, rel=0.06)
    assert spreads[1] == pytest.approx(np.sqrt(200 * 255 / 256), rel=0.06)


def test_resizes_do_not_move_the_picture() -> None:
    y, x = np.mgrid[:96, :96]
    blob = np.exp(-((y - 40.0) ** 2 + (x - 57.0) ** 2) / 50)
    pixels = np.broadcast_to((255 * blob).astype(np.uint8), (3, 96, 96))
    moves = settings(resize={"up": 0.5, "down": 0.5, "factors": [0.4, 2]})
    for k in range(30):
        found = degraded(moves, pixels, 2, k)[1].astype(float)
        rows, columns = np.mgrid[:48, :48]
        centre = [(found * place).sum() / found.sum() for place in (rows, columns)]
        assert centre == pytest.approx([(40 - 0.5) / 2, (57 - 0.5) / 2], abs=0.15)


def test_a_round_gaussian_blurs_as_its_kernel_does() -> None:
    work = np.ascontiguousarray(photo().transpose(1, 2, 0)[:60, :80], dtype=np.float32)
    kernel = gaussian(6, 2.0)
    fast, slow = (
        _filter_step("blur", kernel, separable).run(work, generator(0))
        for separable in (True, False)
    )
    assert np.allclose(fast, slow, atol=0.01)


def test_recipes_say_every_step() -> None:
    found = settings(
        blur={"chance": 1, "sinc": 0, "anisotropic": 0, "plateau": 0, "generalized": 0, "sigma": 1},
        noise={"chance": 1, "gaussian": 3, "poisson_share": 0, "grey": 1},
        second={**PLAIN["second"], "jpeg": {"chance": 1, "quality": 63, "full_colour": 0}},
        final={"sinc": 0, "jpeg_last": 1},
    )
    recipe = Degradation(found, 2).draw(generator(0), 32, 32)
    assert [w for w in recipe.words if "size" not in w] == ["blur 1.0", "noise 3 grey",
                                                            "JPEG 63 4:2:0"]  # fmt: skip


@pytest.mark.parametrize(
    ("bicubic", "least", "most"), [(0.0, 20, 60), (0.9, 100, 119), (1.0, 120, 120)]
)
def test_the_last_shrink_is_bicubic_as_often_as_asked(
    bicubic: float, least: int, most: int
) -> None:
    degradation = Degradation(settings(final={"sinc": 0, "bicubic": bicubic}), 4)
    words = [degradation.draw(np.random.default_rng(k), 24, 24).words for k in range(120)]
    assert least <= words.count(["bicubic to size"]) <= most


def test_whole_photos_are_degraded_alike_every_time() -> None:
    pair = pair_of(photo()[:, :64, :96], 2)
    degradation = Degradation(settings(jpeg={"chance": 1, "quality": 30}), 2)
    first, second = degraded_whole(pair, degradation), degraded_whole(pair, degradation)
    assert np.array_equal(first.lr, second.lr)
    assert first.lr.shape == pair.lr.shape
    assert not np.array_equal(first.lr, pair.lr)
    assert first.hr is pair.hr


def test_tiny_crops_can_be_degraded() -> None:
    pair = pair_of(photo()[:, :8, :10], 2)
    rule = SampleRule([pair], 4, 0, degradation=Degradation(PRESETS["realesrgan"], 2))
    assert rule.batch(0, 50)["lr"].shape == (50, 3, 4, 4)
