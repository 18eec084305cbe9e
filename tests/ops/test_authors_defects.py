"""One regression test for each defect of the authors' code that applies to this family."""

from __future__ import annotations

import threading

import pooling_truth as truth
import pytest
import torch
from pooling_truth import mixed
from torch import Tensor
from torch.nn import functional as F

from adapool_sr.nn import AdaPool2d, AdaUnpool2d
from adapool_sr.ops import PoolMasks, adapool2d, adaunpool2d, edscwpool2d, empool2d


@pytest.fixture(autouse=True, params=truth.NAMESPACES)
def namespace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    truth.use_namespace(request.param, monkeypatch)


def test_every_image_and_channel_has_masks_of_its_own() -> None:
    x = mixed(3, 4, 8, 6)
    _, masks = adapool2d(x, 0.5, return_masks=True)
    assert masks.edscw.shape == x.shape
    for n in range(3):
        for c in range(4):
            _, alone = adapool2d(x[n : n + 1, c : c + 1], 0.5, return_masks=True)
            torch.testing.assert_close(masks.edscw[n, c], alone.edscw[0, 0])
            torch.testing.assert_close(masks.em[n, c], alone.em[0, 0])


def test_masks_of_one_call_survive_other_calls_layers_and_threads() -> None:
    pool = AdaPool2d(return_masks=True)
    inputs = [mixed(2, 3, 8, 6, seed=i, dtype=torch.float32) for i in range(4)]
    expected = [pool(x)[1].em.clone() for x in inputs]
    kept: dict[int, PoolMasks] = {}

    def work(index: int) -> None:
        for _ in range(5):
            kept[index] = pool(inputs[index])[1]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    AdaPool2d(return_masks=True)(inputs[0])
    assert all(torch.equal(kept[i].em, expected[i]) for i in range(4))


def test_masks_carry_gradient() -> None:
    x = mixed(1, 2, 4, 4).requires_grad_()
    _, masks = adapool2d(x, 0.5, return_masks=True)
    for mask in (masks.edscw, masks.em):
        (grad,) = torch.autograd.grad(mask.square().sum(), x, retain_graph=True)
        assert bool((grad != 0).any())


def test_values_above_the_range_of_exp_are_no_zero() -> None:
    x = torch.tensor([100.0, 90.0, 89.0, 95.0]).view(1, 1, 2, 2)
    assert float(empool2d(x)) == pytest.approx(99.966, abs=1e-3)
    assert float(adapool2d(x, 0.5)) == pytest.approx(96.74, abs=0.1)


def test_a_nan_is_not_hidden() -> None:
    x = mixed(1, 1, 4, 4)
    x[0, 0, 1, 1] = float("nan")
    for y in (adapool2d(x, 0.5), edscwpool2d(x), empool2d(x)):
        assert y.isnan().tolist() == [[[[True, False], [False, False]]]]


def test_windows_of_zeros_beside_others_give_zero_and_a_gradient() -> None:
    x = mixed(1, 1, 4, 4)
    x[..., :2, :2] = 0
    x.requires_grad_()
    y, masks = adapool2d(x, 0.5, return_masks=True)
    assert float(y[0, 0, 0, 0].detach()) == 0
    assert masks.edscw[0, 0, :2, :2].flatten().tolist() == pytest.approx([0.25] * 4)
    torch.autograd.backward(y.sum())
    assert x.grad is not None
    assert x.grad[0, 0, :2, :2].flatten().tolist() == pytest.approx([0.25] * 4)


def test_overlapping_and_cut_windows_of_unequal_sides_fill_the_right_cells() -> None:
    x = mixed(2, 3, 11, 7)
    window = ((3, 2), (2, 3), (1, 0), True)
    (yd, md), (ym, mm) = (truth.pool(x.numpy(), window, m) for m in ("edscw", "em"))
    y, masks = adapool2d(x, 0.5, *window, return_masks=True)
    torch.testing.assert_close(y, torch.from_numpy(0.5 * yd + 0.5 * ym))
    torch.testing.assert_close(masks.edscw, torch.from_numpy(md))
    torch.testing.assert_close(masks.em, torch.from_numpy(mm))
    assert y.shape == F.avg_pool2d(x, *window).shape


def test_a_learnt_beta_stays_between_zero_and_one_and_alive() -> None:
    pool = AdaPool2d()
    optimizer = torch.optim.SGD(pool.parameters(), lr=50.0)
    x = mixed(1, 2, 8, 8, dtype=torch.float32)
    for _ in range(20):
        optimizer.zero_grad()
        torch.autograd.backward(pool(x).sum())  # pulls β the same way for ever
        optimizer.step()
    assert pool.beta is not None
    beta = float(pool.beta.detach())
    assert 0 <= beta <= 1
    assert beta < 0.2 or beta > 0.8


def test_one_module_pools_every_size() -> None:
    pool, unpool = AdaPool2d(ceil_mode=True, return_masks=True), AdaUnpool2d()
    for size in ((1, 1), (1, 5), (8, 6), (7, 9)):
        y, masks = pool(mixed(1, 2, *size, dtype=torch.float32))
        assert unpool(y, masks).shape == (1, 2, *size)


def test_betas_of_a_module_do_not_start_dead() -> None:
    pool = AdaPool2d(beta=torch.full((8, 1, 1), 0.5))
    assert pool.beta is not None
    torch.autograd.backward(pool(mixed(1, 8, 4, 4, dtype=torch.float32)).square().sum())
    assert pool.logit is not None
    assert pool.logit.grad is not None
    assert bool((pool.logit.grad != 0).all())


def test_an_unbatched_input_comes_back_as_it_went() -> None:
    x = mixed(3, 4, 4)
    for function in (edscwpool2d, empool2d, lambda x: adapool2d(x, 0.5)):
        assert function(x).shape == (3, 2, 2)
        assert x.shape == (3, 4, 4)


def test_an_unpool_module_takes_the_masks_of_each_call() -> None:
    pool, unpool = AdaPool2d(return_masks=True), AdaUnpool2d(gain=1.0)
    results = []
    for seed in (1, 2):
        y, masks = pool(mixed(1, 1, 4, 4, seed=seed, dtype=torch.float32))
        results.append(unpool(torch.ones_like(y), masks))
    assert not torch.allclose(*results)


def test_a_single_mask_and_beta_do_their_part() -> None:
    x = mixed(1, 2, 4, 4)
    y, mask = empool2d(x, return_masks=True)
    nearest = y.repeat_interleave(2, 2).repeat_interleave(2, 3)
    u = adaunpool2d(y, mask, gain="area")
    torch.testing.assert_close(u, nearest * mask * 4)
    assert not torch.allclose(u, nearest)
    y, masks = adapool2d(x, 0.2, return_masks=True)
    other = adaunpool2d(y, masks._replace(beta=torch.full_like(masks.beta, 0.8)))
    assert not torch.allclose(adaunpool2d(y, masks), other)


def test_half_precision_stays_half_and_the_cpu_is_enough() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x = mixed(1, 2, 4, 4, dtype=dtype).requires_grad_()
        y, masks = adapool2d(x, 0.5, return_masks=True)
        tensors: list[Tensor] = [y, masks.edscw, masks.em, adaunpool2d(y, masks)]
        tensors.append(torch.autograd.grad(y.sum(), x)[0])
        assert all(t.dtype == dtype for t in tensors)
