"""The documents name only what exists: targets, commands, flags, files."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from adapool_sr.cli._common import hyphenate
from adapool_sr.cli.main import COMMANDS, _parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "datasets/**/*.md", "adapool_sr/**/*.md")
    for path in ROOT.glob(pattern)
)


def code_lines(text: str) -> list[str]:
    """The lines of indented and fenced blocks, without comments behind them."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(re.split(r"\s\s+#", line)[0].strip())
    return lines


def commands_of(text: str) -> list[str]:
    return [line for line in code_lines(text) if line.startswith("adapool-sr ")]


def test_the_two_commands_stand_in_the_first_fifteen_lines() -> None:
    top = "\n".join(README.splitlines()[:15])
    assert "make demo" in top
    assert "make test" in top


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.M))
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    lines = [line for text in texts for line in code_lines(text) if line.startswith("make ")]
    named = {line.split()[1] for line in lines}
    named |= {name for text in texts for name in re.findall(r"`make ([a-z][a-z-]*)", text)}
    assert {"demo", "test", "test-all", "bench", "lint"} <= named
    assert named <= targets


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (document.name, line)
        for document in DOCUMENTS
        for line in commands_of(document.read_text(encoding="utf-8"))
    ],
)
def test_every_command_line_parses(document: str, line: str) -> None:
    words = shlex.split(line)
    if words[1].startswith("--"):
        assert words[1] in ("--help", "--version")
        return
    module = import_module(f"adapool_sr.cli.{words[1]}")
    if getattr(module, "PASSES_UNKNOWN", False):
        _parser(module).parse_known_args(words[2:])
    elif not {"-h", "--help"} & set(words):
        _parser(module).parse_args(hyphenate(words[2:]))


def test_the_readme_shows_every_command() -> None:
    shown = {shlex.split(line)[1] for line in commands_of(README)}
    assert set(COMMANDS) <= shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", text)
    targets = [first or second for first, second in links]
    missing = [
        target
        for target in targets
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert missing == []


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)


def test_the_readme_has_python_examples() -> None:
    assert len(python_blocks()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: block.splitlines()[-1][:30])
def test_every_python_example_runs(block: str, photo_dir: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(photo_dir, photos)
    with Image.open(photos / "photo_1.png") as photo:
        photo.save(tmp_path / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
