"""``adapool-sr prepare``: checks a data set, gets or draws a free one, or shows samples."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from adapool_sr.cli._common import PROG, positive_int, say
from adapool_sr.files.errors import UsageError
from adapool_sr.files.extras import require

NAME = "prepare"
HELP = (
    "check a data set's folder, get free pictures, or preview training samples\n\n"
    "NAME is set5, set14, b100, urban100, manga109 (to evaluate on), div2k, flickr2k, bsds, t91\n"
    "(to train on), debian-photos, which is fetched: 0.7 GB, on Debian 12, or dead-leaves, which\n"
    "is drawn: shapes over shapes in the colours and textures of a training's photos."
)
EXAMPLE = """\
adapool-sr prepare div2k sets/DIV2K
adapool-sr prepare debian-photos photos --no-copyleft
adapool-sr prepare dead-leaves leaves -c configs/sr_x2_tiny.yaml --data.root photos
adapool-sr prepare --preview 8 sheet.png -c configs/sr_x2_tiny.yaml --data.root photos"""

__all__ = ["EXAMPLE", "HELP", "NAME", "add_arguments", "run"]

SETS = ("set5", "set14", "b100", "urban100", "manga109", "div2k", "flickr2k", "bsds", "t91")
FETCHED = "debian-photos"
DRAWN = "dead-leaves"
DRAWN_COUNT = 160

_DATA_FLAGS = (
    ("root", "DIR", "folder of photos, or a list: '[DIR, DIR]'"),
    ("lr_root", "DIR", "folder of their low resolutions"),
    ("degradation", "YAML", "bicubic, second_order, or a mapping: '{kind: second_order, …}'"),
    ("scale", "N", "the factor"),
    ("patch_size", "N", "side of a patch of the high resolution"),
    ("holdout", "LIST", "patterns of file names to leave out"),
    ("seed", "N", "seed of the samples or of the drawing"),
)
_DRAWN_FLAGS = ("root", "holdout", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the set")
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, help="where it lies")
    parser.add_argument(
        "--no-copyleft", action="store_true", help="debian-photos without GPL, LGPL and CC-BY-SA"
    )
    parser.add_argument(
        "--preview",
        nargs=2,
        metavar=("N", "OUT.png"),
        help="draw N samples of a training: HR, LR, and how it was degraded",
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        action="append",
        default=[],
        help="the training's configuration, for --preview and dead-leaves",
    )
    for key, metavar, text in _DATA_FLAGS:
        flag = f"--data.{key}".replace("_", "-")
        parser.add_argument(flag, dest=f"data.{key}", metavar=metavar, help=text)
    parser.add_argument(
        "--count",
        type=positive_int,
        metavar="N",
        help=f"how many pictures of {DRAWN} there shall be (default: {DRAWN_COUNT})",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.png")


def run(args: argparse.Namespace) -> int:
    """Check, fetch or draw.

    Raises:
        UsageError: neither a set nor --preview is asked for, or both, or a flag of another of them.
    """
    if args.preview is not None:
        if args.name is not None:
            raise UsageError(args.name, "stands beside --preview", "give one of the two")
        _refuse_flags_of_others(args, "")
        return _preview(args)
    if args.name is None or args.folder is None:
        raise UsageError("NAME DIR", "are required", "see adapool-sr prepare --help")
    name = _set_name(args.name)
    _refuse_flags_of_others(args, name)
    if name == DRAWN:
        return _draw(args)
    if name == FETCHED:
        return _fetch(args)
    return _check(name, args.folder, args.quiet)


def _set_name(given: str) -> str:
    """The set's name as it is known."""
    name = given.lower().replace("_", "-")
    every = (*SETS, FETCHED, DRAWN)
    if name not in every:
        import difflib

        near = difflib.get_close_matches(name, every, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"one of: {', '.join(every)}"
        raise UsageError(given, "is no known set", remedy)
    return name


def _refuse_flags_of_others(args: argparse.Namespace, name: str) -> None:
    """Refuse the flags that say nothing about this set, or with no name about --preview."""
    if args.no_copyleft and name != FETCHED:
        raise UsageError("--no-copyleft", f"belongs to {FETCHED}", "leave it out")
    if args.count is not None and name != DRAWN:
        raise UsageError("--count", f"belongs to {DRAWN}", "leave it out")
    if args.overwrite and name:
        raise UsageError("--overwrite", "belongs to --preview", "leave it out")
    if not name:
        return
    given = [key for key, _, _ in _DATA_FLAGS if getattr(args, f"data.{key}") is not None]
    if name != DRAWN and (args.config or given):
        raise UsageError("-c, --data.*", f"belong to --preview and {DRAWN}", "leave them out")
    for key in given:
        if key not in _DRAWN_FLAGS:
            flag = f"--data.{key}".replace("_", "-")
            raise UsageError(flag, "belongs to --preview", "leave it out")


def _check(name: str, folder: Path, quiet: bool) -> int:
    from tqdm import tqdm

    from adapool_sr.data.prepare import check_set

    silent = quiet or not sys.stderr.isatty()
    with tqdm(unit="picture", disable=silent, leave=False) as bar:
        findings = check_set(name, folder, bar.update)
    for file, why in findings.failed:
        say(f"{PROG}: error: {file}: {why}")
    if not quiet:
        print("\n".join(findings.found))
        if not findings.failed:
            print("\n".join(f"use: {line}" for line in findings.use))
    if findings.failed:
        say(f"{findings.good} good, {len(findings.failed)} failed")
    return findings.exit_status


def _fetch(args: argparse.Namespace) -> int:
    from adapool_sr.data.debian_photos import fetch_photos

    done, troubles = fetch_photos(
        args.folder, args.no_copyleft, lambda text: say(text, quiet=args.quiet)
    )
    for text in troubles:
        say(f"{PROG}: error: {text}")
    if not args.quiet:
        area = sum(int(row["width"]) * int(row["height"]) for row in done) / 1e6
        print(f"{len(done)} photos, {area:.1f} megapixels; {args.folder / 'manifest.tsv'}")
    if troubles:
        say(f"{len(done)} done, {len(troubles)} failed")
    return 0 if not troubles else 3 if done else 1


def _draw(args: argparse.Namespace) -> int:
    words = _training_words(args, f"adapool-sr prepare {DRAWN}")

    from tqdm import tqdm

    from adapool_sr.data.folders import find_images, refuse_evaluation_pictures
    from adapool_sr.data.leaves import write_leaves
    from adapool_sr.training.main import build_data

    data = build_data(words)
    photos = find_images(data.root, data.holdout)[0]
    refuse_evaluation_pictures(photos)
    count = args.count or DRAWN_COUNT
    silent = args.quiet or not sys.stderr.isatty()
    with tqdm(total=count, unit="picture", disable=silent, leave=False) as bar:
        written = write_leaves(args.folder, photos, count, data.seed or 0, bar.update)
    if not args.quiet:
        kept = f", {count - written} stood there" if written < count else ""
        print(f"{args.folder}: {written} pictures drawn{kept}")
    return 0


def _training_words(args: argparse.Namespace, command: str) -> list[str]:
    """The configuration's words as ``fit`` takes them."""
    require(command, "train", "lightning", "jsonargparse", "tensorboard")
    words = [word for path in args.config for word in ("--config", path)]
    for key, _, _ in _DATA_FLAGS:
        value = getattr(args, f"data.{key}")
        if value is not None:
            words.append(f"--data.{key}={value}")
    return words


def _preview(args: argparse.Namespace) -> int:
    from adapool_sr.files.errors import OutputExistsError
    from adapool_sr.files.writing import check_writable, whole

    text, out = args.preview[0], Path(args.preview[1])
    try:
        count = positive_int(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError("--preview", str(error), "for example: --preview 8 sheet.png") from error
    if out.suffix.lower() != ".png":
        raise UsageError(str(out), "is not named .png", "give a PNG's name")
    check_writable(out)
    if out.exists() and not args.overwrite:
        raise OutputExistsError(str(out), "exists", "choose another name or --overwrite")
    words = _training_words(args, "adapool-sr prepare --preview")

    from adapool_sr.data.preview import sheet
    from adapool_sr.training.main import build_data

    data = build_data(words)
    data.setup("fit")
    with whole(out) as file:
        sheet(data.sample_rule(), count).save(file, "PNG")
    if not args.quiet:
        print(f"{out}: {count} samples")
    return 0
