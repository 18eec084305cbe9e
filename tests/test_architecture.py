"""The shape of the package: who may import whom, which names are public, what help may load."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import adapool_sr
from adapool_sr.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adapool_sr"

# A room imports lower floors and itself; never a higher floor, never another room on its own.
FLOORS = {
    "files": 0,
    "ops": 1,
    "imaging": 1,
    "nn": 2,
    "io": 2,
    "models": 3,
    "data": 4,
    "inference": 5,
    "training": 6,
    "evaluation": 6,
    "app": 7,
    "cli": 8,
}
PAGE = ROOT / "app"  # is adapool_sr.app: setuptools maps it


def _name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return f"adapool_sr.{name}" if PAGE in path.parents else name


MODULES = sorted(
    _name(path)
    for path in [*PACKAGE.rglob("*.py"), *PAGE.rglob("*.py")]
    if path.name != "__main__.py"
)


def imported_rooms(source: str) -> Iterator[tuple[int, str]]:
    """(line, room) of everything that a module imports from this package, functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            line, names = node.lineno, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # app/ has them, since type checkers don't see where it is mapped to
                assert node.level == 1, f"line {node.lineno}: leaves its room by a relative import"
                continue
            line, names = node.lineno, [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            line, names = node.lineno, [text for text in texts if isinstance(text, str)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "adapool_sr" and len(parts) > 1 and parts[1] != "__version__":
                yield line, parts[1]


def climbing(room: str, source: str) -> list[str]:
    """The imports of a room's module that the ladder forbids, in words."""
    return [
        f"line {line}: {room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"
        for line, other in imported_rooms(source)
        if other != room and FLOORS[other] >= FLOORS[room]
    ]


def test_every_room_has_a_floor() -> None:
    rooms = {path.parent.name for path in [*PACKAGE.glob("*/__init__.py"), PAGE / "__init__.py"]}
    assert rooms == set(FLOORS)


@pytest.mark.parametrize("room", FLOORS)
def test_no_import_climbs_or_goes_sideways(room: str) -> None:
    found = [
        f"{path.name} {text}"
        for path in sorted((PAGE if room == "app" else PACKAGE / room).rglob("*.py"))
        for text in climbing(room, path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("ops", "import adapool_sr.imaging.resize"),
        ("training", "def f():\n    from adapool_sr.evaluation import table"),
        ("files", "from adapool_sr import io"),
        ("models", "x = importlib.import_module('adapool_sr.cli.main')"),
    ],
)
def test_the_ladders_test_sees_a_climbing_import(room: str, source: str) -> None:
    assert len(climbing(room, source)) == 1
    assert climbing("cli", source) == []


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_exactly_the_public_names(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    is_room = name.count(".") == 1
    if listed is None:
        assert not is_room, f"{name} has no __all__"
        return
    assert len(set(listed)) == len(listed)
    for entry in listed:
        assert getattr(module, entry, None) is not None, f"{name}.{entry} does not exist"
    own = {
        entry
        for entry, value in vars(module).items()
        if not entry.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and (value.__module__.startswith(name) if is_room else value.__module__ == name)
    }
    assert own <= set(listed), f"{name}: not in __all__: {sorted(own - set(listed))}"


HEAVY = {"torch", "numpy", "cv2", "PIL", "lightning", "tensorboard", "gradio"}
HELP = """
import sys
from adapool_sr.cli.main import main
status = main(sys.argv[1:])
print("loaded", *sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
sys.exit(status)
""".replace("{HEAVY}", repr(HEAVY))


def run_watching_imports(*words: str) -> tuple[int, str, str]:
    """Exit status, standard output, and the heavy modules that a command loaded."""
    done = subprocess.run(
        [sys.executable, "-c", HELP, *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy_and_has_an_example(command: str) -> None:
    status, out, loaded = run_watching_imports(command, "--help")
    assert status == 0
    assert loaded == "loaded"
    example = out.split("example:\n")[1]
    assert f"adapool-sr {command}" in example
    assert COMMANDS[command].lower() in " ".join(out.lower().split())


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_takes_at_most_half_a_second(command: str) -> None:
    times = []
    for _ in range(3):  # processor time: the clock would measure what else the machine does
        before = os.times()
        run_watching_imports(command, "--help")
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(times) <= 0.5


@pytest.mark.parametrize(
    "words", [[], ["nothing"], ["upscale"], ["upscale", "-s", "x"], ["evaluate", "--zz"]]
)
def test_usage_errors_load_nothing_heavy(words: list[str]) -> None:
    status, _, loaded = run_watching_imports(*words)
    assert status == 2
    assert loaded == "loaded"


@pytest.mark.parametrize("command", ["models", "--help", "--version"])
def test_lists_load_no_torch(command: str) -> None:
    status, _, loaded = run_watching_imports(command)
    assert status == 0
    assert "torch" not in loaded


def test_the_commands_modules_carry_the_names_and_lines_of_the_table() -> None:
    for command, line in COMMANDS.items():
        module = importlib.import_module(f"adapool_sr.cli.{command}")
        assert command == module.NAME
        assert module.HELP.lower().startswith(line.lower())


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = changelog.split("\n## [")[1].split("]")[0]
    assert project["version"] == newest == adapool_sr.__version__


def test_every_dependency_is_pinned_in_the_constraints() -> None:
    def normal(name: str) -> str:
        return name.strip().lower().replace("_", "-")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    names = {normal(line.split(">=")[0].split("[")[0]) for line in wanted} - {"adapool-sr"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert names <= {normal(pin.split("==")[0]) for pin in pins}
