from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adapool_sr.data.images import Pair
from adapool_sr.data.pairs import SampleRule, TrainingBatches


def ramp(height: int, width: int, scale: int = 2, tag: int = 0) -> Pair:
    """A pair whose pixels say where they are: (row, column, tag), HR and LR alike."""
    rows, columns = np.mgrid[:height, :width]
    lr = np.stack([rows, columns, np.full_like(rows, tag)]).astype(np.uint8)
    hr: npt.NDArray[np.uint8] = lr.repeat(scale, axis=1).repeat(scale, axis=2)
    return Pair(Path(f"{tag}.png"), lr, hr)


def rule(seed: int = 1, **options: object) -> SampleRule:
    pairs = [ramp(20, 30, tag=0), ramp(12, 9, tag=1), ramp(8, 8, tag=2)]
    return SampleRule(pairs, patch=8, seed=seed, **options)  # type: ignore[arg-type]


def test_a_sample_depends_on_seed_and_number_alone() -> None:
    first, again = rule(), rule()
    wanted = [first.choose(k) for k in range(50)]
    assert [again.choose(k) for k in reversed(range(50))] == wanted[::-1]
    assert [rule(seed=2).choose(k) for k in range(50)] != wanted


def test_the_rule_never_changes() -> None:
    # A resumed run must go on with the samples it would have had: these are fixed for ever.
    chosen = [rule().choose(k) for k in (0, 1, 5, 7, 10**12)]
    assert [(c.photo, c.top, c.left, c.turn) for c in chosen] == [
        (0, 9, 17, 2),
        (0, 9, 8, 5),
        (0, 6, 12, 1),
        (1, 3, 1, 2),
        (0, 12, 17, 6),
    ]


def test_batches_are_slices_of_one_sequence() -> None:
    whole = rule().batch(0, 12)
    parts = [rule().batch(start, 4) for start in (0, 4, 8)]
    for key in ("lr", "hr"):
        assert torch.equal(torch.cat([part[key] for part in parts]), whole[key])


def test_processes_share_the_sequence() -> None:
    whole = TrainingBatches(rule(), 8)
    halves = [TrainingBatches(rule(), 4, rank, 2) for rank in (0, 1)]
    for index in (0, 1, 7):
        wanted = whole[index]["hr"]
        assert torch.equal(torch.cat([half[index]["hr"] for half in halves]), wanted)


def test_low_and_high_resolution_show_the_same_place() -> None:
    batch = rule().batch(0, 64)
    assert batch["lr"].shape == (64, 3, 8, 8)
    assert batch["hr"].shape == (64, 3, 16, 16)
    for tensor in batch.values():
        assert tensor.dtype == torch.uint8
        assert tensor.is_contiguous()
    # ramp's HR repeats its LR, whatever way both are turned.
    assert torch.equal(batch["hr"][..., ::2, ::2], batch["lr"])
    assert torch.equal(batch["hr"][..., 1::2, 1::2], batch["lr"])


def test_all_eight_turns_come_and_none_without_augmentation() -> None:
    lr = rule().batch(0, 400)["lr"].int()
    down, right = lr[:, :, 1, 0] - lr[:, :, 0, 0], lr[:, :, 0, 1] - lr[:, :, 0, 0]
    seen = Counter((*map(int, d[:2]), *map(int, r[:2])) for d, r in zip(down, right, strict=True))
    assert len(seen) == 8
    assert min(seen.values()) > 20
    plain = rule(augment=False).batch(0, 50)["lr"].int()
    assert bool((plain[:, 0, 1, :] - plain[:, 0, 0, :] == 1).all())
    assert bool((plain[:, 1, :, 1] - plain[:, 1, :, 0] == 1).all())


def test_channels_are_shuffled_alike_in_both_resolutions() -> None:
    shuffled, plain = rule(channel_shuffle=0.5), rule()
    orders = Counter(shuffled.choose(k).order for k in range(600))
    assert len(orders) == 6
    assert 0.5 < orders[0, 1, 2] / 600 < 0.66  # half of them, and a sixth of the others
    assert min(orders.values()) > 25
    assert {plain.choose(k).order for k in range(50)} == {(0, 1, 2)}
    ours, theirs = shuffled.batch(0, 64), plain.batch(0, 64)
    for k in range(64):
        order = list(shuffled.choose(k).order)
        for key in ("lr", "hr"):
            assert torch.equal(ours[key][k], theirs[key][k][order])


def test_photos_come_in_proportion_to_their_area() -> None:
    tags = Counter(rule().choose(k).photo for k in range(4000))
    total = 600 + 108 + 64
    for tag, area in enumerate((600, 108, 64)):
        assert tags[tag] / 4000 == pytest.approx(area / total, abs=0.025)


def test_weights_multiply_the_area() -> None:
    tags = Counter(rule(weights=[0.5, 1.0, 10.0]).choose(k).photo for k in range(4000))
    total = 300 + 108 + 640
    for tag, share in enumerate((300, 108, 640)):
        assert tags[tag] / 4000 == pytest.approx(share / total, abs=0.03)


def test_every_place_of_a_photo_is_reached() -> None:
    only = SampleRule([ramp(10, 9)], patch=8, seed=0)
    seen = {(choice.top, choice.left) for choice in map(only.choose, range(200))}
    assert seen == {(top, left) for top in range(3) for left in range(2)}
