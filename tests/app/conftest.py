"""A real server and a real browser for the tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Runs the command and writes down whatever would leave the machine, before it can.
WATCHED = """
import sys
log = open(sys.argv.pop(1), "a", buffering=1)

def watch(event, args):
    if event == "socket.connect":
        address = args[1]
        host = address[0] if isinstance(address, tuple) else ""
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0] or ""
    else:
        return
    if host not in ("", "127.0.0.1", "::1", "localhost"):
        print(event, host, file=log)
        raise OSError(f"the test forbids {event} to {host}")

sys.addaudithook(watch)
from adapool_sr.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Server:
    """A running page.

    Attributes:
        url: its address.
        process: its process.
        temp: the folder that its temporary files are in.
        outgoing: what would have left the machine, a line each.
        errors: what it wrote to standard error.
    """

    url: str
    process: subprocess.Popen[str]
    temp: Path
    outgoing: Path
    errors: Path

    def files(self) -> list[Path]:
        """The visitors' files that are on the disk."""
        found = self.temp.rglob("*")
        return [path for path in found if path.is_file() and path.name != ".lock"]

    def memory(self) -> int:
        """Resident bytes of the process."""
        words = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in words.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


Serve = Callable[..., Any]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """``with serve(*flags) as server``: ``adapool-sr app`` on a free port; ends it."""
    pytest.importorskip("gradio", reason="needs the extra 'app'")

    @contextmanager
    def run(*flags: str) -> Iterator[Server]:
        folder = tmp_path_factory.mktemp("server")
        temp, outgoing, errors = folder / "tmp", folder / "outgoing", folder / "errors"
        temp.mkdir()
        outgoing.touch()
        command = [sys.executable, "-c", WATCHED, str(outgoing), "app", "--json", "--port", "0"]
        environment = {**os.environ, "TMPDIR": str(temp)}
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [*command, *flags],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
            try:
                url = _address(process.stdout, errors)
                yield Server(url, process, temp, outgoing, errors)
            finally:
                process.terminate()
                process.wait(30)
                if process.stdout is not None:
                    process.stdout.close()

    return run


def _address(stream: IO[str] | None, errors: Path) -> str:
    line = stream.readline() if stream is not None else ""
    if not line:
        pytest.fail(f"the page did not start: {errors.read_text()}")
    return str(json.loads(line)["url"])


@pytest.fixture(scope="module")  # its event loop runs until it ends, and others need their own
def browser() -> Iterator[Any]:
    """Headless Chromium of the system; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("needs the browser 'chromium' (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as manager:
        # Chromium refuses its sandbox to root, as which containers run tests.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = manager.chromium.launch(executable_path=executable, args=flags)
        yield browser
        browser.close()
