"""The command ``adapool-sr fit``, run in this process where that will do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from adapool_sr.cli.main import main

FitWords = Callable[..., list[str]]

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def _events(root: Path) -> Any:
    events = EventAccumulator(str(root / "logs"))
    events.Reload()
    return events


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def test_fit_saves_its_last_step_and_says_where(
    tmp_path: Path, fit_words: FitWords, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *fit_words(tmp_path, "--trainer.max_steps", "2")]) == 0
    out, err = capsys.readouterr()
    line = r"2 steps: \S+/last\.ckpt; val PSNR \d+\.\d+ dB, SSIM 0\.\d+; \d+\.\d it/s\n"
    assert re.fullmatch(line, out)
    assert "steps 0 to 2" in err
    assert "step 2/2" in err
    assert "Tip" not in err
    assert "arning" not in err
    assert _load(tmp_path / "last.ckpt")["global_step"] == 2
    assert "\n  max_steps: 2\n" in (tmp_path / "config.yaml").read_text()


def test_resume_by_flag_equals_an_unbroken_run(tmp_path: Path, fit_words: FitWords) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["fit", "-q", *fit_words(whole, "--trainer.max_steps", "8")]) == 0
    assert main(["fit", "-q", *fit_words(parts, "--trainer.max_steps", "5")]) == 0
    more = ("--trainer.max_steps", "8", "--ckpt_path", "last")
    assert main(["fit", "-q", *fit_words(parts, *more)]) == 0
    one, other = _load(whole / "last.ckpt"), _load(parts / "last.ckpt")
    assert one["global_step"] == other["global_step"] == 8
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name
    for name, tensor in one["adapool_sr"]["ema"].items():
        assert torch.equal(tensor, other["adapool_sr"]["ema"][name]), name
    logs = [_events(root) for root in (whole, parts)]
    for tag in ("loss", "lr", "val_psnr", "val_ssim"):
        rows = [[(e.step, e.value) for e in log.Scalars(tag)] for log in logs]
        assert rows[0] == rows[1], tag
    tags = logs[0].Tags()["images"]
    assert len(tags) == 1
    assert tags[0].startswith("samples/photo_")


def test_quiet_prints_nothing(
    tmp_path: Path, fit_words: FitWords, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--quiet", *fit_words(tmp_path, "--trainer.max_steps", "1")]) == 0
    assert capsys.readouterr() == ("", "")


def test_seed_changes_the_run(tmp_path: Path, fit_words: FitWords) -> None:
    weights = []
    for run, seed in enumerate((1, 1, 2)):
        root = tmp_path / str(run)
        words = fit_words(root, "--trainer.max_steps", "2", "--seed_everything", str(seed))
        assert main(["fit", "-q", *words]) == 0
        weights.append(_load(root / "last.ckpt")["state_dict"]["network.head.bias"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model.lrr", "1"], r"--model\.lrr: is no known key; did you mean model\.lr\?"),
        (["--trainer.max_step=1"], r"--trainer\.max_step: .*did you mean trainer\.max_steps\?"),
        (["--trainer.max_steps", "x"], r"trainer\.max_steps: expected a int\. Got value: x"),
        (["--model.network.widht", "1"], r"model\.network\.widht: .*did you mean widths\?"),
        (["--model.loss", "l3"], r"model\.loss: got 'l3'; one of: l1"),
        (["--model.lr", "-1"], r"model\.lr: must be above 0, got -1\.0"),
        (["--data.root", "nowhere"], r"nowhere: no such folder"),
        (["-c", "nowhere.yaml"], r"nowhere\.yaml: does not exist"),
        (["--ckpt_path", "nowhere.ckpt"], r"--ckpt_path nowhere\.ckpt: does not exist"),
        (["--data.scale", "4"], r"data\.scale: is 4, but model\.network\.scale is 2; set both"),
        (["--trainer.val_check_interval", "0.5"], r"configuration: `val_check_interval` should"),
        (["surplus"], r"surplus: is no known key"),
    ],
)
def test_wrong_words_are_one_line_and_status_2(
    words: list[str],
    told: str,
    tmp_path: Path,
    fit_words: FitWords,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fit", *fit_words(tmp_path, "--trainer.max_steps", "1", *words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"adapool-sr: error: .*{told}.*\n", err)
    assert not (tmp_path / "last.ckpt").exists()


def test_unknown_key_of_the_yaml_is_named_with_its_group(
    tmp_path: Path, fit_words: FitWords, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("model:\n  warmup_step: 3\n")
    assert main(["fit", *fit_words(tmp_path, "-c", str(config))]) == 2
    told = "model.warmup_step: is no known key; did you mean model.warmup_steps?"
    assert capsys.readouterr().err == f"adapool-sr: error: {told}\n"


def test_missing_data_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "sr_x2_tiny.yaml"
    assert main(["fit", "-c", str(config)]) == 2
    told = "adapool-sr: error: --data.root: is required; see adapool-sr fit --help\n"
    assert capsys.readouterr().err == told


def test_checkpoint_of_another_kind_is_refused(
    tmp_path: Path, fit_words: FitWords, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    words = fit_words(tmp_path, "--ckpt_path", str(tmp_path / "foreign.ckpt"))
    assert main(["fit", *words]) == 1
    assert "foreign.ckpt: is no training checkpoint of this program" in capsys.readouterr().err


def test_configuration_stays_behind_flags_wherever_it_stands(
    tmp_path: Path, fit_words: FitWords
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("trainer:\n  max_steps: 7\n")
    words = fit_words(tmp_path, "--trainer.max_steps", "1", "-c", str(config))
    assert main(["fit", "-q", *words]) == 0
    assert _load(tmp_path / "last.ckpt")["global_step"] == 1


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_signal_saves_the_step_and_the_run_goes_on_from_it(
    number: signal.Signals, status: int, tmp_path: Path, fit_words: FitWords
) -> None:
    words = fit_words(tmp_path, "--model.total_steps", "100000", "--checkpoints.every_n_steps", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "adapool_sr", "fit", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    with process:
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("step 3/") for line in lines)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(60) == status
    assert "Traceback" not in rest
    step = _load(tmp_path / "last.ckpt")["global_step"]
    assert step >= 3
    assert f"stopped at step {step}: {tmp_path}/last.ckpt; go on with --ckpt_path" in rest
    more = ("--trainer.max_steps", str(step + 1), "--ckpt_path", "last")
    assert main(["fit", "-q", *fit_words(tmp_path, *more)]) == 0
    assert _load(tmp_path / "last.ckpt")["global_step"] == step + 1


@pytest.mark.parametrize("config", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_shipped_configuration_builds_its_model(
    config: Path, tmp_path: Path, photo_dir: Path
) -> None:
    from adapool_sr.training.expansion import plain_state
    from adapool_sr.training.main import build

    root = ("--trainer.default_root_dir", str(tmp_path))
    cli = build(["-c", str(config), "--data.root", str(photo_dir), *root])
    _, scale, *words = config.stem.split("_")  # sr_x2_tiny_photo
    name = "-".join(words if scale == "x1" else [*words, scale])
    assert cli.model.hparams["name"] == name
    budget = {"nano": 30_000, "tiny": 150_000, "base": 1_000_000}[words[0]]
    assert sum(tensor.numel() for tensor in plain_state(cli.model.network).values()) <= budget
    assert cli.datamodule.scale == cli.model.scale
    held_back = {"budgie_roman-colosseum_*", "budgie_oakland-zoo-otters_*"}
    assert held_back <= set(cli.datamodule.holdout)  # the sample photos are crops of these


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from adapool_sr.cli.main import main\n"
        "for name in ('fit', 'export'): assert main([name, '--help']) == 0\n"
        "assert not {'torch', 'lightning', 'jsonargparse'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--help-all" in done.stdout


def test_full_help_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help-all"]) == 0
    out = capsys.readouterr().out
    for key in ("--model.total_steps", "--data.holdout", "--trainer.max_steps", "--samples.count"):
        assert key in out
