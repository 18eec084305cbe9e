"""``adapool-sr info``."""

from __future__ import annotations

import json
import platform

import pytest
import torch

from adapool_sr import __version__
from adapool_sr.cli import info
from adapool_sr.cli.main import main
from adapool_sr.models.registry import available
from adapool_sr.ops import build, build_cuda


def test_json_holds_versions_devices_kernels_and_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = build.load()
    assert main(["info", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    facts = json.loads(line)
    assert facts["event"] == "info"
    assert facts["version"] == __version__
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["devices"][0]["name"] == "cpu"
    assert facts["auto"]["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert facts["threads"] >= 1
    cuda = build_cuda.load()
    assert facts["kernels"] == {
        "cpu": status.kernel,
        "isa": status.isa,
        "why": status.why,
        "cuda": cuda.kernel,
        "cuda_why": cuda.why,
    }
    assert [model["name"] for model in facts["models"]] == [spec.name for spec in available()]


def test_words_say_which_kernels_run_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    status = build.load()
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert lines["adapool-sr"] == __version__
    assert lines["kernels"].startswith(status.kernel)
    assert status.why in lines["kernels"]
    assert f"{build_cuda.load().kernel} on CUDA: {build_cuda.load().why}" in printed
    assert "threads" in lines["auto"]


def test_an_absent_package_is_said_to_be_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "_PACKAGES", ("torch", "no-such-package"))
    assert main(["info"]) == 0
    assert "no-such-package not installed" in capsys.readouterr().out
