from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from adapool_sr.cli.main import main
from adapool_sr.files import extras
from adapool_sr.files.errors import UsageError

server = import_module("adapool_sr.app.server")


def ask(loopback: bool, **headers: str) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of the guard's answer, with a page behind it that says 200."""
    sent: list[dict[str, Any]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    guard = server._Guard(page, loopback)
    asyncio.run(guard({"type": "http", "headers": pairs}, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"host": "127.0.0.1:7860"}),
        (200, {"host": "localhost:7860", "origin": "http://localhost:7860"}),
        (200, {"host": "[::1]:7860"}),
        (200, {"host": "127.0.0.1"}),
        (403, {"host": "evil.example:7860"}),  # a name that was made to lead here
        (403, {"host": "127.0.0.1:7860", "origin": "https://evil.example"}),
        (403, {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:9999"}),
        (403, {"host": "127.0.0.1:7860", "origin": "null"}),
        (403, {}),
    ],
)
def test_only_the_pages_own_address_is_answered(status: int, headers: dict[str, str]) -> None:
    assert ask(True, **headers)[0] == status


def test_another_host_is_answered_where_the_user_said_so() -> None:
    assert ask(False, host="studio.example:7860")[0] == 200
    assert ask(False, host="studio.example", origin="https://evil.example")[0] == 403


def test_the_browser_is_told_to_load_from_nowhere_else() -> None:
    policy = ask(True, host="127.0.0.1")[1][b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    first = server.bind("127.0.0.1", 0)
    taken = first.getsockname()[1]
    second = server.bind("127.0.0.1", taken)
    assert second.getsockname()[1] != taken
    assert second.getsockname()[0] == "127.0.0.1"
    first.close()
    second.close()


def test_a_host_that_is_not_this_machine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--host 192\.0\.2\.1: cannot be listened on"):
        server.bind("192.0.2.1", 0)


# --- the command -------------------------------------------------------------------------------


def test_without_gradio_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert main(["app"]) == 1
    said = capsys.readouterr().err
    assert "app: needs the extra 'app'; run: pip install 'adapool-sr[app]'" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "65536"], "--port: must be 0 (any free one) to 65535"),
        (["--port", "x"], "--port: must be 0"),
        (["-n", "nothing"], "model 'nothing': is not known"),
        (["--model-path", "nothing.safetensors"], "no such file"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1: cannot be listened on"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["app", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_running_page_gives_files_to_those_alone_who_know_their_address(serve: Any) -> None:
    with serve("--quiet") as running:
        with urllib.request.urlopen(running.url) as answer:
            page = answer.read().decode()
        assert "adapool-sr" in page
        assert "fonts.g" not in page
        assert "cdn" not in page
        for path in ("files/x/1/a.png", "gradio_api/file=/etc/hostname", "files/../.lock"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(running.url + path)
            assert refused.value.code in (403, 404)
            refused.value.close()
        assert running.process.poll() is None
        assert running.errors.read_text() == ""
        assert running.outgoing.read_text() == ""
        folders = list(running.temp.glob("adapool-sr-page-*"))
        assert len(folders) == 1
    assert list(running.temp.glob("adapool-sr-page-*")) == []
    assert running.process.returncode == 130


@pytest.mark.slow
def test_the_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        words = [sys.executable, "-m", "adapool_sr", "app", "--port", port]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            process.terminate()
            rest, words_said = process.communicate(timeout=30)
    assert url.startswith("http://127.0.0.1:")
    assert f":{port}/" not in url
    assert rest == ""  # the address is its only output
    assert f"port {port} is taken" in words_said


# Sends itself signals where the page is ready, and nothing listens for them yet.
_SIGNALLED = """
import signal, sys
from importlib import import_module
server = import_module("adapool_sr.app.server")

def ready(url, wanted):
    for name in sys.argv[1:]:
        signal.raise_signal(signal.Signals[name])
    print("went on")

def handlers():
    return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

before = handlers()
try:
    server.serve(server.Options(port=0), ready)
except KeyboardInterrupt:
    print("interrupted", handlers() == before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "said"),
    [
        # An exception at once could come within an import as well, and leave its lock held.
        (["SIGINT"], ["went on", "interrupted True"]),
        (["SIGTERM"], ["went on", "interrupted True"]),
        (["SIGINT", "SIGINT"], ["interrupted True"]),
    ],
)
def test_the_end_waits_for_a_safe_place_unless_asked_for_twice(
    names: list[str], said: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, *names],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == said, done.stderr
    assert done.returncode == 0
    assert list(tmp_path.glob("adapool-sr-page-*")) == []


def test_what_would_leave_the_machine_is_seen_by_these_tests(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8")
    watched = text.split('WATCHED = """')[1].split('"""')[0]
    log = tmp_path / "log"
    log.touch()
    script = watched.split("from adapool_sr")[0] + (
        "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80), 1)\n"
        "except OSError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(log)], capture_output=True, text=True, check=True
    )
    assert "the test forbids" in done.stdout
    assert "192.0.2.1" in log.read_text()
