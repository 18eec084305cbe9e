from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapool_sr.files.errors import UsageError
from adapool_sr.inference.devices import choose_device, choose_precision, has_fast_bfloat16

CPU = torch.device("cpu")


def test_a_device_that_is_not_here_is_refused() -> None:
    assert choose_device("cpu") == CPU
    with pytest.raises(UsageError, match="device 'cuda:99': is not usable here"):
        choose_device("cuda:99")
    with pytest.raises(UsageError, match="device 'toaster': is not usable here"):
        choose_device("toaster")


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("flags\t\t: fpu avx512f", False),
        ("model name: x", False),
    ],
)
def test_bfloat16_is_taken_where_the_processor_has_it(
    tmp_path: Path, flags: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor: 0\n{flags}\n")
    assert has_fast_bfloat16(tmp_path / "cpuinfo") is fast
    monkeypatch.setattr("adapool_sr.inference.devices.has_fast_bfloat16", lambda: fast)
    assert choose_precision("auto", CPU) == (torch.bfloat16 if fast else torch.float32)


def test_a_named_precision_is_taken() -> None:
    assert choose_precision("fp16", CPU) == torch.float16
    assert choose_precision("auto", torch.device("cuda")) == torch.float16
    assert choose_precision("auto", torch.device("meta")) == torch.float32
    with pytest.raises(UsageError, match="precision 'int4': is not known; use auto"):
        choose_precision("int4", CPU)
