"""The experiment on digits: three poolings in pairs, a table and every accuracy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "digits.py"


@pytest.mark.slow
def test_a_short_run_prints_a_table_and_repeats_itself(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    command = [sys.executable, str(SCRIPT), "--seeds", "2", "--epochs", "1", "--json"]
    runs = []
    for name in ("a.json", "b.json"):
        done = subprocess.run(
            [*command, str(tmp_path / name)], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("| pooling | accuracy, % | AdaPool's lead in pairs |")
        runs.append(json.loads((tmp_path / name).read_text()))
    assert runs[0] == runs[1]
    assert [*runs[0]["accuracy"]] == ["max", "average", "AdaPool"]
    assert all(len(values) == 2 for values in runs[0]["accuracy"].values())
