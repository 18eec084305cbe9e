"""``adapool-sr fit``: LightningCLI with this project's defaults, errors and manners."""

from __future__ import annotations

import difflib
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from adapool_sr.data.modules import SRDataModule
from adapool_sr.files.errors import ConfigError, MissingFileError
from adapool_sr.models.checkpoint import load
from adapool_sr.training.checkpoints import Checkpoints, GracefulStop
from adapool_sr.training.progress import Progress
from adapool_sr.training.samples import SampleImages
from adapool_sr.training.sr import SRModule

__all__ = ["FitCLI", "build", "build_data", "fast_bf16", "print_full_help", "run"]

INTERRUPTED = 130
TERMINATED = 143

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": -1,  # a run counts steps and ends by max_steps or at the schedule's end
    "check_val_every_n_epoch": None,
    "val_check_interval": 1000,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 100,
    "enable_model_summary": False,
    "enable_checkpointing": True,
}


class FitCLI(LightningCLI):
    """LightningCLI for SRModule and SRDataModule, without subcommands; made by :func:`run`."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the words given, whatever ``sys.argv`` holds.

        Raises:
            ConfigError: they name an unknown key, lack one or give an impossible value.
        """
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise _worded(str(error), parser) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--ckpt_path`` and the callbacks that a configuration may set."""
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint to resume from; 'last' or 'best' for one in default_root_dir.",
        )
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(SampleImages, "samples")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer: precision, logger and callbacks where the user said nothing."""
        settings = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        if settings.get("precision") is None:
            settings["precision"] = "bf16-mixed" if fast_bf16() else "32-true"
        root = settings.get("default_root_dir") or "."
        if settings.get("logger") in (None, True):
            settings["logger"] = TensorBoardLogger(
                root, name="logs", version="", default_hp_metric=False
            )
        extra: list[Callback] = [self._get(self.config_init, "samples"), GracefulStop()]
        if settings.get("enable_checkpointing") is not False:
            extra.append(self._get(self.config_init, "checkpoints"))
        self.progress = Progress()
        if settings.pop("enable_progress_bar", None) is False:
            self.progress.disable()
        extra.append(self.progress)
        return self._instantiate_trainer(settings, extra)


class _SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into ``default_root_dir``: what this run was started with."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **_: Any) -> None:
        super().__init__(parser, config, overwrite=True, save_to_log_dir=False)

    def save_config(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Write it."""
        path = Path(trainer.default_root_dir) / self.config_filename
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, path, skip_none=False, overwrite=True, multifile=False)


def run(argv: Sequence[str], *, quiet: bool = False) -> int:
    """Train.

    Args:
        argv: words as LightningCLI takes them: ``-c FILE``, ``--data.root DIR``, ``--model.*`` …
        quiet: print nothing on success.

    Returns:
        Exit status: 0 trained to the end, 130 after Ctrl-C, 143 after SIGTERM; both saved.

    Raises:
        ConfigError: the configuration has an unknown key, lacks one, or has an impossible value.
        AdaPoolError: training failed.
    """
    with warnings.catch_warnings():
        _quieten()
        cli = build(argv, quiet=quiet)
        status = _fit(cli)
        if status == 0 and not quiet:
            print(_summary(cli))
    return status


def print_full_help() -> None:
    """Print every flag and configuration key."""
    with warnings.catch_warnings():
        _quieten()
        FitCLI(**_CLI_OPTIONS, args=["--help"])


_CLI_OPTIONS: dict[str, Any] = {
    "model_class": SRModule,
    "datamodule_class": SRDataModule,
    "save_config_callback": _SaveConfig,
    "trainer_defaults": TRAINER_DEFAULTS,
    "seed_everything_default": 0,
    "parser_kwargs": {
        "exit_on_error": False,
        "prog": "adapool-sr fit",
        "allow_abbrev": False,
        "description": "Train a model; every key below is a flag and a key of the YAML.",
    },
    "run": False,
    "auto_configure_optimizers": False,
    "load_from_checkpoint_support": False,
}


def build(argv: Sequence[str], *, quiet: bool = False) -> FitCLI:
    """Make trainer, module and data without training; for arguments and errors see :func:`run`."""
    words = [*argv, "--trainer.enable_progress_bar=false"] if quiet else list(argv)
    _require_files(words)
    try:
        return FitCLI(**_CLI_OPTIONS, args=words)
    except MisconfigurationException as error:
        raise ConfigError("configuration", " ".join(str(error).split())) from error


def build_data(argv: Sequence[str]) -> SRDataModule:
    """Make the data module alone, as a training with these words would have it.

    Raises:
        ConfigError: the configuration has an unknown key, lacks one, or has an impossible value.
    """
    with warnings.catch_warnings():
        _quieten()
        data: SRDataModule = build(argv, quiet=True).datamodule
    return data


def _fit(cli: FitCLI) -> int:
    trainer = cli.trainer
    resume = _resume_from(cli.config.get("ckpt_path"), Path(trainer.default_root_dir))
    try:
        trainer.fit(
            cli.model,
            cli.datamodule,
            ckpt_path=resume,
            weights_only=None if resume is None else True,
        )
    except SIGTERMException:
        _say_stopped(trainer)
        return TERMINATED
    except SystemExit:  # Lightning's answer to Ctrl-C
        if not trainer.interrupted:
            raise
        _say_stopped(trainer)
        return INTERRUPTED
    except MisconfigurationException as error:
        raise ConfigError("configuration", " ".join(str(error).split())) from error
    return 0


def _say_stopped(trainer: Any) -> None:
    words = f"stopped at step {trainer.global_step}"
    for callback in trainer.callbacks:
        if isinstance(callback, Checkpoints) and callback.saved_step == trainer.global_step:
            words += f": {callback.last_path}; go on with --ckpt_path {callback.last_path}"
    print(words, file=sys.stderr, flush=True)


def _resume_from(given: str | None, root: Path) -> str | None:
    if given is None:
        return None
    path = root / f"{given}.ckpt" if given in ("last", "best") else Path(given)
    if not path.is_file():
        raise MissingFileError(f"--ckpt_path {path}", "does not exist")
    load(path)  # so that a file of another kind is refused in words, before photos are read
    return str(path)


def _summary(cli: FitCLI) -> str:
    """The last line: where the checkpoint is, how good, how fast."""
    trainer: Any = cli.trainer
    saved = [callback for callback in trainer.callbacks if isinstance(callback, Checkpoints)]
    words = [f"{trainer.global_step} steps: {saved[0].last_path}" if saved else "not saved"]
    scores = _final_scores(cli)
    if scores is not None:
        words.append(f"val PSNR {scores[0]:.2f} dB, SSIM {scores[1]:.4f}")
    if saved and saved[0].best_step >= 0:
        words.append(f"best {saved[0].best_psnr:.2f} dB at step {saved[0].best_step}")
    words.append(f"{cli.progress.rate:.1f} it/s")
    return "; ".join(words)


def _final_scores(cli: FitCLI) -> tuple[float, float] | None:
    """PSNR and SSIM of the last step; measured now where the run didn't end in a validation.

    It isn't logged: a run that is stopped and resumed has the log of an unbroken one.
    """
    trainer = cli.trainer
    module: SRModule = cli.model
    if module.last_validation is not None and module.last_validation[0] == trainer.global_step:
        return module.last_validation[1:]
    if trainer.limit_val_batches == 0:
        return None
    scores = [
        pair
        for batch in cli.datamodule.val_dataloader()
        for pair in module.score(module.upscale(batch["lr"]), batch["hr"])
    ]
    psnr, ssim = (sum(values) / len(values) for values in zip(*scores, strict=True))
    return psnr, ssim


def fast_bf16() -> bool:
    """Whether the device that trains multiplies bfloat16 faster than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in known)


def _quieten() -> None:
    """Leave out Lightning's tips and its advice on things that are as they should be."""
    for name in (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.simplefilter("ignore", PossibleUserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for text in (".*treespec.*", ".*does not have many workers.*", ".*ckpt_path.*callbacks.*"):
        warnings.filterwarnings("ignore", text)


def _require_files(words: Sequence[str]) -> None:
    """Say of a missing configuration that it is missing, before anything is parsed."""
    for flag, value in pairwise(words):
        if flag in ("-c", "--config") and not Path(value).is_file():
            raise MissingFileError(f"{flag} {value}", "does not exist")


def _worded(message: str, parser: LightningArgumentParser) -> ConfigError:
    """Word jsonargparse's complaint as this project's: WHAT: WHY; REMEDY."""
    text = " ".join(message.split())
    if found := re.match(r"[Uu]nrecognized arguments: (\S+)", text):
        key = found[1].split("=")[0]
        return ConfigError(key, "is no known key", _nearest(key.lstrip("-"), parser))
    if found := re.search(r"Group '(\S+)' does not accept option '(\S+)'", text):
        key = f"{found[1]}.{found[2]}"
        return ConfigError(key, "is no known key", _nearest(key, parser))
    if found := re.search(r"arguments are required: (.*)", text):
        return ConfigError(f"--{found[1]}", "is required", "see adapool-sr fit --help")
    if found := re.match(r"Parser key \"(\S+)\": (.*)", text):
        why = re.sub(r"<class '(\w+)'>", r"\1", found[2]).replace("typing.", "")
        return ConfigError(found[1], why[:1].lower() + why[1:])
    return ConfigError("configuration", text)


def _nearest(key: str, parser: LightningArgumentParser) -> str:
    group, _, leaf = key.rpartition(".")
    known = [action.dest for action in parser._actions if action.dest != "help"]
    beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == group]
    if near := difflib.get_close_matches(leaf, beside, n=1):
        return f"did you mean {group}.{near[0]}?" if group else f"did you mean {near[0]}?"
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.8):
        return f"did you mean {near[0]}?"
    return "see adapool-sr fit --help-all"
