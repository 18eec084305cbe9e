"""The enlarged input plus the shuffled residual: native against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from adapool_sr.imaging.resize import enlarge, enlarging_taps
from adapool_sr.ops import build
from adapool_sr.ops.enlarge import enlarge_add

SIZES = [(1, 1), (3, 5), (17, 64), (20, 131), (6, 142), (5, 212)]  # columns go by 64
FORMATS = [torch.contiguous_format, torch.channels_last]


def taps(scale: int) -> torch.Tensor:
    return enlarging_taps(scale).float()


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", FORMATS)
def test_it_equals_bicubic_plus_pixel_shuffle(
    scale: int, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    for height, width in SIZES:
        lr = torch.rand(2, 3, height, width).to(memory_format=layout)
        residual = torch.randn(2, 3 * scale**2, height, width).to(dtype).to(memory_format=layout)
        result = enlarge_add(lr, residual, taps(scale))
        expected = enlarge(lr, scale) + F.pixel_shuffle(residual, scale).float()
        assert result.shape == expected.shape
        assert result.is_contiguous()
        assert torch.allclose(result, expected, atol=2e-5)


def test_other_channels_and_strided_inputs_are_taken() -> None:
    torch.manual_seed(0)
    lr, residual = torch.rand(1, 2, 9, 22)[..., ::2], torch.randn(1, 8, 11, 9).transpose(2, 3)
    expected = enlarge(lr, 2) + F.pixel_shuffle(residual, 2)
    assert torch.allclose(enlarge_add(lr, residual, taps(2)), expected, atol=2e-5)


def test_the_result_does_not_depend_on_the_threads() -> None:
    torch.manual_seed(0)
    lr, residual = torch.rand(1, 3, 70, 90), torch.randn(1, 12, 70, 90).bfloat16()
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(enlarge_add(lr, residual, taps(2)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_nan_stays_where_it_belongs() -> None:
    residual = torch.zeros(1, 12, 4, 70)
    residual[0, 5, 2, 66] = float("nan")
    result = enlarge_add(torch.rand(1, 3, 4, 70), residual, taps(2))
    assert result.isnan().nonzero().tolist() == [[0, 1, 4, 133]]


@pytest.mark.skipif(build.load().kernel != "native", reason="no native kernels here")
def test_the_native_kernel_is_what_runs() -> None:
    keys = torch._C._dispatch_dump("adapool::enlarge_add")
    assert "CPU: registered" in keys


@pytest.mark.parametrize("namespace", ["adapool", "adapool_reference"])
def test_the_operator_passes_torchs_own_check(namespace: str) -> None:
    operator = getattr(torch.ops, namespace).enlarge_add.default
    sample = (torch.rand(1, 3, 5, 7), torch.randn(1, 12, 5, 7), taps(2))
    torch.library.opcheck(operator, sample, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("lr", "residual", "filters", "error"),
    [
        (torch.rand(1, 3, 4, 4).double(), torch.rand(1, 12, 4, 4), taps(2), TypeError),
        (torch.rand(1, 3, 4, 4), torch.ones(1, 12, 4, 4, dtype=torch.int32), taps(2), TypeError),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 12, 4, 5), taps(2), ValueError),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 27, 4, 4), taps(2), ValueError),
        (torch.rand(3, 4, 4), torch.rand(12, 4, 4), taps(2), ValueError),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 12, 4, 4), taps(2)[:, :4], ValueError),
    ],
)
def test_what_does_not_fit_is_refused(
    lr: torch.Tensor, residual: torch.Tensor, filters: torch.Tensor, error: type[Exception]
) -> None:
    with pytest.raises(error, match="must be"):
        enlarge_add(lr, residual, filters)
