import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapool_sr.imaging import enlarge, imresize, modcrop, resize

GOLDEN = Path(__file__).parent / "golden"


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def row(*values: float, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.tensor([values], dtype=dtype)


def dense(length: int, out: int) -> torch.Tensor:
    """The resize of one axis as a full matrix, edges replicated, by the definition."""
    scale = out / length
    stretch = min(scale, 1.0)
    matrix = torch.zeros(out, length, dtype=torch.float64)
    for k in range(out):
        centre = (k + 0.5) / scale - 0.5
        for j in range(-4 * length, 5 * length):
            d = abs(centre - j) * stretch
            if d < 2:
                near = 1.5 * d**3 - 2.5 * d**2 + 1
                weight = near if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
                matrix[k, min(max(j, 0), length - 1)] += weight
    return matrix / matrix.sum(1, keepdim=True)


def test_the_docstrings_examples_run() -> None:
    result = doctest.testmod(resize)
    assert result.attempted > 0
    assert result.failed == 0


def test_halving_by_hand() -> None:
    # Keys' kernel at ¼, ¾, 1¼, 1¾: 222/256, 58/256, −18/256, −6/256; halved, since it is twice
    # as wide. Four pixels a b c d with replicated edges: left = ½ (222 (a+b) + 58 (a+c)
    # − 18 (a+d) − 6 (a+d)) / 256.
    values = row(10.0, 50.0, 200.0, 90.0, dtype=torch.float64)
    left = 0.5 * (222 * 60 + 58 * 210 - 18 * 100 - 6 * 100) / 256
    assert imresize(values, size=(1, 2), rounded=False)[0, 0].item() == pytest.approx(
        left, abs=1e-12
    )
    assert imresize(values.to(torch.uint8), size=(1, 2))[0, 0].item() == round(left)


def test_doubling_by_hand() -> None:
    # At distance ¼ to the left of a pixel: Keys' weights of the neighbours −2 … 1.
    a, b, c = 10.0, 50.0, 200.0
    wanted = (-6 * a + 58 * a + 222 * b - 18 * c) / 256
    got = imresize(row(a, b, c, dtype=torch.float64), 2, rounded=False)[0, 2].item()
    assert got == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("pair", "mean"), [((0, 1), 1), ((1, 2), 2), ((2, 3), 3), ((254, 255), 255)]
)
def test_halves_are_rounded_up(pair: tuple[int, int], mean: int) -> None:
    assert imresize(row(*pair), size=(1, 1)).item() == mean


def test_each_pass_is_rounded() -> None:
    corner = torch.tensor([[0, 0], [1, 0]], dtype=torch.uint8)
    assert imresize(corner, 0.5).item() == 1  # ½ → 1 in rows, ½ → 1 in columns; once: ¼ → 0
    assert imresize(corner, 0.5, rounded=False).item() == 0.25


def test_rows_come_first_when_the_scales_are_equal() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (40, 40), dtype=torch.uint8)
    rows_first = imresize(imresize(image, size=(20, 40)), size=(20, 20))
    columns_first = imresize(imresize(image, size=(40, 20)), size=(20, 20))
    assert not torch.equal(rows_first, columns_first)
    assert torch.equal(imresize(image, 0.5), rows_first)


def test_the_axis_of_the_smaller_scale_comes_first() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (40, 40), dtype=torch.uint8)
    columns_first = imresize(imresize(image, size=(40, 10)), size=(20, 10))
    assert not torch.equal(columns_first, imresize(imresize(image, size=(20, 40)), size=(20, 10)))
    assert torch.equal(imresize(image, size=(20, 10)), columns_first)


def test_edges_are_replicated_or_mirrored() -> None:
    values = row(0.0, 100.0, 100.0, 0.0, 0.0, 0.0, 0.0, 0.0, dtype=torch.float64)
    # Weights of the first output: ½ of 222 222 58 −18 −6 on pixels 0 … 4 and 58 −18 −6 beyond.
    replicate = 0.5 * (222 * 100 + 58 * 100) / 256
    symmetric = 0.5 * (222 * 100 + 58 * 100 - 18 * 100 - 6 * 100) / 256
    assert imresize(values, size=(1, 4), rounded=False)[0, 0].item() == pytest.approx(replicate)
    mirrored = imresize(values, size=(1, 4), rounded=False, edges="symmetric")
    assert mirrored[0, 0].item() == pytest.approx(symmetric)


@pytest.mark.parametrize("name", ["colosseum", "otters"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_no_value_differs_from_exact_rational_arithmetic(name: str, scale: int) -> None:
    lr = imresize(modcrop(pixels(GOLDEN / f"{name}.png"), scale), 1 / scale)
    assert torch.equal(lr, pixels(GOLDEN / f"{name}_x{scale}.png"))
    assert torch.equal(imresize(lr, scale), pixels(GOLDEN / f"{name}_x{scale}_up.png"))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_no_value_differs_from_the_published_low_resolution(
    data_root: Path, name: str, scale: int
) -> None:
    photos = sorted((data_root / "eval" / name).glob("*.png"))
    assert len(photos) == {"Set5": 5, "Set14": 14}[name]
    for photo in photos:
        lr = imresize(modcrop(pixels(photo), scale), 1 / scale)
        published = pixels(data_root / "eval" / f"{name}_LR" / f"X{scale}" / photo.name)
        assert lr.shape == published.shape
        assert torch.equal(lr, published), f"{photo.name}: {(lr != published).sum()} wrong values"


@pytest.mark.parametrize(
    ("shape", "size"),
    [((70, 1100), (33, 520)), ((21, 9), (63, 27)), ((50, 7), (34, 19)), ((1, 1), (4, 3))],
)
def test_any_size_equals_the_full_matrices(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    image = torch.rand(*shape, dtype=torch.float64)
    wanted = dense(shape[0], size[0]) @ image @ dense(shape[1], size[1]).T
    got = imresize(image, size=size, rounded=False)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_layout_and_leading_axes_do_not_matter() -> None:
    torch.manual_seed(2)
    image = torch.randint(0, 256, (2, 3, 24, 30), dtype=torch.uint8)
    wanted = torch.stack([imresize(plane, 0.5) for plane in image.flatten(0, 1)])
    for like in (image, image.to(memory_format=torch.channels_last), image.mT.contiguous().mT):
        got = imresize(like, 0.5)
        assert got.is_contiguous()
        assert torch.equal(got.flatten(0, 1), wanted)


def test_bytes_are_clamped_and_floats_are_not() -> None:
    edge = [0] * 6 + [255] * 6
    assert imresize(row(*edge), 2).max().item() == 255
    free = imresize(row(*edge), 2, rounded=False)
    assert free.dtype == torch.float64
    assert free.max().item() > 258
    floats = imresize(row(*edge, dtype=torch.float32) / 255, 2, rounded=False)
    assert floats.dtype == torch.float32
    assert floats.max().item() > 1.01


@pytest.mark.parametrize(
    ("length", "scale", "wanted"), [(10, 1.1, 11), (7, 0.5, 4), (9, 1 / 3, 3), (1, 0.1, 1)]
)
def test_a_scale_gives_the_next_whole_size(length: int, scale: int, wanted: int) -> None:
    assert imresize(torch.zeros(length, 1, dtype=torch.uint8), scale).shape[0] == wanted


@pytest.mark.parametrize(
    ("image", "options", "error", "words"),
    [
        (torch.zeros(3, dtype=torch.uint8), {"scale": 2}, ValueError, r"image must be .* \(3,\)"),
        (torch.zeros(0, 3, dtype=torch.uint8), {"scale": 2}, ValueError, "not empty"),
        (torch.zeros(2, 2, dtype=torch.int32), {"scale": 2}, TypeError, "uint8 or .*int32"),
        (torch.zeros(2, 2), {"scale": 2}, ValueError, "use rounded=False"),
        (torch.zeros(2, 2, dtype=torch.uint8), {}, ValueError, "exactly one of scale and size"),
        (torch.zeros(2, 2, dtype=torch.uint8), {"scale": 0}, ValueError, "scale must be .*got 0"),
        (torch.zeros(2, 2, dtype=torch.uint8), {"size": (0, 2)}, ValueError, "at least"),
        (
            torch.zeros(2, 2, dtype=torch.uint8),
            {"scale": 2, "edges": "zero"},
            ValueError,
            "edges must be 'replicate' or 'symmetric', got 'zero'",
        ),
    ],
)
def test_what_cannot_be_resized_is_refused(
    image: torch.Tensor, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        imresize(image, **options)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(2, 3, 9, 7), (1, 1, 1, 1), (1, 4, 2, 30)])
def test_enlarge_equals_imresize_without_rounding(scale: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    x = torch.rand(*shape)
    wanted = imresize(x, scale, rounded=False)
    torch.testing.assert_close(enlarge(x, scale), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_enlarge_is_differentiable(seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: enlarge(t, 3), (x,))


def test_enlarge_keeps_dtype_and_layout() -> None:
    x = torch.rand(1, 3, 8, 6)
    assert enlarge(x.bfloat16(), 2).dtype == torch.bfloat16
    turned = enlarge(x.to(memory_format=torch.channels_last), 2)
    assert turned.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(turned, enlarge(x, 2), rtol=0, atol=1e-6)


def test_enlarge_stays_exact_under_autocast() -> None:
    x = torch.rand(1, 3, 8, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = enlarge(x, 2)
    torch.testing.assert_close(inside, imresize(x, 2, rounded=False), rtol=0, atol=1e-6)


def test_enlarge_compiles_whole() -> None:
    compiled = torch.compile(lambda t: enlarge(t, 2), fullgraph=True, backend="eager")
    x = torch.rand(1, 3, 5, 4)
    assert torch.equal(compiled(x), enlarge(x, 2))


@pytest.mark.parametrize(
    ("x", "scale", "error", "words"),
    [
        (torch.zeros(3, 4, 4), 2, ValueError, r"4 dimensions .* \(3, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 2, TypeError, "float type, got torch.uint8"),
        (torch.zeros(1, 3, 4, 4), 0, ValueError, "positive integer, got 0"),
        (torch.zeros(1, 3, 4, 4), 1.5, ValueError, "positive integer, got 1.5"),
    ],
)
def test_what_cannot_be_enlarged_is_refused(
    x: torch.Tensor, scale: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        enlarge(x, scale)


def test_enlarge_exports_for_any_size() -> None:
    class Layer(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return enlarge(x, 2)

    side = torch.export.Dim.AUTO
    program = torch.export.export(
        Layer(), (torch.rand(1, 3, 6, 5),), dynamic_shapes={"x": {2: side, 3: side}}
    )
    x = torch.rand(1, 3, 9, 14)
    assert torch.equal(program.module()(x), enlarge(x, 2))
