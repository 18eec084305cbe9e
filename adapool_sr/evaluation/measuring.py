"""Runs models over sets of pictures exactly as ``upscale`` does, and measures what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapool_sr.evaluation.inputs import CLEAN, Degradation, make_input
from adapool_sr.evaluation.papers import Published, pictures_of, published, standard_name
from adapool_sr.evaluation.sets import Folders, PictureSet, picture_sets
from adapool_sr.evaluation.table import Score, Table, border_for
from adapool_sr.files.errors import AdaPoolError, UnreadableFileError, UsageError
from adapool_sr.imaging.metrics import SSIM_WINDOW, modcrop, psnr_y, ssim_y, to_uint8
from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.backends import SUFFIXES, Loaded, load
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import read
from adapool_sr.models.registry import find

__all__ = ["Candidate", "Trial", "evaluate", "measure", "try_picture"]

Model = nn.Module | Loaded | str | Path


@dataclass(frozen=True)
class Candidate:
    """A model that is to be measured.

    Attributes:
        name: what the table calls it.
        upscaler: made with the factor that is measured.
        trained_on: the folders of pictures that it saw in training, as its file names them.
    """

    name: str
    upscaler: Upscaler
    trained_on: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: nn.Module | Loaded, **options: Any) -> Candidate:
        """Build the Upscaler of a network or a loaded model.

        Args:
            model: a network, or what :func:`adapool_sr.inference.backends.load` returned.
            options: as for :class:`adapool_sr.inference.Upscaler`.

        Raises:
            UsageError: a device, precision, scale or tile that cannot be.
        """
        if isinstance(model, nn.Module):
            return cls(type(model).__name__, Upscaler(model, **options))
        data = model.spec.training.get("data", [])
        folders = [data] if isinstance(data, str) else data if isinstance(data, list) else []
        return cls(model.spec.name, Upscaler(model, **options), tuple(map(str, folders)))


@dataclass(frozen=True, eq=False)
class Trial:
    """What became of one picture.

    Attributes:
        set: the set's name.
        image: the file's path within its set.
        hr: (C, H, W) uint8, the original, cropped to a multiple of the scale.
        lr: (C, h, w) uint8, what the models saw.
        bicubic: (C, H, W) uint8, the input enlarged by bicubic; at scale 1 the input.
        results: (C, H, W) uint8 of each model.
        scores: of each model.
    """

    set: str
    image: str
    hr: Tensor
    lr: Tensor
    bicubic: Tensor
    results: tuple[Tensor, ...]
    scores: tuple[Score, ...]


def evaluate(
    model: Model | Sequence[Model],
    folders: Folders,
    scale: int | None = None,
    *,
    degradation: Degradation = CLEAN,
    **options: Any,
) -> Table:
    """Measure one model or several on folders of high-resolution pictures, against bicubic.

    Args:
        model: a network, what :func:`adapool_sr.inference.backends.load` returned, a name
            ("tiny-x2", "tiny") or a file; or several.
        folders: a folder, several, or names to folders.
        scale: the factor to measure; the model's own by default.
        degradation: what is done to the inputs beside shrinking.
        options: device, precision, tile and self_ensemble, as for
            :class:`adapool_sr.inference.Upscaler`.

    Returns:
        The table; print its ``text()``.

    Raises:
        MissingFileError: a folder or the model's file does not exist or is empty.
        UsageError: an unknown model, device, precision or scale.
        ModelFileError: a file that is no model.

    Example::

        print(evaluate("tiny-x2", {"Set5": "sets/Set5"}).text())
    """
    sets = picture_sets(folders)
    several = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    candidates = [Candidate.of(_loaded(each, scale), scale=scale, **options) for each in several]
    return measure(candidates, sets, degradation)


def measure(
    candidates: Sequence[Candidate],
    sets: Sequence[PictureSet],
    degradation: Degradation = CLEAN,
    on_trial: Callable[[Trial], None] | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Table:
    """Measure models on sets of pictures; all see the same inputs.

    Args:
        candidates: at least one; names and scales as :func:`check_candidates` has them.
        sets: from :func:`adapool_sr.evaluation.picture_sets`.
        degradation: what is done to the inputs beside shrinking.
        on_trial: called after each picture.
        on_failure: called with file and reason for a picture that can't be measured; the others
            go on.

    Raises:
        UsageError: a scale that is not whole, two scales, or two models of one name.
    """
    scale = _common_scale(candidates)
    scores: list[Score] = []
    failed: list[tuple[str, str]] = []
    for group in sets:
        for path in group.paths:
            try:
                trial = try_picture(candidates, group, path, scale, degradation)
            except (AdaPoolError, OSError) as error:
                failed.append((str(path), str(error)))
                if on_failure is not None:
                    on_failure(*failed[-1])
                continue
            scores += trial.scores
            if on_trial is not None:
                on_trial(trial)
    rows, notes = ([], []) if degradation != CLEAN else _published(sets, scale)
    return Table(
        [candidate.name for candidate in candidates],
        scale,
        scores,
        failed,
        how=_how(candidates[0].upscaler),
        degraded=degradation.words,
        published=rows,
        notes=notes + _training_notes(candidates, sets),
    )


def try_picture(
    candidates: Sequence[Candidate],
    group: PictureSet,
    path: Path,
    scale: int,
    degradation: Degradation = CLEAN,
) -> Trial:
    """Shrink a picture, enlarge it again by every model and by bicubic, and measure all.

    Args:
        candidates: whose Upscalers are of this scale.
        group: the set it belongs to.
        path: the picture.
        scale: a whole number.
        degradation: what is done to the input beside shrinking.

    Raises:
        UnreadableFileError: the picture can't be read or is too small to be measured.
    """
    image = path.relative_to(group.folder).as_posix()
    border = border_for(scale)
    hr = to_uint8(read(path).pixels)
    least = SSIM_WINDOW + 2 * border
    if min(side - side % scale for side in hr.shape[-2:]) < least:
        size = f"{hr.shape[-1]}x{hr.shape[-2]}"
        raise UnreadableFileError(
            str(path), f"is too small to measure at x{scale}: {size}, {least}x{least} are needed"
        )
    hr = modcrop(hr, scale)
    picture = make_input(hr, scale, degradation, image)
    lr = to_uint8(picture.pixels)
    bicubic = imresize(lr, scale) if scale > 1 else lr
    baseline = psnr_y(bicubic, hr, border), ssim_y(bicubic, hr, border)
    results, scores = [], []
    for candidate in candidates:
        sr = candidate.upscaler.upscale_picture(picture).pixels
        figures = psnr_y(sr, hr, border), ssim_y(sr, hr, border)
        results.append(sr)
        scores.append(Score(group.name, image, candidate.name, *figures, *baseline))
    return Trial(group.name, image, hr, lr, bicubic, tuple(results), tuple(scores))


def _loaded(model: Model, scale: int | None) -> nn.Module | Loaded:
    if not isinstance(model, str | Path):
        return model
    is_file = isinstance(model, Path) or model.endswith(SUFFIXES)
    return load(Path(model) if is_file else find(str(model), scale))


def _common_scale(candidates: Sequence[Candidate]) -> int:
    scales = sorted({candidate.upscaler.scale for candidate in candidates})
    if len(scales) > 1:
        listed = " and ".join(f"{scale:g}" for scale in scales)
        raise UsageError("-s", f"the models have the scales {listed}", "say which: -s 2")
    scale = round(scales[0])
    if scale != scales[0] or scale < 1:
        raise UsageError("scale", f"must be whole and at least 1, got {scales[0]:g}")
    names = [candidate.name for candidate in candidates]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"model '{name}'", "is there twice", "name each once")
    return scale


def _how(upscaler: Upscaler) -> str:
    words = [str(upscaler.device), str(upscaler.precision).removeprefix("torch.")]
    words.append("whole" if upscaler.tile == 0 else f"tiles {upscaler.tile}")
    if upscaler.self_ensemble:
        words.append("self-ensemble of eight")
    if upscaler.look.consistent:
        words.append("made consistent with the input")
    return ", ".join(words)


def _published(sets: Sequence[PictureSet], scale: int) -> tuple[list[Published], list[str]]:
    """The papers' rows for these sets, and why a set has none or must be doubted."""
    names, notes = [], []
    for group in sets:
        standard = standard_name(group.name)
        if standard is None:
            continue
        if "srf_2" in str(group.folder).lower() and standard == "Urban100":
            notes.append(
                f"{group.folder}: SelfExSR's Urban100 for SRF_2 holds originals of half the size; "
                "papers measure the full ones"
            )
        if len(group.paths) == pictures_of(standard):
            names.append(standard)
        else:
            notes.append(
                f"{group.name} has {len(group.paths)} pictures here, {pictures_of(standard)} in "
                "papers: their figures are left out"
            )
    return published(names, scale), notes


def _training_notes(candidates: Sequence[Candidate], sets: Sequence[PictureSet]) -> list[str]:
    return [
        f"{candidate.name} was trained on {group.name}, by its file: {', '.join(seen)}"
        for candidate in candidates
        for group in sets
        if (seen := [each for each in candidate.trained_on if _is_of(each, group.name)])
    ]


def _is_of(folder: str, name: str) -> bool:
    """Whether a folder of training pictures is, or lies in, one of a set's name."""
    wanted = standard_name(name) or name.lower()
    return any((standard_name(part) or part.lower()) == wanted for part in Path(folder).parts)
