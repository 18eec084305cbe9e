"""``benchmarks/inference.py``: the peers are what they are called, and the plot can be read."""

from __future__ import annotations

from xml.etree import ElementTree

import inference
import peers
import pytest
import torch

from adapool_sr.evaluation.papers import published


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", list(peers.PEERS))
def test_peers_enlarge_by_the_scale(name: str, scale: int) -> None:
    peer = peers.PEERS[name](scale)
    out = peer(torch.rand(1, peer.channels, 9, 12))
    assert out.shape == (1, peer.channels, 9 * scale, 12 * scale)


@pytest.mark.parametrize("name", ["FSRCNN", "VDSR", "EDSR-baseline"])
def test_peers_have_the_published_number_of_parameters(name: str) -> None:
    row = next(row for row in published(["Set5"], 2) if row.name == name)
    count = sum(parameter.numel() for parameter in peers.PEERS[name](2).parameters())
    assert row.parameters is not None
    assert abs(count - row.parameters) <= 0.07 * row.parameters


def test_plot_shows_better_higher_and_slower_to_the_right() -> None:
    rows = [
        inference.Row("quick", True, 10, 20.0, 40.0, 1.0, 36.0),
        inference.Row("slow", False, 10, 300.0, 600.0, 0.1, 38.0),
        inference.Row("unknown", False, 10, 300.0, 600.0, 0.1, None),
    ]
    tree = ElementTree.fromstring(inference.plot(rows, "x2"))
    dots = [each for each in tree if each.tag.endswith("circle")]
    (x1, y1), (x2, y2) = ((float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in dots)
    assert x1 < x2
    assert y1 > y2


def test_table_gives_times_beside_fsrcnn() -> None:
    rows = [
        inference.Row("ours", True, 10, 50.0, 90.0, 1.0, 36.0),
        inference.Row("FSRCNN", False, 10, 100.0, 200.0, 0.1, None),
    ]
    assert "| **ours** | 10 | 50 | 90 | 1.0 | 36.00 | 0.50x |" in inference.markdown(
        rows, 2, "bf16"
    )
