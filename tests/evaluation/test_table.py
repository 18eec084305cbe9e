import json
import math

import pytest

from adapool_sr.evaluation import Score, Table

SCORES = [
    Score("A", "x.png", 30.0, 0.9, 28.0, 0.85),
    Score("A", "y.png", 34.0, 0.8, 31.0, 0.75),
    Score("B", "z.png", 20.5, 0.5, 21.0, 0.6),
]


def test_rows_are_the_means_of_their_sets() -> None:
    first, second = Table("m", 2, SCORES).rows
    assert (first.set, first.images, second.set, second.images) == ("A", 2, "B", 1)
    assert (first.psnr, first.bicubic_psnr) == (32.0, 29.5)
    assert first.ssim == pytest.approx(0.85)
    assert first.bicubic_ssim == pytest.approx(0.8)


def test_the_text_shows_means_gain_and_foot() -> None:
    lines = Table("tiny-x3", 3, SCORES, how="cpu, float32").text().splitlines()
    assert lines[0] == "PSNR in dB / SSIM at x3; gain in dB over bicubic"
    assert lines[2].split() == ["set", "images", "bicubic", "tiny-x3", "gain"]
    assert " ".join(lines[3].split()) == "A 2 29.500 / 0.8000 32.000 / 0.8500 +2.500"
    assert " ".join(lines[4].split()) == "B 1 21.000 / 0.6000 20.500 / 0.5000 -0.500"
    foot = "\n".join(lines[6:])
    for word in ("channel:", "border:", "3 pixels", "resize:", "MATLAB", "range:", "peak 255"):
        assert word in foot
    assert foot.endswith("cpu, float32")


def test_the_text_can_show_every_picture() -> None:
    text = Table("m", 2, SCORES).text(per_image=True)
    order = [text.index(word) for word in ("x.png", "y.png", "\nA ", "z.png", "\nB ")]
    assert order == sorted(order)
    assert "x.png" not in Table("m", 2, SCORES).text()


def test_equal_pictures_leave_json_valid() -> None:
    score = Score("A", "x.png", math.inf, 1.0, math.inf, 1.0)
    assert score.as_dict()["psnr"] is None
    json.dumps(Table("m", 2, [score]).rows[0].as_dict(), allow_nan=False)
    assert "inf / 1.0000" in Table("m", 2, [score]).text()
