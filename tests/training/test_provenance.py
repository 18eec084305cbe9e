from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

from adapool_sr.training.provenance import describe_data, source_version


def test_folders_are_named_without_their_place(tmp_path: Path) -> None:
    data = SimpleNamespace(
        root=[str(tmp_path / "reef"), "photos/"], training_names=["a", "b"], validation_names=["c"],
        holdout=["budgie_*", str(tmp_path / "x_*")], weights={str(tmp_path / "y_*"): 2.0},
    )  # fmt: skip
    assert describe_data(data) == {
        "data": ["reef", "photos"], "photos": 2, "photos_val": 1,
        "holdout": ["budgie_*", "x_*"], "weights": {"y_*": 2.0},
    }  # fmt: skip


def test_sets_low_resolutions_and_degradation_are_told(tmp_path: Path) -> None:
    data = SimpleNamespace(root=f"DIV2K={tmp_path}", lr_root=str(tmp_path / "low"))
    assert describe_data(data) == {"data": ["DIV2K"], "lr": ["low"]}
    data = SimpleNamespace(root="photos", degradation={"kind": "second_order", "clean": 0.3})
    assert describe_data(data)["degradation"] == {"kind": "second_order", "clean": 0.3}


def test_other_data_is_described_as_far_as_known() -> None:
    assert describe_data(None) == {"data": []}


def test_version_is_a_commit_or_the_packages() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}\+?|adapool-sr \d+\.\d+\.\d+", source_version())
