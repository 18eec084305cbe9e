import io
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor

from adapool_sr.evaluation import Montage, Score, Trial
from adapool_sr.imaging import imresize


def trial(name: str, gains: Sequence[float], scale: int = 2, side: int = 60) -> Trial:
    """A picture of windows side by side in which the model errs less than bicubic, as asked."""
    width = side * len(gains) + 2 * (scale if scale > 1 else 0)
    height = side + 2 * (scale if scale > 1 else 0)
    hr = torch.full((3, height, width), 100, dtype=torch.uint8)
    bicubic, result = hr + 20, hr.clone()
    for index, gain in enumerate(gains):
        left = index * side + (scale if scale > 1 else 0)
        result[:, :, left : left + side] += round(20 / 10 ** (gain / 20))
    lr = imresize(hr, 1 / scale) if scale > 1 else bicubic
    score = Score("A", name, "model", 30, 0.9, 28, 0.8)
    return Trial("A", name, hr, lr, bicubic, (result,), (score,))


def test_the_best_and_the_worst_are_chosen_over_all_pictures() -> None:
    montage = Montage(2)
    montage.add(trial("one.png", [1, 6, 0]))
    montage.add(trial("two.png", [9, -3, 2, -6]))
    best, worst = montage.chosen()
    assert [crop.gain for crop in best] == pytest.approx([9, 6], abs=0.5)
    assert [crop.gain for crop in worst] == pytest.approx([-6, -3], abs=0.5)
    assert best[0].where == "A/two.png, x 2, y 2"
    assert worst[0].where == "A/two.png, x 182, y 2"
    labels = [label for label, _ in best[1].panels]
    assert [label.split()[0] for label in labels] == ["input", "bicubic", "model", "original"]


@pytest.mark.parametrize("scale", [2, 3, 4, 7, 8])
def test_panels_are_of_one_size_at_every_scale(scale: int) -> None:
    hr = torch.randint(0, 256, (3, 168, 168), generator=torch.Generator().manual_seed(0))
    hr = hr.to(torch.uint8)
    lr = imresize(hr, 1 / scale)
    up = imresize(lr, scale)
    montage = Montage(1)
    score = Score("A", "a.png", "model", 30, 0.9, 28, 0.8)
    montage.add(Trial("A", "a.png", hr, lr, up, (up,), (score,)))
    (best,), (worst,) = montage.chosen()
    assert best.where != worst.where
    assert len({panel.shape for _, panel in best.panels}) == 1
    shown = dict(best.panels)["input"]
    assert torch.equal(shown[:, ::scale, ::scale].repeat_interleave(scale, 1), shown[:, :, ::scale])


def test_one_picture_does_not_fill_the_sheet_where_there_are_others() -> None:
    montage = Montage(4)
    montage.add(trial("one.png", [9, 9, 9, 9, 9, 9, 9, 9]))
    montage.add(trial("two.png", [1, 1, 1, 1, 1]))
    best, _ = montage.chosen()
    assert sum("one.png" in crop.where for crop in best) == 2


def test_the_sheet_is_a_png_with_a_row_for_each_crop() -> None:
    montage = Montage(1)
    montage.add(trial("one.png", [1, 6, 0]))
    with Image.open(io.BytesIO(montage.png())) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (4 * 186 + 6, 2 * 230 + 6)


def test_at_scale_1_the_input_is_shown_once() -> None:
    montage = Montage(1)
    montage.add(trial("one.png", [1, 6, 0], scale=1))
    best, _ = montage.chosen()
    assert [label.split()[0] for label, _ in best[0].panels] == ["input", "model", "original"]


@pytest.mark.parametrize("side", [20, 60])
def test_without_a_crop_the_sheet_says_so(side: int) -> None:
    flat = torch.full((3, side + 4, side + 4), 9, dtype=torch.uint8)
    score = Score("A", "a.png", "model", 30, 0.9, 28, 0.8)
    montage = Montage(2)
    montage.add(Trial("A", "a.png", flat, imresize(flat, 0.5), flat, (flat,), (score,)))
    assert montage.chosen() == ([], [])
    assert montage.png().startswith(b"\x89PNG")


def test_grey_pictures_are_shown() -> None:
    def grey(image: Tensor) -> Tensor:
        return image[:1]

    colour = trial("one.png", [1, 6])
    montage = Montage(1)
    montage.add(
        Trial(
            "A",
            "one.png",
            grey(colour.hr),
            grey(colour.lr),
            grey(colour.bicubic),
            (grey(colour.results[0]),),
            colour.scores,
        )
    )
    assert {panel.shape[0] for _, panel in montage.chosen()[0][0].panels} == {3}
