import itertools
import logging
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adapool_sr.data import SRDataModule
from adapool_sr.data.pairs import TrainingBatches
from adapool_sr.files.errors import ConfigError, MissingFileError, UnreadableFileError
from adapool_sr.imaging.resize import imresize
from adapool_sr.io.images import read_rgb8

# Lightning 2.6 with torch 2.13.
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")

SMALL: dict[str, Any] = {"patch_size": 32, "batch_size": 4}


def ready(root: Path, **options: Any) -> SRDataModule:
    data = SRDataModule(str(root), **{**SMALL, **options})
    data.setup("fit")
    return data


def batches(data: SRDataModule, count: int) -> list[dict[str, Tensor]]:
    return list(itertools.islice(iter(data.train_dataloader()), count))


def same(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in ("lr", "hr")
    )


class Recorder(L.LightningModule):
    """Trains nothing; keeps the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[dict[str, Tensor]] = []
        self.validated: list[str] = []

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        self.seen.append({key: value.clone() for key, value in batch.items()})
        return self.weight * batch["lr"].float().mean()

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        self.validated += batch["name"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def run(
    folder: Path, data: SRDataModule, steps: int, resume: Path | None = None, **options: Any
) -> tuple[Recorder, L.Trainer]:
    module = Recorder()
    trainer = L.Trainer(
        max_steps=steps,
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        **{"val_check_interval": 2, **options},
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module, trainer


def test_batches_have_the_promised_form(photo_dir: Path) -> None:
    batch = batches(ready(photo_dir, scale=4), 1)[0]
    assert batch["lr"].shape == (4, 3, 8, 8)
    assert batch["hr"].shape == (4, 3, 32, 32)
    assert {value.dtype for value in batch.values()} == {torch.uint8}
    assert all(value.is_contiguous() for value in batch.values())


def test_any_number_of_workers_gives_the_same_batches(photo_dir: Path) -> None:
    wanted = batches(ready(photo_dir), 5)
    assert same(batches(ready(photo_dir, workers=2), 5), wanted)


def test_the_seed_chooses_the_samples(photo_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    zero, seven = batches(ready(photo_dir), 2), batches(ready(photo_dir, seed=7), 2)
    assert same(batches(ready(photo_dir, seed=0), 2), zero)
    assert not same(seven, zero)
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert same(batches(ready(photo_dir), 2), seven)


def test_validation_photos_do_not_train(photo_dir: Path) -> None:
    data = ready(photo_dir, val_every=3)
    assert len(data.validation_names) == 2
    assert len(data.training_names) == 4
    assert not set(data.validation_names) & set(data.training_names)


def test_whole_photos_validate(photo_dir: Path) -> None:
    data = ready(photo_dir, val_every=3)
    whole = list(data.val_dataloader())
    assert [f"{batch['name'][0]}.png" for batch in whole] == data.validation_names
    for batch in whole:
        lr, hr = batch["lr"], batch["hr"]
        assert isinstance(lr, Tensor)
        assert isinstance(hr, Tensor)
        assert hr.dtype == torch.uint8
        assert hr.shape == (1, 3, 2 * lr.shape[2], 2 * lr.shape[3])
        assert hr.shape[3] >= 96


def test_a_folder_of_its_own_validates(photo_dir: Path, grey_dir: Path) -> None:
    data = ready(photo_dir, val=str(grey_dir), max_val=5)
    assert len(data.training_names) == 6
    assert len(data.validation_names) == 5
    assert all(name.startswith("grey_") for name in data.validation_names)


def test_held_out_photos_are_nowhere(photo_dir: Path) -> None:
    data = ready(photo_dir, holdout=["photo_[12].*"])
    names = data.training_names + data.validation_names
    assert sorted(names) == [f"photo_{k}.png" for k in (3, 4, 5, 6)]


def test_a_dozen_small_grey_pictures_are_enough(
    grey_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = SRDataModule(str(grey_dir), patch_size=96, batch_size=2)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        module, _ = run(tmp_path, data, 2)
    assert len(data.training_names) == 11
    assert [batch["hr"].shape for batch in module.seen] == [(2, 3, 96, 96)] * 2
    assert [f"{name}.png" for name in module.validated] == data.validation_names
    assert "11 smaller than 96 pixels, mirrored out to it" in caplog.text


def test_tiny_pictures_can_be_validated(tmp_path: Path, photo_dir: Path) -> None:
    from adapool_sr.imaging import ssim_y

    for k in range(2):
        Image.new("L", (5, 3), 40 * k).save(tmp_path / f"{k}.png")
    batch = next(iter(ready(tmp_path, scale=3, patch_size=33).val_dataloader()))
    hr = batch["hr"]
    assert isinstance(hr, Tensor)
    assert ssim_y(hr[0], hr[0], 3) == 1


def test_a_single_photo_serves_twice_and_that_is_said(
    photo_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(photo_dir / "photo_1.png", tmp_path)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        data = ready(tmp_path)
    assert data.training_names == data.validation_names == ["photo_1.png"]
    assert "the only photo serves for both" in caplog.text


def test_weights_go_by_the_first_pattern_that_fits(photo_dir: Path) -> None:
    plain = ready(photo_dir, val=str(photo_dir))
    heavy = ready(
        photo_dir, val=str(photo_dir), weights={"photo_1.png": 1e9, "photo_*": 1.0}, augment=False
    )
    only = ready(photo_dir, val=str(photo_dir), holdout=["photo_[2-6].png"], augment=False)
    assert same(batches(heavy, 3), batches(only, 3))
    assert not same(batches(plain, 3), batches(only, 3))


def test_photos_are_also_seen_shrunk(photo_dir: Path) -> None:
    plain, shrunk = ready(photo_dir), ready(photo_dir, shrinks=[0.6, 0.05])
    assert shrunk.training_names == plain.training_names
    whole, copies = shrunk._train[: len(plain._train)], shrunk._train[len(plain._train) :]
    # Copies smaller than a patch, all those by 0.05 among them, are left out.
    assert 0 < len(copies) <= len(whole)
    by_path = {pair.path: pair for pair in whole}
    for copy in copies:
        expected = imresize(read_rgb8(copy.path), 0.6)
        height, width = (side - side % shrunk.scale for side in expected.shape[1:])
        assert copy.hr.shape == (3, height, width)
        assert np.array_equal(copy.hr, expected[:, :height, :width].numpy())
        assert copy.hr.shape[1] < by_path[copy.path].hr.shape[1]


@pytest.mark.parametrize("shrink", [0.0, 1.0, -0.5])
def test_impossible_shrinks_are_refused(photo_dir: Path, shrink: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.shrinks: must lie between 0 and 1"):
        SRDataModule(str(photo_dir), shrinks=[shrink])


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("limit", [1.0, 3], ids=["endless epoch", "epochs of 3"])
def test_a_resumed_run_sees_what_an_unbroken_one_sees(
    photo_dir: Path, tmp_path: Path, accumulate: int, limit: float
) -> None:
    if (accumulate, limit) == (2, 3):
        limit = 4  # an epoch ends with a whole step
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate, "limit_train_batches": limit}
    unbroken, _ = run(tmp_path, SRDataModule(str(photo_dir), **SMALL), 7, **options)
    first, trainer = run(tmp_path, SRDataModule(str(photo_dir), **SMALL), 4, **options)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    second, _ = run(
        tmp_path, SRDataModule(str(photo_dir), **SMALL), 7, tmp_path / "last.ckpt", **options
    )
    assert len(unbroken.seen) == 7 * accumulate
    assert same(first.seen + second.seen, unbroken.seen)


def test_pictures_are_read_once(photo_dir: Path) -> None:
    data = ready(photo_dir)
    before = data.train_dataloader().dataset
    data.setup("validate")
    after = data.train_dataloader().dataset
    assert isinstance(before, TrainingBatches)
    assert isinstance(after, TrainingBatches)
    assert before.rule.pairs[0] is after.rule.pairs[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 0}, r"data\.scale: must be at least 1, got 0"),
        ({"scale": 3, "patch_size": 100}, r"data\.patch_size: .* scale 3, got 100; use 99"),
        ({"batch_size": 0}, r"data\.batch_size: must be at least 1"),
        ({"workers": -1}, r"data\.workers: must be 0 or more, got -1"),
        ({"seed": -1}, r"data\.seed: must be 0 to 2\*\*64 - 1, got -1"),
        ({"seed": 2**64}, r"data\.seed: must be 0 to 2\*\*64 - 1, got 18446744073709551616"),
        ({"channel_shuffle": 1.5}, r"data\.channel_shuffle: must lie between 0 and 1, got 1\.5"),
        ({"weights": {"a*": 0.0}}, r"data\.weights\.a\*: must be above 0.*data\.holdout"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SRDataModule("photos", **options)


def test_a_missing_folder_stops_before_the_first_step(tmp_path: Path) -> None:
    module = Recorder()
    trainer = L.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        trainer.fit(module, datamodule=SRDataModule(str(tmp_path / "nowhere")))
    assert not module.seen


def test_a_damaged_photo_stops_before_the_first_step(photo_dir: Path, tmp_path: Path) -> None:
    good = (photo_dir / "photo_1.png").read_bytes()
    (tmp_path / "a.png").write_bytes(good)
    (tmp_path / "torn.png").write_bytes(good[:900])
    with pytest.raises(UnreadableFileError, match=r"torn\.png"):
        ready(tmp_path)


def test_degraded_samples_are_the_same_for_any_number_of_workers(photo_dir: Path) -> None:
    wanted = batches(ready(photo_dir, degradation="second_order"), 3)
    assert same(batches(ready(photo_dir, degradation="second_order", workers=2), 3), wanted)
    plain = batches(ready(photo_dir), 3)
    assert all(torch.equal(a["hr"], b["hr"]) for a, b in zip(wanted, plain, strict=True))
    assert not same(wanted, plain)


def test_validation_photos_are_degraded_whatever_the_seed(photo_dir: Path) -> None:
    options: dict[str, Any] = {
        "degradation": {"kind": "second_order", "clean": 0},
        "val_every": 3,
    }
    first = list(ready(photo_dir, seed=1, **options).val_dataloader())
    second = list(ready(photo_dir, seed=2, **options).val_dataloader())
    plain = list(ready(photo_dir, val_every=3).val_dataloader())
    for a, b, c in zip(first, second, plain, strict=True):
        assert isinstance(a["lr"], Tensor)
        assert isinstance(c["lr"], Tensor)
        assert torch.equal(a["lr"], b["lr"])
        assert a["lr"].shape == c["lr"].shape
        assert not torch.equal(a["lr"], c["lr"])
        assert torch.equal(a["hr"], c["hr"])


def test_scale_1_keeps_the_size_and_is_degraded(photo_dir: Path) -> None:
    clean = ready(photo_dir, scale=1)
    assert all(torch.equal(batch["lr"], batch["hr"]) for batch in batches(clean, 2))
    data = ready(photo_dir, scale=1, degradation={"kind": "second_order", "clean": 0})
    batch = batches(data, 1)[0]
    assert batch["lr"].shape == batch["hr"].shape == (4, 3, 32, 32)
    assert not torch.equal(batch["lr"], batch["hr"])
    whole = next(iter(data.val_dataloader()))
    assert isinstance(whole["lr"], Tensor)
    assert isinstance(whole["hr"], Tensor)
    assert whole["lr"].shape == whole["hr"].shape


@pytest.mark.parametrize("degradation", ["bicubic", "second_order"])
def test_a_store_changes_no_sample(
    photo_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, degradation: str
) -> None:
    monkeypatch.setenv("ADAPOOL_CACHE", str(tmp_path))
    options: dict[str, Any] = {"degradation": degradation, "shrinks": [0.6, 0.05]}
    wanted = batches(ready(photo_dir, **options), 4)
    assert not (tmp_path / "store").exists()  # so few are not worth one
    assert same(batches(ready(photo_dir, store="always", **options), 4), wanted)
    assert same(batches(ready(photo_dir, store="always", workers=2, **options), 4), wanted)
    assert len(list((tmp_path / "store").glob("*/pixels.bin"))) == 1


def paired(photo_dir: Path, folder: Path) -> Path:
    """Low resolutions of another making than bicubic, named as DIV2K's are."""
    folder.mkdir()
    for path in photo_dir.glob("*.png"):
        hr = read_rgb8(path)
        lr = hr[:, : hr.shape[1] // 2 * 2 : 2, : hr.shape[2] // 2 * 2 : 2]
        Image.fromarray(lr.permute(1, 2, 0).numpy()).save(folder / f"{path.stem}x2.png")
    return folder


def test_given_low_resolutions_train_and_validate(photo_dir: Path, tmp_path: Path) -> None:
    low = paired(photo_dir, tmp_path / "lr")
    data = ready(photo_dir, lr_root=str(low), val_every=3)
    for pair in [*data.sample_rule().pairs, *data._val]:
        assert np.array_equal(pair.lr, pair.hr[:, ::2, ::2])


def test_a_wrong_low_resolution_stops_before_the_first_step(
    photo_dir: Path, tmp_path: Path
) -> None:
    low = paired(photo_dir, tmp_path / "lr")
    Image.new("RGB", (9, 9)).save(low / "photo_3x2.png")
    with pytest.raises(UnreadableFileError, match=r"photo_3x2\.png: is 9x9, but photo_3\.png"):
        ready(photo_dir, lr_root=str(low))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"degradation": "second_order", "lr_root": "x"}, r"data\.degradation: makes LR that data"),
        ({"shrinks": [0.5], "lr_root": "x"}, r"data\.shrinks: can't shrink given LR"),
        ({"val": "v", "lr_root": "x"}, r"data\.val_lr_root: goes with data\.val"),
        ({"val_lr_root": "x"}, r"data\.val_lr_root: needs data\.lr_root"),
        ({"degradation": {"jpg": {}}}, r"data\.degradation\.jpg: is no known key; did you mean jp"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SRDataModule("photos", **options)


@pytest.mark.slow
def test_a_named_set_trains_on_its_part_and_validates_on_the_other(tmp_path: Path) -> None:
    for part, first, last in (("train", 1, 801), ("valid", 801, 901)):
        high, low = tmp_path / f"DIV2K_{part}_HR", tmp_path / f"DIV2K_{part}_LR_bicubic" / "X2"
        high.mkdir()
        low.mkdir(parents=True)
        for n in range(first, last):
            Image.new("RGB", (33, 32), (n % 256, n // 256, 7)).save(high / f"{n:04}.png")
            Image.new("RGB", (16, 16), (n % 256, n // 256, 7)).save(low / f"{n:04}x2.png")
    root = f"DIV2K={tmp_path}"
    data = SRDataModule(root, patch_size=32, lr_root=root, max_val=100, store="never")
    data.setup()
    assert data.training_names == [f"{n:04}.png" for n in range(1, 801)]
    assert data.validation_names == [f"{n:04}.png" for n in range(801, 901)]
    assert all((pair.lr[:, :1, :1] == pair.hr[:, :1, :1]).all() for pair in data._train)
    (tmp_path / "DIV2K_train_HR" / "0002.png").write_bytes(b"torn")
    with pytest.raises(UnreadableFileError, match=r"DIV2K: \S*0002\.png"):
        SRDataModule(root, patch_size=32, store="never").setup()


def test_pictures_of_b100_are_refused_and_may_be_held_out(tmp_path: Path) -> None:
    for name in ("101085", "photo_1", "photo_2"):
        Image.new("RGB", (481, 321), (9, 90, 200)).save(tmp_path / f"{name}.png")
    with pytest.raises(ConfigError, match=r"pictures of B100 \(101085\.png\)"):
        ready(tmp_path)
    assert len(ready(tmp_path, holdout=["101085.*"]).training_names) == 1
