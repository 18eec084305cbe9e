"""What a file that means harm can do to the command: nothing but be named."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapool_sr.io.images import from_array, to_bytes

RunCli = Callable[..., CompletedProcess[str]]

NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")
KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "gif": "GIF"}


def originals() -> dict[str, bytes]:
    """A small picture in six formats, with metadata; and 16-bit ones, which others decode."""
    ramp = np.mgrid[0:20, 0:28].astype(np.float32)
    image = Image.fromarray(np.stack([ramp[0] * 9, ramp[1] * 8, ramp.sum(0)], 2).astype(np.uint8))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    found = {}
    for suffix, kind in KINDS.items():
        stream = io.BytesIO()
        options: dict[str, Any] = {"exif": exif} if suffix in ("jpg", "png", "webp", "tif") else {}
        image.save(stream, kind, **options)
        found[suffix] = stream.getvalue()
    deep = np.random.default_rng(0).integers(0, 65536, (9, 11, 4), dtype=np.uint16)
    found |= {f"16.{kind}": to_bytes(from_array(deep), kind)[0] for kind in ("png", "tiff")}
    return found


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, overwrite, insert or double a part; often near the start, where headers are."""
    mutated = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        reach = len(mutated) if rng.random() < 0.5 else min(len(mutated), 120)
        at = int(rng.integers(reach)) if reach else 0
        how = rng.integers(5)
        if how == 0:
            mutated = mutated[: max(at, 1)] if rng.random() < 0.3 else mutated
        elif how == 1:
            mutated[at : at + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]
            )
        elif how == 2:
            mutated[at:at] = rng.bytes(3)
        elif how == 3:
            mutated[at:at] = mutated[at : at + 40]
        else:
            mutated[at : at + 1] = rng.bytes(1)
    return bytes(mutated)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_200_mutated_files_each_is_done_or_named(tmp_path: Path, run_cli: RunCli) -> None:
    source, out, rng = tmp_path / "in", tmp_path / "out", np.random.default_rng(20)
    source.mkdir()
    kinds = list(originals().items())
    for index in range(200):
        suffix, data = kinds[index % len(kinds)]
        (source / f"{index}_{suffix}").with_suffix(f".{suffix.split('.')[-1]}").write_bytes(
            mutate(data, rng)
        )
    names = {path.relative_to(source) for path in source.iterdir()}
    assert len(names) == 200
    words = ("-i", source, "-o", out, "--threads", "1", "--max-pixels", "1000000", "--json")
    done = run_cli("upscale", *words, timeout=800)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    named = {Path(event["input"]) for event in events if event["event"] == "error"}
    errors = [line for line in done.stderr.splitlines() if line.startswith("adapool-sr: error: ")]
    assert len(errors) == len(named) > 50
    made = {path.relative_to(out) for path in out.iterdir()}
    whole = names - named
    assert {name.with_suffix(".png") if name.suffix == ".gif" else name for name in whole} == made
    assert all("; " in line for line in errors)  # each with a remedy
    assert len(made) > 20
    for path in out.iterdir():
        with Image.open(path) as image:
            image.load()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("how", ["pickle", "torch", "torch-legacy"])
@pytest.mark.parametrize(
    "suffix", [".safetensors", ".ckpt", ".pth", ".pt", ".onnx", ".png", ".cbz", ""]
)
def test_no_pickle_is_run_whatever_the_file_calls_itself(
    tmp_path: Path, suffix: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from adapool_sr.cli.main import main

    mark, evil = tmp_path / "mark", tmp_path / f"evil{suffix}"
    if how == "pickle":
        evil.write_bytes(pickle.dumps({"state_dict": Evil(mark)}))
    else:
        torch.save({"w": Evil(mark)}, evil, _use_new_zipfile_serialization=how == "torch")
    photo, out = tmp_path / "photo.png", tmp_path / ("out.cbz" if suffix == ".cbz" else "out.png")
    Image.new("RGB", (4, 4)).save(photo)
    threads = torch.get_num_threads()
    try:
        if suffix not in (".png", ".cbz"):
            words = ["-i", photo, "-o", tmp_path / "model.png", "--model-path", evil]
            assert main(["upscale", *map(str, words)]) == 1
        assert main(["upscale", "-i", str(evil), "-o", str(out)]) == 1
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().err
    assert said.count("adapool-sr: error: ") == (1 if suffix in (".png", ".cbz") else 2)
    assert "Traceback" not in said
    assert not mark.exists()
    assert {path.name for path in tmp_path.iterdir()} == {evil.name, "photo.png"}
