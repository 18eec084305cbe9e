"""``adapool-sr fit``: train a model."""

from __future__ import annotations

import argparse
import os

from adapool_sr.cli._common import available_cpus
from adapool_sr.files.errors import UsageError
from adapool_sr.files.extras import require

NAME = "fit"
HELP = (
    "Train a model on folders of photos. Every key of the configuration is a flag too\n"
    "(--model.lr 5e-4, --trainer.max_steps 100); --help-all lists them."
)
EXAMPLE = """\
adapool-sr fit -c configs/sr_x2_tiny.yaml --data.root photos
adapool-sr fit -c configs/sr_x2_tiny.yaml --data.root photos --ckpt_path last"""

PASSES_UNKNOWN = True  # the keys of the configuration, which LightningCLI knows

_FLAGS = (
    ("--data.root", "DIR", "photos to train on: a folder, DIV2K=DIR, or a list: '[DIR, DIR]'"),
    ("--data.lr_root", "DIR", "folder of their low resolutions (default: made by bicubic)"),
    ("--data.degradation", "D", "bicubic, second_order, or '{kind: second_order, jpeg: …}'"),
    ("--data.val", "DIR", "folder of photos to validate on (default: some of the root's)"),
    ("--trainer.max_steps", "N", "stop after N steps (default: at the schedule's end)"),
    ("--trainer.default_root_dir", "DIR", "where checkpoints and logs go"),
    ("--trainer.precision", "P", "32-true, bf16-mixed … (default: what the processor is fast at)"),
    ("--model.total_steps", "N", "length of the schedule, whenever the run stops"),
    ("--init_from", "MODEL", "begin with the weights of a model, .safetensors or .ckpt"),
    ("--ckpt_path", "FILE", "checkpoint to resume from; 'last' or 'best' in default_root_dir"),
    ("--seed_everything", "N", "seed of weights and samples"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that are used most; the others pass through to LightningCLI."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        action="append",
        default=[],
        help="configuration, such as configs/sr_x2_tiny.yaml; flags win over it",
    )
    for flag, metavar, text in _FLAGS:
        spellings = [flag] if "." in flag else [flag, flag[:2] + flag[2:].replace("_", "-")]
        parser.add_argument(*spellings, dest=flag, metavar=metavar, help=text)
    parser.add_argument(
        "--help-all", "--help_all", action="store_true", help="show every flag and key, and exit"
    )


def run(args: argparse.Namespace) -> int:
    """Train, as LightningCLI's words say.

    Raises:
        MissingExtraError: Lightning is not installed.
        UsageError: there is no configuration and no data.
    """
    require("adapool-sr fit", "train", "lightning", "jsonargparse", "tensorboard")
    words = [word for path in args.config for word in ("--config", path)]
    for flag, _, _ in _FLAGS:
        value = getattr(args, flag)
        if value is not None:
            words += [f"{'--model.init_from' if flag == '--init_from' else flag}={value}"]
    words += args.extra
    if args.help_all:
        from adapool_sr.training.main import print_full_help

        print_full_help()
        return 0
    if not words:
        raise UsageError("-c", "is required", "for example: -c configs/sr_x2_tiny.yaml")

    import torch

    from adapool_sr.inference.memory import reuse_memory
    from adapool_sr.training.main import run as train

    reuse_memory()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cpus())
    return train(words, quiet=args.quiet)
