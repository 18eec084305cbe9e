import itertools
import re

import pytest
import torch
from pooling_truth import cells, output_size
from torch.nn import functional as F

from adapool_sr.ops import geometry as geo


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_output_size_is_that_of_avg_pool2d(ceil_mode: bool) -> None:
    for n, k, s, p in itertools.product(range(1, 12), range(1, 5), range(1, 5), range(3)):
        if 2 * p > k:
            continue
        x = torch.empty(1, 1, n, n, device="meta")
        try:
            expected = F.avg_pool2d(x, k, s, p, ceil_mode).shape[2:]
        except RuntimeError:  # too small
            with pytest.raises(ValueError, match="larger than the padded input"):
                geo.make_geometry(k, s, p, ceil_mode, (n, n))
            continue
        assert geo.output_size(geo.make_geometry(k, s, p, ceil_mode, (n, n))) == expected
        assert output_size((n, n), ((k, k), (s, s), (p, p), ceil_mode)) == expected


def test_with_ceil_mode_and_stride_up_to_kernel_no_position_stays_uncovered() -> None:
    for n, k, s, p in itertools.product(range(5, 12), range(1, 5), range(1, 4), range(2)):
        if 2 * p > k or s > k:
            continue
        window = ((k, k), (s, s), (p, p), True)
        covered = {pixel for _, members in cells((n, n), window) for _, pixel in members}
        assert len(covered) == n * n


def test_windows_count_and_cover_agree_with_counting() -> None:
    for n, k, s, p in itertools.product((5, 6, 7), range(1, 5), range(1, 4), range(2)):
        if 2 * p > k:
            continue
        for ceil_mode in (False, True):
            window = ((k, k), (s, s), (p, p), ceil_mode)
            windows = geo.Windows(*window, (n, n + 1), torch.zeros(()))
            cover = torch.zeros(n, n + 1)
            count = torch.zeros(windows.out)
            for cell, members in cells((n, n + 1), window):
                count[cell] = len(members)
                for _, pixel in members:
                    cover[pixel] += 1
            assert torch.equal(torch.as_tensor(windows.count).expand(windows.out).float(), count)
            found = torch.as_tensor(windows.cover).expand(n, n + 1).float()
            # Tiling windows leave rows uncovered at the edge; nothing is divided there.
            assert torch.equal(found, cover.clamp(min=1))


def test_take_then_put_adds_every_position_once_for_each_window() -> None:
    x = torch.randn(2, 3, 7, 6)
    for window in [((3, 2), (2, 1), (1, 1), True), ((2, 2), (2, 2), (0, 0), False)]:
        windows = geo.Windows(*window, (7, 6), x)
        cover = torch.zeros(7, 6)
        for _, members in cells((7, 6), window):
            for _, pixel in members:
                cover[pixel] += 1
        torch.testing.assert_close(windows.put(windows.take(x)), x * cover)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0, None, 0, False, (4, 4)), ValueError, "kernel_size must be at least 1, got 0"),
        ((2, 0, 0, False, (4, 4)), ValueError, "stride must be at least 1, got 0"),
        ((2, (1, -1), 0, False, (4, 4)), ValueError, "stride must be at least 1, got (1, -1)"),
        ((2, None, -1, False, (4, 4)), ValueError, "padding must be at least 0, got -1"),
        ((2, None, 2, False, (4, 4)), ValueError, "padding must be at most half of kernel_size"),
        ((3, None, (1, 2), False, (4, 4)), ValueError, "padding must be at most half"),
        (((2, 2, 2), None, 0, False, (4, 4)), ValueError, "kernel_size must be one int or 2 ints"),
        ((2, (2,), 0, False, (4, 4)), ValueError, "stride must be one int or 2 ints, got 1"),
        ((2.0, None, 0, False, (4, 4)), TypeError, "kernel_size must be an int or 2 ints, got 2.0"),
        ((2, "2", 0, False, (4, 4)), TypeError, "stride must be an int or 2 ints, got '2'"),
        ((2, None, (0, 0.5), False, (4, 4)), TypeError, "padding must hold ints, got (0, 0.5)"),
        ((True, None, 0, False, (4, 4)), TypeError, "kernel_size must be an int"),
        ((2, None, 0, 1, (4, 4)), TypeError, "ceil_mode must be a bool, got 1"),
        ((5, None, 0, False, (4, 9)), ValueError, "kernel_size 5 is larger than the padded input"),
        ((2, None, 1, False, (0, 4)), ValueError, "larger than the padded input: size (0, 4)"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused_by_name(
    arguments: tuple[object, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        geo.make_geometry(*arguments)  # type: ignore[arg-type]


def test_the_format_of_a_result_is_the_nearest_dense_one() -> None:
    x = torch.zeros(2, 4, 6, 6)
    last = x.to(memory_format=torch.channels_last)
    assert not geo.is_channels_last(x)
    assert not geo.is_channels_last(x[..., ::2])
    assert not geo.is_channels_last(x[:, :1].to(memory_format=torch.channels_last))
    assert geo.is_channels_last(last)
    assert geo.is_channels_last(last[:, :2])  # half the channels of a skip connection
    assert geo.new_map(last, (3, 3)).is_contiguous(memory_format=torch.channels_last)
    assert geo.in_format_of(last, x).is_contiguous(memory_format=torch.channels_last)
