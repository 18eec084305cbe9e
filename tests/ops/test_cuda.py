"""The operators on a CUDA device: the same results as on the CPU, bitwise the same on a repeat."""

from __future__ import annotations

import pytest
import torch
from pooling_truth import WINDOWS, Window, mixed
from torch import Tensor

from adapool_sr.ops import adapool2d, adaunpool2d

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def run(device: str, window: Window, dtype: torch.dtype) -> list[Tensor]:
    """Pool, unpool by the masks, and all gradients."""
    x = mixed(2, 3, 19, 22, dtype=dtype).to(device).requires_grad_()
    beta = torch.full((3, 1, 1), 0.3, dtype=dtype, device=device, requires_grad=True)
    y, masks = adapool2d(x, beta, *window, return_masks=True)
    u = adaunpool2d(y, masks, gain="area")
    seed = mixed(*u.shape, seed=1, dtype=dtype).to(device)
    grads = torch.autograd.grad(u, (x, beta), seed)
    return [t.detach() for t in (y, masks.edscw, masks.em, u, *grads)]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-11), (torch.float32, 2e-5), (torch.bfloat16, 3e-2)],
    ids=str,
)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_cuda_agrees_with_the_cpu_and_with_itself(
    window: Window, dtype: torch.dtype, tolerance: float
) -> None:
    first, again, expected = (run(d, window, dtype) for d in ("cuda", "cuda", "cpu"))
    for a, b, c in zip(first, again, expected, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a.cpu(), c, rtol=tolerance, atol=tolerance)


def test_tensors_on_two_devices_are_refused_by_name() -> None:
    x = mixed(1, 2, 4, 4).cuda()
    with pytest.raises(ValueError, match="beta must be on the device of x, cuda:0, got cpu"):
        adapool2d(x, torch.tensor(0.5).double())
