import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from adapool_sr.evaluation import evaluate
from adapool_sr.files.errors import MissingFileError, UsageError
from adapool_sr.imaging import enlarge, imresize, modcrop, psnr_y, ssim_y
from adapool_sr.io import read_rgb8


class Bicubic(nn.Module):
    """Bicubic enlargement in the clothes of a network, a little brighter if asked."""

    size_multiple = 1
    receptive_radius = 3

    def __init__(self, scale: int = 2, offset: float = 0.0) -> None:
        super().__init__()
        self.scale = scale
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, x: Tensor) -> Tensor:
        return enlarge(x, self.scale) + self.offset


def test_every_picture_is_measured_against_bicubic(photo_dir: Path) -> None:
    seen = {}
    for path in sorted(photo_dir.iterdir()):
        hr = modcrop(read_rgb8(path), 3)
        bicubic = imresize(imresize(hr, 1 / 3), 3)
        seen[path.name] = (psnr_y(bicubic, hr, 3), ssim_y(bicubic, hr, 3))
    table = evaluate(Bicubic(3), photo_dir, precision="fp32")
    assert table.scale == 3
    assert {s.image: (s.bicubic_psnr, s.bicubic_ssim) for s in table.scores} == seen


def test_the_models_figures_are_of_its_own_output(photo_dir: Path) -> None:
    # The stand-in is bicubic without the rounding between the passes: near it, not equal.
    table = evaluate(Bicubic(), photo_dir, precision="fp32")
    for score in table.scores:
        assert score.psnr == pytest.approx(score.bicubic_psnr, abs=0.1)
        assert score.psnr != score.bicubic_psnr
        assert score.ssim == pytest.approx(score.bicubic_ssim, abs=0.005)
    brighter = evaluate(Bicubic(offset=0.1), photo_dir, precision="fp32")
    assert brighter.rows[0].psnr < 23
    assert brighter.rows[0].bicubic_psnr == table.rows[0].bicubic_psnr


def test_tiles_change_nothing(photo_dir: Path) -> None:
    whole = evaluate(Bicubic(), photo_dir, precision="fp32", tile=0)
    tiled = evaluate(Bicubic(), photo_dir, precision="fp32", tile=24)
    for a, b in zip(whole.scores, tiled.scores, strict=True):
        assert a.psnr == pytest.approx(b.psnr, abs=0.01)


def test_grey_pictures_are_measured(grey_dir: Path) -> None:
    table = evaluate(Bicubic(), {"grey": grey_dir}, precision="fp32")
    assert table.rows[0].images == 12
    hr = modcrop(read_rgb8(grey_dir / "grey_1.png"), 2)
    wanted = psnr_y(imresize(imresize(hr, 0.5), 2), hr, 2)
    first = next(s for s in table.scores if s.image == "grey_1.png")
    assert first.bicubic_psnr == pytest.approx(wanted, abs=1e-9)


def test_another_scale_than_the_models_can_be_measured(photo_dir: Path) -> None:
    table = evaluate(Bicubic(2), photo_dir, scale=4, precision="fp32")
    assert table.scale == 4
    assert table.rows[0].psnr == pytest.approx(table.rows[0].bicubic_psnr, abs=1)


def test_bad_pictures_are_named_and_the_others_measured(photo_dir: Path, tmp_path: Path) -> None:
    shutil.copy(photo_dir / "photo_1.png", tmp_path / "good.png")
    (tmp_path / "torn.png").write_bytes((photo_dir / "photo_2.png").read_bytes()[:500])
    Image.new("RGB", (15, 40)).save(tmp_path / "small.png")
    Image.new("RGB", (14, 40)).save(tmp_path / "smaller.png")
    table = evaluate(Bicubic(), tmp_path, precision="fp32")
    assert [score.image for score in table.scores] == ["good.png"]
    reasons = {Path(file).name: why for file, why in table.failed}
    assert set(reasons) == {"torn.png", "small.png", "smaller.png"}
    assert "too small to measure at x2: 15x40, 15x15 are needed" in reasons["small.png"]


def test_a_smallest_picture_is_measured(tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((16, 16)).save(tmp_path / "a.png")
    assert evaluate(Bicubic(), tmp_path, precision="fp32").rows[0].images == 1


def test_a_missing_folder_is_named_before_the_model_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        evaluate("no-such-model", tmp_path / "nowhere")


def test_a_scale_that_is_not_whole_is_refused(photo_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"scale: must be whole and at least 2, got 1\.5"):
        evaluate(Bicubic(), photo_dir, scale=1.5)  # type: ignore[arg-type]


def test_bicubic_of_set5_has_its_published_figures(data_root: Path) -> None:
    row = evaluate(Bicubic(), data_root / "eval" / "Set5", precision="fp32").rows[0]
    assert row.bicubic_psnr == pytest.approx(33.6741, abs=0.001)
    assert row.bicubic_ssim == pytest.approx(0.9303, abs=0.0001)
