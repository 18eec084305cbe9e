from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from adapool_sr.data import SRDataModule
from adapool_sr.files.errors import (
    AdaPoolError,
    ConfigError,
    MissingFileError,
    ModelFileError,
    UnknownModelError,
)
from adapool_sr.models import checkpoint as models_checkpoint
from adapool_sr.training import EMA, Checkpoints, GracefulStop, SRModule
from adapool_sr.training.progress import Progress
from adapool_sr.training.sr import learning_rate_factor

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec.*"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
]

Network = dict[str, Any]


def _module(network: Network, **changes: Any) -> SRModule:
    settings: dict[str, Any] = {"total_steps": 40, "warmup_steps": 3, "seed": 7}
    return SRModule(network, **(settings | changes))


def _data(root: Path, **changes: Any) -> SRDataModule:
    settings: dict[str, Any] = {"patch_size": 32, "batch_size": 2, "seed": 3}
    return SRDataModule(str(root), **(settings | changes))


def _trainer(root: Path, max_steps: int, *callbacks: L.Callback, **changes: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_steps": max_steps,
        "default_root_dir": root,
        "logger": CSVLogger(root, name="logs", version=max_steps),
        "log_every_n_steps": 3,
        "val_check_interval": 5,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [*callbacks],
    }
    return L.Trainer(**(settings | changes))


def _fit(
    root: Path,
    network: Network,
    photos: Path,
    max_steps: int,
    ckpt: Path | None = None,
    **more: Any,
) -> SRModule:
    module = _module(network)
    trainer = _trainer(root, max_steps, Checkpoints(every_n_steps=4), **more)
    trainer.fit(
        module,
        _data(photos),
        ckpt_path=ckpt,
        weights_only=None if ckpt is None else True,
    )
    return module


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def _assert_same(one: Any, other: Any, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            _assert_same(*pair, f"{where}/{index}")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def _logs(root: Path, *runs: int) -> list[str]:
    rows = []
    for run in runs:
        lines = (root / "logs" / f"version_{run}" / "metrics.csv").read_text().splitlines()
        names = lines[0].split(",")
        rows += [
            json.dumps(dict(sorted(zip(names, line.split(","), strict=True)))) for line in lines[1:]
        ]
    return rows


@pytest.mark.parametrize("stop", [10, 7])
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(
    stop: int, tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    """With a validation at the very step of the stop, and with the stop between two logs."""
    _fit(tmp_path / "whole", tiny_network, photo_dir, 20)
    _fit(tmp_path / "parts", tiny_network, photo_dir, stop)
    last = tmp_path / "parts" / "last.ckpt"
    _fit(tmp_path / "parts", tiny_network, photo_dir, 20, last)
    whole, parts = _load(tmp_path / "whole" / "last.ckpt"), _load(last)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "adapool_sr", "global_step"):
        _assert_same(whole[key], parts[key], key)
    assert whole["epoch"] == parts["epoch"]
    assert _logs(tmp_path / "whole", 20) == _logs(tmp_path / "parts", stop, 20)


def test_weights_move_and_the_average_trails_them(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    first = {
        key: value.clone() for key, value in _module(tiny_network).network.state_dict().items()
    }
    _fit(tmp_path, tiny_network, photo_dir, 6)
    saved = _load(tmp_path / "last.ckpt")
    raw = {key.removeprefix("network."): value for key, value in saved["state_dict"].items()}
    average = saved["adapool_sr"]["ema"]
    assert raw.keys() == average.keys() == first.keys()
    for key in raw:
        assert not torch.equal(raw[key], first[key]), key
        assert not torch.equal(raw[key], average[key]), key


def test_average_of_a_run_equals_a_hand_computation(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    module = _module(tiny_network)
    name, weight = next(iter(module.network.named_parameters()))
    seen = [weight.detach().double().clone()]

    class Watch(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(weight.detach().double().clone())

    _trainer(tmp_path, 8, Watch(), Checkpoints()).fit(module, _data(photo_dir))
    expected = seen[0]
    for step, value in enumerate(seen[1:], start=1):
        decay = min(0.999, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    average = _load(tmp_path / "last.ckpt")["adapool_sr"]["ema"][name]
    assert len(seen) == 9
    assert torch.allclose(average.double(), expected, atol=1e-7)


def test_accumulated_batches_count_as_one_step(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    for root, stops in (("whole", [6]), ("parts", [3, 6])):
        ckpt = None
        for stop in stops:
            _fit(
                tmp_path / root, tiny_network, photo_dir, stop, ckpt,
                accumulate_grad_batches=2, val_check_interval=100,
            )  # fmt: skip
            ckpt = tmp_path / root / "last.ckpt"
    whole, parts = (_load(tmp_path / root / "last.ckpt") for root in ("whole", "parts"))
    assert whole["global_step"] == 6
    for key in ("state_dict", "optimizer_states", "adapool_sr"):
        _assert_same(whole[key], parts[key], key)


def test_validation_measures_the_average_and_leaves_the_weights(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    module, data = _module(tiny_network, lr=0.01), _data(photo_dir)
    ema = EMA(0.9)
    trainer = _trainer(tmp_path, 5, ema, enable_checkpointing=False)
    trainer.fit(module, data)
    assert module.last_validation is not None
    step, psnr, ssim = module.last_validation
    assert step == 5
    averaged = copy.deepcopy(module.network)
    averaged.load_state_dict(ema.averages)
    batches = list(data.val_dataloader())
    scores = {
        "average": [module.score(averaged(b["lr"] / 255).detach(), b["hr"])[0] for b in batches],
        "raw": [module.score(module(b["lr"] / 255).detach(), b["hr"])[0] for b in batches],
    }
    assert psnr == pytest.approx(sum(s[0] for s in scores["average"]) / len(batches), abs=1e-6)
    assert ssim == pytest.approx(sum(s[1] for s in scores["average"]) / len(batches), abs=1e-6)
    assert abs(psnr - sum(s[0] for s in scores["raw"]) / len(batches)) > 1e-4
    assert trainer.callback_metrics["val_psnr"].item() == pytest.approx(psnr, rel=1e-6)


def test_perfect_picture_leaves_the_mean_finite(tiny_network: Network) -> None:
    perfect = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    pair = torch.stack([perfect, perfect])
    spoilt = torch.stack([perfect, 255 - perfect])
    (best, best_ssim), (other, _) = _module(tiny_network).score(pair, spoilt)
    assert (best, best_ssim) == (100.0, pytest.approx(1.0))
    assert other < 20.0


def test_checkpoint_is_a_model_file_of_the_average(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    module = _fit(tmp_path, tiny_network, photo_dir, 4)
    loaded = models_checkpoint.load(tmp_path / "last.ckpt")
    average = _load(tmp_path / "last.ckpt")["adapool_sr"]["ema"]
    for key, value in loaded.network.state_dict().items():
        assert torch.equal(value, average[key]), key
    assert loaded.network.config == module.network.config
    record = loaded.spec.training
    assert record["iterations"] == 4
    assert record["data"] == [photo_dir.name]
    assert record["photos"] + record["photos_val"] == 6
    assert record["commit"]
    assert str(photo_dir.parent) not in json.dumps(record)


def test_plain_python_needs_no_callbacks_of_ours(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    trainer = L.Trainer(
        max_steps=3, accelerator="cpu", default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(_module(tiny_network), datamodule=_data(photo_dir))
    (path,) = tmp_path.rglob("*.ckpt")
    assert models_checkpoint.load(path).spec.training["iterations"] == 3
    again = SRModule.load_from_checkpoint(path, weights_only=True)
    assert again.hparams["network"] == tiny_network


@pytest.mark.parametrize("grey", [False, True])
def test_small_and_grey_pictures_train(
    grey: bool, tmp_path: Path, tiny_network: Network, grey_dir: Path, photo_dir: Path
) -> None:
    module, data = _module(tiny_network), _data(grey_dir if grey else photo_dir, patch_size=96)
    _trainer(tmp_path, 5, enable_checkpointing=False).fit(module, data)
    assert module.last_validation is not None
    assert module.last_validation[1] > 15


def test_user_averaging_takes_the_place_of_ours(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    mine = EMA(0.5)
    trainer = _trainer(tmp_path, 2, mine, enable_checkpointing=False)
    trainer.fit(_module(tiny_network), _data(photo_dir))
    assert [c for c in trainer.callbacks if isinstance(c, EMA)] == [mine]  # type: ignore[attr-defined]


def test_training_lowers_the_loss_and_ends_with_the_schedule(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    data = _data(photo_dir)
    data.setup()
    batch = {name: x / 255 for name, x in next(iter(data.train_dataloader())).items()}
    batch["hr"] += 0.2  # a brighter original is learnt in a few steps by any network

    class One(IterableDataset[dict[str, Tensor]]):
        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            while True:
                yield batch

    module = _module(tiny_network, lr=0.02, total_steps=40)
    before = module.training_step(batch, 0).item()
    trainer = _trainer(tmp_path, -1, enable_checkpointing=False, max_epochs=-1)
    trainer.fit(module, DataLoader(One(), batch_size=None))
    assert trainer.global_step == 40  # the schedule's end ends the run
    assert module.training_step(batch, 0).item() < 0.5 * before


class _Poison(L.Callback):
    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, index: int) -> None:
        if index == 5:
            module.network.head.weight.data.fill_(float("nan"))


def test_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    trainer = _trainer(tmp_path, 20, _Poison(), Checkpoints(every_n_steps=4))
    with pytest.raises(AdaPoolError, match=r"loss: is nan at step 6; .* lower --model\.lr"):
        trainer.fit(_module(tiny_network), _data(photo_dir))
    dumped = _load(tmp_path / "nonfinite-6.pt")
    assert dumped["step"] == 6
    assert dumped["batch"]["hr"].dtype == torch.uint8
    assert dumped["batch"]["hr"].shape[-1] == 2 * dumped["batch"]["lr"].shape[-1]
    saved = _load(tmp_path / "last.ckpt")
    assert saved["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in saved["state_dict"].values())


def test_resuming_with_another_network_is_refused(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    _fit(tmp_path, tiny_network, photo_dir, 1)
    other = tiny_network | {"widths": [4, 8]}
    with pytest.raises(ModelFileError, match=r"another network \(widths \[4, 4\] ≠ \[4, 8\]\)"):
        _fit(tmp_path, other, photo_dir, 2, tmp_path / "last.ckpt")


def test_checkpoints_older_than_an_argument_of_the_network_go_on(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    _fit(tmp_path, tiny_network, photo_dir, 1)
    saved = _load(tmp_path / "last.ckpt")
    del saved["adapool_sr"]["config"]["pooled_widths"]
    torch.save(saved, tmp_path / "older.ckpt")
    _fit(tmp_path, tiny_network, photo_dir, 2, tmp_path / "older.ckpt")
    assert _load(tmp_path / "last.ckpt")["global_step"] == 2
    wider = tiny_network | {"pooled_widths": [6]}
    with pytest.raises(ModelFileError, match=r"another network \(pooled_widths \[4\] ≠ \[6\]\)"):
        _fit(tmp_path, wider, photo_dir, 3, tmp_path / "older.ckpt")


def test_resuming_says_that_another_rate_is_not_used(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    _fit(tmp_path, tiny_network, photo_dir, 1)
    module = _module(tiny_network, lr=0.5)
    trainer = _trainer(tmp_path, 2, Checkpoints())
    with pytest.warns(UserWarning, match=r"model\.lr: a resumed run keeps its checkpoint's 0\.001"):
        trainer.fit(module, _data(photo_dir), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 0.001


def test_resuming_says_that_the_photos_are_others(
    tmp_path: Path, tiny_network: Network, photo_dir: Path, grey_dir: Path
) -> None:
    _fit(tmp_path, tiny_network, photo_dir, 1)
    trainer = _trainer(tmp_path, 2, Checkpoints())
    with pytest.warns(UserWarning, match=r"photos was 5 and is 11 now.*--init-from"):
        trainer.fit(
            _module(tiny_network),
            _data(grey_dir),
            ckpt_path=tmp_path / "last.ckpt",
            weights_only=True,
        )


def test_weights_of_another_scale_start_a_network_but_for_its_tail(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    _fit(tmp_path, tiny_network, photo_dir, 2)
    theirs = _load(tmp_path / "last.ckpt")["adapool_sr"]["ema"]
    module = _module(tiny_network | {"scale": 4}, init_from=str(tmp_path / "last.ckpt"))
    ours = module.network.state_dict()
    assert torch.equal(ours["head.weight"], theirs["head.weight"])
    assert module.started_from == (len(ours) - 2, len(ours), ())
    assert ours["tail.weight"].shape[0] == 48


def test_weights_of_another_arrangement_are_taken_with_a_warning(
    tmp_path: Path,
    tiny_network: Network,
    photo_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _fit(tmp_path, tiny_network, photo_dir, 1)
    file = str(tmp_path / "last.ckpt")
    module = _module(tiny_network | {"skip": False, "sharpness": 4}, init_from=file)
    capsys.readouterr()
    trainer = _trainer(tmp_path, 1, Progress(bar=False), enable_progress_bar=True)
    trainer.fit(module, _data(photo_dir))
    words = capsys.readouterr().err
    assert f"from {file}: {len(module.network.state_dict())} of" in words
    assert f"in {file} skip was true and is false, sharpness was 1.0 and is 4: its" in words


def test_weights_of_which_nothing_fits_are_refused(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    _fit(tmp_path, tiny_network, photo_dir, 1)
    # Every tensor has another width but the scalar logits of beta and its like.
    network = {"scale": 4, "widths": [6, 6], "blocks": [0, 1]}
    with pytest.raises(
        ModelFileError, match=r"--init-from .*last\.ckpt: holds no tensor that fits"
    ):
        _module(network, init_from=str(tmp_path / "last.ckpt"))


def test_a_start_that_is_not_there_is_named(tiny_network: Network) -> None:
    with pytest.raises(MissingFileError, match=r"--init-from no\.ckpt: no such file"):
        _module(tiny_network, init_from="no.ckpt")
    with pytest.raises(UnknownModelError, match=r"--init-from nonesuch: .*tiny-x2"):
        _module(tiny_network, init_from="nonesuch")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own compiler's
def test_compiled_steps_give_the_weights_of_plain_ones(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    plain, compiled = (_module(tiny_network, compile=choice) for choice in (False, True))
    for module in (plain, compiled):
        _trainer(tmp_path, 2).fit(module, _data(photo_dir))
    assert compiled._compiled is not None
    for name, tensor in plain.network.state_dict().items():
        assert torch.allclose(compiled.network.state_dict()[name], tensor, atol=1e-5), name


def test_scales_of_data_and_network_must_agree(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    trainer = _trainer(tmp_path, 1, enable_checkpointing=False)
    with pytest.raises(ConfigError, match=r"data\.scale: is 3, but model\.network\.scale is 2"):
        trainer.fit(_module(tiny_network), _data(photo_dir, scale=3, patch_size=48))


def test_gradient_is_clipped_to_its_norm(tiny_network: Network) -> None:
    module = _module(tiny_network, clip_norm=0.5)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.SGD(module.parameters(), 1.0)
    module.configure_gradient_clipping(optimizer, None, None)
    norms = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None])
    assert norms.norm().item() == pytest.approx(0.5, rel=1e-3)
    module.configure_gradient_clipping(optimizer, 0.001, "value")  # the trainer's own wins
    assert all(p.grad.abs().max() <= 0.001 for p in module.parameters() if p.grad is not None)


def test_learning_rate_rises_then_falls_to_the_floor() -> None:
    rates = [learning_rate_factor(s, warmup=4, total=20, floor=0.1) for s in range(30)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[12] == pytest.approx(0.55)
    assert rates[20:] == pytest.approx([0.1] * 10)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_seed_alone_decides_the_first_weights(tiny_network: Network) -> None:
    torch.manual_seed(1)
    one = _module(tiny_network)
    torch.manual_seed(2)
    other = _module(tiny_network)
    third = _module(tiny_network, seed=8)
    weight = "head.weight"
    assert torch.equal(one.network.state_dict()[weight], other.network.state_dict()[weight])
    assert not torch.equal(one.network.state_dict()[weight], third.network.state_dict()[weight])


def test_unknown_network_argument_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.network\.widht: .*did you mean widths\?"):
        SRModule({"widht": [4, 4]})


def test_impossible_network_value_is_refused_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^model\.network: "):
        SRModule({"scale": 0})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0.0),
        ("total_steps", 0),
        ("warmup_steps", -1),
        ("lr_floor", 2.0),
        ("betas", (0.9, 1.0)),
        ("weight_decay", -1.0),
        ("clip_norm", -0.5),
        ("ema_decay", 1.0),
    ],
)
def test_impossible_setting_is_refused(key: str, value: Any, tiny_network: Network) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{key}: must be .*, got"):
        SRModule(tiny_network, **{key: value})


def test_graceful_stop_gives_the_signal_back(
    tmp_path: Path, tiny_network: Network, photo_dir: Path
) -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    trainer = _trainer(tmp_path, 1, GracefulStop(), enable_checkpointing=False)
    trainer.fit(_module(tiny_network), _data(photo_dir))
    assert signal.getsignal(signal.SIGINT) is before
