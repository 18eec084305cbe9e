"""Kills folder runs at many moments and resumes them; a test starts it in a process of its own.

    python kill_and_resume.py MODEL IN OUTS KILLS

A run costs seconds of imports, so that this process imports all and forks: each child runs the
command and is killed by SIGKILL. Every output folder must end as an unbroken run's, byte for byte.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from adapool_sr.cli.main import main


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, the hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(words: list[str], kill_after: float | None = None) -> float | int:
    """Run the command in a child: the seconds that it took, or -1 if it was killed."""
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(main(words))
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return -1
    if os.WEXITSTATUS(status):
        raise SystemExit(f"{words}: exit status {os.WEXITSTATUS(status)}")
    return time.perf_counter() - begun


def begin(model: str, source: str, out: Path, *more: str) -> list[str]:
    words = ["upscale", "-i", source, "-o", str(out), "--model-path", model, "--threads", "1"]
    return [*words, "-q", *more]


def check(model: str, source: str, outs: Path, kills: int) -> None:
    """Kill ``kills`` runs, and of every fifth the resumed run too."""
    import adapool_sr.inference.batch
    import adapool_sr.inference.upscaler
    import adapool_sr.io.images  # noqa: F401 - children have them then

    run(begin(model, source, outs / "warm"))
    seconds = run(begin(model, source, outs / "whole"))
    expected = content(outs / "whole")
    assert expected.keys() == content(Path(source)).keys()
    for number in range(kills):
        for attempt in range(9):
            out = outs / f"out{number}.{attempt}"
            moment = seconds * number / kills
            if run(begin(model, source, out), moment) == -1:
                break
            assert content(out) == expected
            seconds *= 0.9  # the kill came after the end: what was measured was a slow run
        else:
            raise SystemExit(f"no run lived for {moment:.2f} s")
        if not out.exists():
            out.mkdir()
        left = content(out)
        for name in left.keys() & expected.keys():
            assert left[name] == expected[name], f"{name} is half-written"
        if number % 5 == 0:
            run(begin(model, source, out, "--resume"), moment)
        if content(out) != expected:
            run(begin(model, source, out, "--resume"))
        assert content(out) == expected, sorted(content(out).keys() ^ expected.keys())


if __name__ == "__main__":
    check(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
