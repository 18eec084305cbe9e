"""The engine's measurements when several threads ask for them at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from adapool_sr.inference import engine
from adapool_sr.inference.upscaler import Upscaler


def test_what_a_pixel_needs_is_measured_once_by_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside = threading.Lock()
    measured: list[torch.dtype] = []

    def measure(network: object, channels: int, device: object, precision: torch.dtype) -> float:
        assert inside.acquire(blocking=False), "two threads measure at once"
        threading.Event().wait(0.05)
        measured.append(precision)
        inside.release()
        return 100.0

    monkeypatch.setattr(engine, "bytes_per_pixel", measure)
    subject = Upscaler.from_pretrained("nano-x2", precision="fp32").engine
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: subject.pixel_bytes(torch.float32), range(8)))
    assert found == [100.0] * 8
    assert measured == [torch.float32]
