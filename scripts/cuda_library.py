"""Builds the CUDA kernels for every supported architecture: a file to take to another machine.

    make cuda                       (or: python scripts/cuda_library.py FILE)

Needs nvcc and a C++ compiler, but no card and no torch with CUDA. There, ``make bench-gpu`` finds
the file in ``build/``; programs take it by ``ADAPOOL_CUDA_LIBRARY=FILE``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from adapool_sr.ops import build_cuda
from adapool_sr.ops.build import BuildError


def main() -> None:
    """Build, and say where and how long."""
    library = Path(sys.argv[1] if len(sys.argv) > 1 else "build/adapool_cuda.so").resolve()
    library.parent.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    try:
        build_cuda.build_into(library)
    except BuildError as error:
        sys.exit(f"cuda: {error}")
    size = library.stat().st_size / 1e6
    names = ", ".join(f"sm_{name}" for name in build_cuda.ALL_ARCHITECTURES)
    print(f"{library}: {size:.1f} MB for {names}, {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
