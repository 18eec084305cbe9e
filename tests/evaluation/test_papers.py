import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import adapool_sr.evaluation
from adapool_sr.evaluation.papers import pictures_of, published, standard_name

DOCUMENT: dict[str, Any] = json.loads(
    (Path(adapool_sr.evaluation.__file__).parent / "published.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("Set5", "Set5"),
        ("set-14", "Set14"),
        ("BSD100", "B100"),
        ("B100", "B100"),
        ("urban_100", "Urban100"),
        ("Manga109", "Manga109"),
        ("photos", None),
        ("Set55", None),
    ],
)
def test_a_set_is_known_by_the_names_it_goes_by(name: str, standard: str | None) -> None:
    assert standard_name(name) == standard


def test_rows_hold_the_sets_that_are_asked_for_smallest_network_first() -> None:
    rows = published(["Set5", "B100"], 2)
    assert {name for row in rows for name in row.scores} == {"Set5", "B100"}
    counts = [row.parameters or 0 for row in rows]
    assert counts == sorted(counts)
    names = [row.name for row in rows]
    assert {"SRCNN", "FSRCNN", "VDSR", "CARN", "IMDN", "EDSR-baseline"} <= set(names)
    json.dumps([row.as_dict() for row in rows])


def test_a_scale_or_set_without_figures_has_no_rows() -> None:
    assert published(["Set5"], 8) == []
    assert published([], 2) == []


def test_every_method_has_sources_with_addresses() -> None:
    for method in DOCUMENT["methods"]:
        assert method["sources"], method["name"]
        for key in method["sources"]:
            assert DOCUMENT["sources"][key]["url"].startswith("https://"), key
    used = {key for method in DOCUMENT["methods"] for key in method["sources"]}
    assert used == set(DOCUMENT["sources"])


def test_figures_are_of_known_sets_and_fall_with_the_scale() -> None:
    for method in DOCUMENT["methods"]:
        for name in DOCUMENT["sets"]:
            by_scale = [method["scores"].get(scale, {}).get(name) for scale in ("2", "3", "4")]
            kept = [figures for figures in by_scale if figures]
            assert kept == sorted(kept, reverse=True), (method["name"], name)
            assert all(20 < psnr < 41 and 0.6 < ssim < 1 for psnr, ssim in kept)
        sets = {name for scores in method["scores"].values() for name in scores}
        assert sets <= set(DOCUMENT["sets"])


def test_sets_have_their_sizes() -> None:
    assert [pictures_of(name) for name in ("Set5", "Set14", "Manga109")] == [5, 14, 109]


def test_they_are_read_without_torch() -> None:
    code = (
        "import sys; from adapool_sr.evaluation.papers import published; published(['Set5'], 2);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
