"""The command line's frame: dispatch, usage errors, error lines, exit status, events."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from adapool_sr import __version__
from adapool_sr.cli import _common
from adapool_sr.cli.main import COMMANDS, main
from adapool_sr.files import errors

Run = Callable[[argparse.Namespace], int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``fake(run, passes_unknown=False)`` makes a command of the name "fake"."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("-o", "--output")
        parser.add_argument("--model-path")
        parser.add_argument("--count", type=_common.positive_int)
        _common.add_json_flag(parser)

    def register(run: Run, passes_unknown: bool = False) -> None:
        module = ModuleType("adapool_sr.cli.fake")
        parts = {"NAME": "fake", "HELP": "do", "EXAMPLE": "adapool-sr fake", "run": run}
        for name, value in parts.items():
            setattr(module, name, value)
        module.add_arguments = add_arguments  # type: ignore[attr-defined]
        module.PASSES_UNKNOWN = passes_unknown  # type: ignore[attr-defined]
        monkeypatch.setitem(COMMANDS, "fake", "do")
        monkeypatch.setitem(sys.modules, "adapool_sr.cli.fake", module)

    return register


def raising(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_version_is_printed(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"adapool-sr {__version__}\n"


def test_top_help_lists_every_command_with_its_line(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert f"  {name} " in out
        assert line in out
    assert "example:\n  adapool-sr " in out


NAMES = "upscale, fit, evaluate, export, prepare, models, app, info"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], f"COMMAND: is required; one of: {NAMES}"),
        (["upscal"], "upscal: is no command; did you mean upscale?"),
        (["zzz"], f"zzz: is no command; one of: {NAMES}"),
        (["models", "--jsn"], "--jsn: is not known here; did you mean --json?"),
        (["models", "--js"], "--js: is not known here; did you mean --json?"),
        (["models", "--zzz=1"], "--zzz: is not known here; see adapool-sr models --help"),
        (["models", "word"], "word: is not known here; see adapool-sr models --help"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(words: list[str], line: str, capsys: Capture) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err == f"adapool-sr: error: {line}\n"
    assert captured.out == ""


def test_a_bad_value_names_flag_and_value(fake: Callable[..., None], capsys: Capture) -> None:
    fake(lambda args: 0)
    assert main(["fake", "--count", "-1.5"]) == 2
    assert main(["fake", "--count", "x"]) == 2
    assert main(["fake", "--count"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == [
        "adapool-sr: error: --count: must be a whole number of at least 1, got 'x';"
        " see adapool-sr fake --help",
        "adapool-sr: error: --count: expected one argument; see adapool-sr fake --help",
    ]


@pytest.mark.parametrize("status", [0, 1, 3])
def test_the_commands_status_is_returned(status: int, fake: Callable[..., None]) -> None:
    fake(lambda args: status)
    assert main(["fake"]) == status


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (errors.UsageError("-s", "is 0", "give 2"), 2, "-s: is 0; give 2"),
        (errors.MissingFileError("a.png", "is not there"), 2, "a.png: is not there"),
        (errors.ModelFileError("m.ckpt", "is\ndamaged"), 1, "m.ckpt: is damaged"),
        (
            errors.MissingExtraError("fit", "train"),
            1,
            "fit: needs the extra 'train'; run: pip install 'adapool-sr[train]'",
        ),
        (FileNotFoundError(2, "No such file", "x.png"), 1, "x.png: No such file"),
        (RuntimeError("boom"), 1, "RuntimeError: boom; --debug shows where"),
    ],
)
def test_an_error_is_one_line_without_traceback(
    error: Exception, status: int, line: str, fake: Callable[..., None], capsys: Capture
) -> None:
    fake(raising(error))
    assert main(["fake"]) == status
    assert capsys.readouterr().err == f"adapool-sr: error: {line}\n"


def test_debug_adds_the_traceback(fake: Callable[..., None], capsys: Capture) -> None:
    fake(raising(RuntimeError("boom")))
    assert main(["fake", "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "in run\n" in err
    assert err.endswith("adapool-sr: error: RuntimeError: boom; --debug shows where\n")


def test_an_interrupt_is_130(fake: Callable[..., None], capsys: Capture) -> None:
    fake(raising(KeyboardInterrupt()))
    assert main(["fake"]) == 130
    assert capsys.readouterr().err == "adapool-sr: interrupted\n"


def test_underscores_are_hyphens_in_flags_but_not_in_values(fake: Callable[..., None]) -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append((args.model_path, args.output))
        return 0

    fake(run)
    assert main(["fake", "--model_path", "a_b.ckpt", "--output=c_d"]) == 0
    assert seen == [("a_b.ckpt", "c_d")]


def test_what_follows_two_hyphens_is_left_alone() -> None:
    words = ["--a_b=c_d", "-e_f", "--", "--g_h"]
    assert _common.hyphenate(words) == ["--a-b=c_d", "-e_f", "--", "--g_h"]


def test_unknown_flags_pass_through_untouched(fake: Callable[..., None]) -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append((args.extra, args.debug))
        return 0

    fake(run, passes_unknown=True)
    words = ["-c", "a.yaml", "--trainer.max_steps", "10", "--data.root=b_c", "--ckpt_path", "d"]
    assert main(["fake", *words, "--debug"]) == 0
    assert seen == [(words, True)]


@pytest.mark.parametrize("output", [["-o", "-"], ["--output", "-"], ["--output=-"], ["-o-"]])
def test_events_leave_standard_output_to_the_result(
    output: list[str], fake: Callable[..., None], capsys: Capture
) -> None:
    fake(raising(errors.UsageError("-s", "is 0")))
    assert main(["fake", "--json", *output]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    event = json.loads(captured.err.splitlines()[1])
    assert event == {"event": "error", "message": "-s: is 0", "status": 2}


def test_an_error_is_an_event_on_standard_output(
    fake: Callable[..., None], capsys: Capture
) -> None:
    fake(raising(errors.UsageError("-s", "is 0")))
    assert main(["fake", "--json", "-o", "x.png"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"event": "error", "message": "-s: is 0", "status": 2}
    assert captured.err == "adapool-sr: error: -s: is 0\n"


def test_a_warning_is_one_line_an_event_and_silent_when_quiet(
    fake: Callable[..., None], capsys: Capture
) -> None:
    def run(args: argparse.Namespace) -> int:
        # what warnings.warn calls; the tests' own filter would make an error of the warning
        warnings.showwarning(RuntimeWarning("no\ncompiler"), RuntimeWarning, "file.py", 1)
        return 0

    fake(run)
    before = warnings.showwarning
    assert main(["fake"]) == 0
    assert capsys.readouterr() == ("", "adapool-sr: warning: no compiler\n")
    assert main(["fake", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["fake", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"event": "warning", "message": "no compiler"}
    assert warnings.showwarning is before


def test_a_reader_that_leaves_is_no_noise() -> None:
    command = [sys.executable, "-m", "adapool_sr", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # long before Python has started
        assert process.stderr.read() == b""
        assert process.wait() == 1


@pytest.mark.parametrize("text", ["0", "-2", "nan", "inf", "x", ""])
def test_a_scale_must_be_a_positive_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="number above 0"):
        _common.positive_number(text)


def test_values_of_shared_flags_are_parsed() -> None:
    parser = _common.Parser("p", "d")
    _common.add_model_flags(parser)
    _common.add_device_flags(parser)
    args = parser.parse_args(["-n", "tiny", "-s", "1.5", "-t", "64", "--threads", "3"])
    assert (args.name, args.scale, args.tile, args.threads) == ("tiny", 1.5, 64, 3)
    args = parser.parse_args([])
    assert (args.scale, args.tile, args.device, args.precision) == (None, "auto", "auto", "auto")
    assert args.threads == _common.available_cpus()


def test_name_and_path_of_a_model_exclude_each_other() -> None:
    parser = _common.Parser("p", "d")
    _common.add_model_flags(parser)
    with pytest.raises(errors.UsageError, match="--model-path: not allowed with"):
        parser.parse_args(["-n", "tiny", "--model-path", "a.ckpt"])


def test_threads_follow_the_cgroups_quota(tmp_path: Path) -> None:
    assert _common._cgroup_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("250000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert _common._cgroup_quota(tmp_path) == 3
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert _common._cgroup_quota(tmp_path) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert _common._cgroup_quota(tmp_path) is None
