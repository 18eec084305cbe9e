#!/usr/bin/env python3
"""Train one small ResNet on scikit-learn's digits with max, average and AdaPool.

    python benchmarks/digits.py [--seeds 5] [--epochs 10] [--json runs/digits.json]

1,797 grey digits of 8x8 pixels, half of each class for training, half for testing. A seed decides
on the halves, the network's first weights and the order of the batches; all poolings of a seed
share them, so that their accuracies can be compared in pairs. The networks differ in their two
pooling layers alone: ``replace_pooling`` makes AdaPool of max pooling. Prints a table in Markdown
and writes every accuracy as JSON. One thread; half a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr import replace_pooling

ROOT = Path(__file__).resolve().parents[1]
POOLINGS = ("max", "average", "AdaPool")
BATCH = 64
RATE = 4e-3


class Block(nn.Module):
    """Two 3x3 convolutions with normalisation, and the input (made wider by a 1x1) added."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.skip = nn.Conv2d(before, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, width, H, W)."""
        return F.relu(self.body(x) + self.skip(x))


def network(pooling: str) -> nn.Module:
    """8x8 to 4x4 to 2x2, then the mean of each channel: (N, 1, 8, 8) to (N, 10)."""
    layer = nn.AvgPool2d if pooling == "average" else nn.MaxPool2d
    model = nn.Sequential(
        Block(1, 16), layer(2), Block(16, 32), layer(2), Block(32, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    if pooling == "AdaPool":
        replace_pooling(model)
    return model


def split(seed: int) -> list[Tensor]:
    """Images and labels for training, then for testing."""
    digits = load_digits()
    parts = train_test_split(
        digits.images, digits.target, test_size=0.5, stratify=digits.target, random_state=seed
    )
    train_x, test_x, train_y, test_y = map(torch.as_tensor, parts)
    return [train_x[:, None].float() / 16, train_y, test_x[:, None].float() / 16, test_y]


def accuracy_of(pooling: str, seed: int, epochs: int) -> float:
    """Percent of the test half that a trained network names right."""
    train_x, train_y, test_x, test_y = split(seed)
    torch.manual_seed(seed)
    model = network(pooling)
    steps = epochs * -(-len(train_x) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(train_x), generator=order), BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(train_x[batch]), train_y[batch])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        right = model.eval()(test_x).argmax(1) == test_y
    return 100 * float(right.float().mean())


def table(found: dict[str, list[float]]) -> str:
    """Mean and spread of each pooling, and of AdaPool's lead over it in pairs."""
    lines = ["| pooling | accuracy, % | AdaPool's lead in pairs |", "| --- | --- | --- |"]
    for pooling, values in found.items():
        pairs = [a - b for a, b in zip(found["AdaPool"], values, strict=True)]
        ahead = sum(each > 0 for each in pairs)
        lead = f"{spread(pairs, '+')}; ahead in {ahead} of {len(pairs)}"
        own = pooling == "AdaPool"
        lines.append(f"| {pooling} | {spread(values)} | {'' if own else lead} |")
    return "\n".join(lines)


def spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.2f} ± {deviation:.2f}"


def main() -> None:
    """Train all, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="default: 5")
    parser.add_argument("--epochs", type=int, default=10, help="default: 10")
    parser.add_argument("--json", type=Path, default=ROOT / "runs" / "digits.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {pooling: [] for pooling in POOLINGS}
    start = time.process_time()
    for seed in range(arguments.seeds):
        for pooling in POOLINGS:
            found[pooling].append(accuracy_of(pooling, seed, arguments.epochs))
    print(table(found))
    seconds = time.process_time() - start
    print(f"\n{arguments.seeds} seeds, {arguments.epochs} epochs; {seconds:.0f} s of one processor")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"epochs": arguments.epochs, "accuracy": found}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
