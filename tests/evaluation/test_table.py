import csv
import json
import math

import pytest

from adapool_sr.evaluation import Score, Table, published

SCORES = [
    Score("A", "x.png", "m", 30.0, 0.9, 28.0, 0.85),
    Score("A", "y.png", "m", 34.0, 0.8, 31.0, 0.75),
    Score("B", "z.png", "m", 20.5, 0.5, 21.0, 0.6),
]
TWO = [
    Score("A", "x.png", "m", 30.0, 0.9, 28.0, 0.85),
    Score("A", "x.png", "n", 27.5, 0.7, 28.0, 0.85),
]


def test_rows_are_the_means_of_their_sets() -> None:
    first, second = Table(["m"], 2, SCORES).rows
    assert (first.set, first.images, second.set, second.images) == ("A", 2, "B", 1)
    assert (first.psnr, first.bicubic_psnr) == (32.0, 29.5)
    assert first.ssim == pytest.approx(0.85)
    assert first.bicubic_ssim == pytest.approx(0.8)


def test_the_text_shows_means_gain_and_foot() -> None:
    lines = Table(["m"], 3, SCORES, how="cpu, float32").text().splitlines()
    assert lines[0] == "PSNR in dB / SSIM at x3; gain in dB over bicubic"
    assert lines[2].split() == ["set", "images", "bicubic", "m", "gain"]
    assert " ".join(lines[3].split()) == "A 2 29.500 / 0.8000 32.000 / 0.8500 +2.500"
    assert " ".join(lines[4].split()) == "B 1 21.000 / 0.6000 20.500 / 0.5000 -0.500"
    foot = "\n".join(lines[6:])
    for word in ("channel:", "border:", "3 pixels", "resize:", "MATLAB", "range:", "peak 255"):
        assert word in foot
    assert foot.endswith("cpu, float32")


def test_every_model_has_its_column_and_gain() -> None:
    table = Table(["m", "n"], 2, TWO)
    lines = [line.split() for line in table.text(per_image=True).splitlines()]
    assert lines[2] == ["set", "images", "bicubic", "m", "gain", "n", "gain"]
    figures = "28.000 / 0.8500 30.000 / 0.9000 +2.000 27.500 / 0.7000 -0.500"
    assert " ".join(lines[3]) == f"x.png {figures}"
    assert " ".join(lines[4]) == f"A 1 {figures}"
    assert [(row.set, row.model, row.psnr) for row in table.rows] == [
        ("A", "m", 30.0),
        ("A", "n", 27.5),
    ]


def test_at_scale_1_the_baseline_is_the_input_and_nothing_is_cut_or_resized() -> None:
    table = Table(["m"], 1, SCORES, degraded="JPEG quality 30, 4:2:0")
    assert table.text().splitlines()[2].split() == ["set", "images", "input", "m", "gain"]
    assert (table.foot["border"], table.foot["resize"]) == ("0 pixels cut from every side", "none")
    assert table.foot["input"] == "JPEG quality 30, 4:2:0"
    assert table.markdown().startswith("| set | input | m |")


def test_the_text_can_show_every_picture() -> None:
    text = Table(["m"], 2, SCORES).text(per_image=True)
    order = [text.index(word) for word in ("x.png", "y.png", "\nA ", "z.png", "\nB ")]
    assert order == sorted(order)
    assert "x.png" not in Table(["m"], 2, SCORES).text()


def test_the_papers_rows_and_the_notes_stand_below() -> None:
    rows = published(["Set5"], 2)
    text = Table(["m"], 2, SCORES, published=rows, notes=["half the size"]).text()
    assert "published" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "FSRCNN 12,000 37.00 / 0.9558 91 images, General-100" in lines
    assert lines[-1] == "note: half the size"


def test_markdown_has_a_row_for_each_set() -> None:
    lines = Table(["m", "n"], 2, TWO).markdown().splitlines()
    assert lines == [
        "| set | bicubic | m | n |",
        "| --- | --- | --- | --- |",
        "| A (1) | 28.000 / 0.8500 | 30.000 / 0.9000 | 27.500 / 0.7000 |",
    ]


def test_csv_has_a_line_for_every_picture_and_model() -> None:
    rows = list(csv.DictReader(Table(["m", "n"], 2, TWO).csv().splitlines()))
    assert [(row["image"], row["model"], float(row["psnr_y"])) for row in rows] == [
        ("x.png", "m", 30.0),
        ("x.png", "n", 27.5),
    ]
    assert {row["bicubic_ssim_y"] for row in rows} == {"0.85"}


def test_equal_pictures_leave_json_valid() -> None:
    score = Score("A", "x.png", "m", math.inf, 1.0, math.inf, 1.0)
    assert score.as_dict()["psnr"] is None
    json.dumps(Table(["m"], 2, [score]).rows[0].as_dict(), allow_nan=False)
    assert "inf / 1.0000" in Table(["m"], 2, [score]).text()
