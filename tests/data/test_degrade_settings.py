import re
from pathlib import Path

import pytest

from adapool_sr.data.degrade_settings import PRESETS, SecondOrder, parse_degradation
from adapool_sr.files.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("given", ["bicubic", None, {"kind": "bicubic"}])
def test_bicubic_is_no_pipeline(given: object) -> None:
    assert parse_degradation(given) is None  # type: ignore[arg-type]


def test_what_is_not_said_is_the_presets() -> None:
    assert parse_degradation("second_order") == PRESETS["photo"] == SecondOrder()
    strong = parse_degradation({"kind": "second_order", "preset": "realesrgan"})
    assert strong == PRESETS["realesrgan"]


def test_single_values_are_changed_at_any_depth() -> None:
    found = parse_degradation(
        {
            "kind": "second_order",
            "clean": 0,
            "jpeg": {"quality": 40},
            "second": {"blur": {"sigma": [0.5, 2], "radius": 4}},
        }
    )
    assert found is not None
    assert (found.clean, found.jpeg.quality) == (0.0, (40.0, 40.0))
    assert (found.second.blur.sigma, found.second.blur.radius) == ((0.5, 2.0), 4)
    assert found.second.noise == SecondOrder().second.noise
    assert found.blur == SecondOrder().blur


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("second-order", r"data\.degradation\.kind: is 'second-order'; did you mean second_order"),
        ({"kind": "bicubic", "blur": {}}, r"data\.degradation\.blur: means nothing to bicubic"),
        ({"preset": "foto"}, r"preset: is 'foto'; did you mean photo"),
        ({"jpg": {}}, r"data\.degradation\.jpg: is no known key; did you mean jpeg"),
        ({"second": {"nois": {}}}, r"second\.nois: is no known key; did you mean noise"),
        ({"jpeg": {"qality": 3}}, r"jpeg\.qality: is no known key; did you mean quality"),
        ({"jpeg": {"quality": [0, 90]}}, r"jpeg\.quality: must be \[lowest, highest\] from 1 to"),
        ({"jpeg": {"quality": [90, 30]}}, r"jpeg\.quality: must be \[lowest, highest\]"),
        ({"blur": {"chance": 1.5}}, r"blur\.chance: must lie between 0 and 1, got 1\.5"),
        ({"blur": {"sigma": "soft"}}, r"blur\.sigma: must be \[lowest, highest\].*'soft'"),
        ({"blur": {"radius": 0}}, r"blur\.radius: must be a whole number from 1 to 50"),
        ({"blur": 3}, r"blur: must be a mapping, got 3"),
        ({"resize": {"up": 0.7, "down": 0.7}}, r"resize\.up: and down must not exceed 1"),
        ({"resize": {"factors": [1.2, 1.5]}}, r"resize\.factors: must be \[0\.05 to 1, 1 to 4\]"),
        ({"clean": True}, r"clean: must lie between 0 and 1, got True"),
    ],
)
def test_wrong_words_are_named(given: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_degradation(given)  # type: ignore[arg-type]


def test_the_documented_yaml_is_the_photo_preset(photo_dir: Path, tmp_path: Path) -> None:
    from adapool_sr.training.main import build_data

    text = (ROOT / "datasets" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.S)
    (tmp_path / "mine.yaml").write_text(block)
    config = ROOT / "configs" / "sr_x2_tiny.yaml"
    words = ["-c", str(config), "-c", str(tmp_path / "mine.yaml"), f"--data.root={photo_dir}"]
    data = build_data([*words, f"--trainer.default_root_dir={tmp_path}"])
    assert parse_degradation(data.degradation) == PRESETS["photo"]
    data.holdout, data.patch_size = [], 32
    data.setup()
    assert next(iter(data.train_dataloader()))["lr"].shape == (32, 3, 16, 16)
