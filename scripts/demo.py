#!/usr/bin/env python3
"""Upscale a sample photo by the command line and show it beside bicubic and the original.

    python scripts/demo.py

Writes demo/colosseum_x2.png (the result) and demo/colosseum_compare.png (a part of it, enlarged:
bicubic | ours | original) anew, and prints their paths and the Y-PSNR of bicubic and of ours.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from adapool_sr.imaging.metrics import modcrop, psnr_y
from adapool_sr.imaging.resize import imresize
from adapool_sr.io.images import read_rgb8

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "datasets" / "samples" / "colosseum.png"
OUT = ROOT / "demo"
SCALE = 2
PART = (20, 90, 132, 202)  # left, top, right, bottom: mouldings, a crack, joints of the stone
ZOOM = 5


def to_pil(image: torch.Tensor) -> Image.Image:
    """A uint8 (3, H, W) tensor as a Pillow picture."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def compare(panels: dict[str, torch.Tensor]) -> Image.Image:
    """The same part of every picture side by side, each pixel drawn ZOOM x ZOOM, labelled above."""
    left, top, right, bottom = PART
    width, height, gap, head = ZOOM * (right - left), ZOOM * (bottom - top), 8, 36
    sheet = Image.new("RGB", (len(panels) * (width + gap) - gap, head + height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(20)
    for index, (label, image) in enumerate(panels.items()):
        x = index * (width + gap)
        part = to_pil(image).crop(PART).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(part, (x, head))
        draw.text((x + width / 2, head / 2), label, fill="black", font=font, anchor="mm")
    return sheet


def main() -> int:
    """Run the demonstration; the exit status of the command if it fails."""
    OUT.mkdir(exist_ok=True)
    lr_path, sr_path, sheet_path = (
        OUT / f"colosseum_{kind}.png" for kind in ("lr", f"x{SCALE}", "compare")
    )
    for path in (lr_path, sr_path, sheet_path):  # nothing of an earlier run may pass for this one's
        path.unlink(missing_ok=True)

    hr = modcrop(read_rgb8(SAMPLE), SCALE)
    lr = imresize(hr, 1 / SCALE)
    to_pil(lr).save(lr_path)
    words = ["upscale", "-i", str(lr_path), "-o", str(sr_path), "-n", "tiny", "-s", str(SCALE)]
    print("adapool-sr", *words, flush=True)
    status = subprocess.run([sys.executable, "-m", "adapool_sr", *words], check=False).returncode
    if status:
        return status

    bicubic, sr = imresize(lr, SCALE), read_rgb8(sr_path)
    scores = {
        name: psnr_y(image, hr, border=SCALE)
        for name, image in (("bicubic", bicubic), ("ours", sr))
    }
    labels = {name: f"{name}, {score:.2f} dB" for name, score in scores.items()}
    compare({labels["bicubic"]: bicubic, labels["ours"]: sr, "original": hr}).save(sheet_path)
    print(f"result:     {sr_path}")
    print(f"comparison: {sheet_path}")
    for name, score in scores.items():
        print(f"{name + ':':<11} {score:.2f} dB Y-PSNR")
    return 0


if __name__ == "__main__":
    sys.exit(main())
