import math
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from adapool_sr.cli.main import main
from adapool_sr.evaluation import (
    Candidate,
    Degradation,
    Trial,
    evaluate,
    measure,
    picture_sets,
)
from adapool_sr.files.errors import MissingFileError, UsageError
from adapool_sr.imaging import enlarge, imresize, modcrop, psnr_y, ssim_y, to_uint8
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io import read_rgb8
from adapool_sr.models import AdaPoolSR, checkpoint


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


@pytest.mark.parametrize("self_ensemble", [False, True])
@pytest.mark.parametrize(("scale", "jpeg"), [(2, None), (3, 60), (1, 30)])
def test_what_is_measured_is_what_upscale_writes(
    photo_dir: Path, tmp_path: Path, scale: int, jpeg: int | None, self_ensemble: bool
) -> None:
    own = {1: 1, 2: 2, 3: 4}[scale]
    network = AdaPoolSR(scale=own, widths=(6, 8), blocks=(0, 1))
    torch.nn.init.normal_(network.tail.weight, std=0.05)
    model = tmp_path / "small.safetensors"
    checkpoint.save(model, network, name="small", license="MIT", training={})
    sources, results = tmp_path / "lr", tmp_path / "sr"
    sources.mkdir()
    originals = tmp_path / "hr"
    originals.mkdir()
    for name in ("photo_1.png", "photo_6.png"):  # even and odd sides
        path = Path(shutil.copy(photo_dir / name, originals))
        lr = modcrop(read_rgb8(path), scale)
        lr = imresize(lr, 1 / scale) if scale > 1 else lr
        image = Image.fromarray(lr.permute(1, 2, 0).contiguous().numpy())
        if jpeg is None:
            image.save(sources / path.name)
        else:
            image.save((sources / path.name).with_suffix(".jpg"), quality=jpeg)
    words = ["--model-path", str(model), "-s", str(scale), "-t", "32", "--precision", "bf16"]
    words += ["--self-ensemble"] if self_ensemble else []
    places = ["-i", str(sources), "-o", str(results), "-f", "png", "-q"]
    assert main(["upscale", *places, *words]) == 0
    table = evaluate(
        model,
        originals,
        scale,
        degradation=Degradation(jpeg),
        tile=32,
        precision="bf16",
        self_ensemble=self_ensemble,
    )
    assert len(table.scores) == 2
    for score in table.scores:
        hr = modcrop(read_rgb8(originals / score.image), scale)
        sr = read_rgb8(results / score.image)
        border = scale if scale > 1 else 0
        assert score.psnr == psnr_y(sr, hr, border)
        assert score.ssim == ssim_y(sr, hr, border)


def test_x3_of_an_x4_model_is_its_result_resized(photo_dir: Path) -> None:
    table = evaluate(Bicubic(4), photo_dir, scale=3, precision="fp32")
    score = table.scores[0]
    hr = modcrop(read_rgb8(photo_dir / score.image), 3)
    large = enlarge(imresize(hr, 1 / 3)[None].float() / 255, 4)[0].clamp(0, 1)
    sr = to_uint8(imresize(large, size=(hr.shape[1], hr.shape[2]), rounded=False))
    assert score.psnr == pytest.approx(psnr_y(sr, hr, 3), abs=1e-3)


def test_at_scale_1_the_baseline_is_the_input_itself(photo_dir: Path) -> None:
    table = evaluate(Bicubic(1), photo_dir, degradation=Degradation(30), precision="fp32")
    assert table.baseline == "input"
    for score in table.scores:
        assert score.psnr == pytest.approx(score.bicubic_psnr, abs=0.01)
        assert 20 < score.psnr < 45
    clean = evaluate(Bicubic(1), photo_dir, precision="fp32")
    assert math.isinf(clean.rows[0].bicubic_psnr)


def test_several_models_see_the_same_inputs(photo_dir: Path) -> None:
    sets = picture_sets(photo_dir)
    candidates = [
        Candidate(name, Upscaler(Bicubic(offset=offset), precision="fp32"))
        for name, offset in (("plain", 0.0), ("bright", 0.1))
    ]
    trials: list[Trial] = []
    table = measure(candidates, sets, on_trial=trials.append)
    assert [trial.image for trial in trials] == [f"photo_{k}.png" for k in range(1, 7)]
    assert [row.model for row in table.rows] == ["plain", "bright"]
    assert table.rows[0].psnr > table.rows[1].psnr + 5
    assert table.rows[0].bicubic_psnr == table.rows[1].bicubic_psnr
    alone = measure(candidates[1:], sets)
    assert alone.rows[0] == table.rows[1]


def test_models_of_two_scales_or_one_name_are_refused(photo_dir: Path) -> None:
    with pytest.raises(UsageError, match="-s: the models have the scales 2 and 3; say which"):
        evaluate([Bicubic(2), Bicubic(3)], photo_dir)
    with pytest.raises(UsageError, match="model 'Bicubic': is there twice"):
        evaluate([Bicubic(2), Bicubic(2)], photo_dir)


def folder_of(tmp_path: Path, name: str, count: int) -> Path:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for index in range(count):
        Image.linear_gradient("L").resize((20, 20)).save(folder / f"{index}.png")
    return folder


def test_known_sets_get_the_papers_rows(tmp_path: Path) -> None:
    table = evaluate(Bicubic(), folder_of(tmp_path, "Set5", 5), precision="fp32")
    assert {name for row in table.published for name in row.scores} == {"Set5"}
    assert "FSRCNN" in table.text()
    jpeg = evaluate(Bicubic(), tmp_path / "Set5", precision="fp32", degradation=Degradation(50))
    assert jpeg.published == []


def test_a_set_of_another_size_is_told_of(tmp_path: Path) -> None:
    table = evaluate(Bicubic(), folder_of(tmp_path, "Set14", 2), precision="fp32")
    assert table.published == []
    assert "Set14 has 2 pictures here, 14 in papers" in table.text()


def test_halved_originals_are_told_of(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Urban100/image_SRF_2", 1)
    table = evaluate(Bicubic(), {"Urban100": folder}, precision="fp32")
    assert "originals of half the size" in table.notes[0]
    assert not evaluate(Bicubic(), {"photos": folder}, precision="fp32").notes


@pytest.mark.parametrize(
    ("data", "seen"), [(["photos", "sets/set5"], True), (["set55"], False), ("Set5", True)]
)
def test_a_set_that_the_model_was_trained_on_is_told_of(
    tmp_path: Path, data: object, seen: bool
) -> None:
    network = AdaPoolSR(scale=2, widths=(3, 4), blocks=(0, 0))
    model = tmp_path / "small.safetensors"
    checkpoint.save(model, network, name="small-x2", license="MIT", training={"data": data})
    table = evaluate(model, folder_of(tmp_path, "Set5", 5), precision="fp32")
    assert any("small-x2 was trained on Set5" in note for note in table.notes) == seen


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
    with pytest.raises(UsageError, match=r"scale: must be whole and at least 1, got 1\.5"):
        evaluate(Bicubic(), photo_dir, scale=1.5)  # type: ignore[arg-type]


GOLDEN = {  # an implementation in NumPy that shares nothing with this one
    ("Set5", 2): (33.6741, 0.9303),
    ("Set5", 3): (30.4047, 0.8689),
    ("Set5", 4): (28.4302, 0.8111),
    ("Set14", 2): (30.3263, 0.8699),
    ("Set14", 3): (27.6336, 0.7759),
    ("Set14", 4): (26.0914, 0.7048),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), GOLDEN)
def test_bicubic_has_its_golden_figures(name: str, scale: int, data_root: Path) -> None:
    row = evaluate(Bicubic(scale), data_root / "eval" / name, precision="fp32").rows[0]
    psnr, ssim = GOLDEN[name, scale]
    assert row.bicubic_psnr == pytest.approx(psnr, abs=0.001)
    assert row.bicubic_ssim == pytest.approx(ssim, abs=0.0001)


def test_bicubic_of_set5_has_its_published_figures(data_root: Path) -> None:
    row = evaluate(Bicubic(), data_root / "eval" / "Set5", precision="fp32").rows[0]
    assert row.bicubic_psnr == pytest.approx(33.6741, abs=0.001)
    assert row.bicubic_ssim == pytest.approx(0.9303, abs=0.0001)
