"""What a run will take, before any work: sizes from the headers, tiles, memory, disk and time."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from adapool_sr.files.errors import AdaPoolError, UsageError
from adapool_sr.files.writing import standing_folder
from adapool_sr.inference.family import Family
from adapool_sr.inference.memory import available_bytes
from adapool_sr.inference.planning import Job
from adapool_sr.inference.tiles import plan_tiles
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.decoding import probe
from adapool_sr.io.images import Picture, read, to_bytes
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS

if sys.platform != "win32":
    import resource

__all__ = ["Extent", "Forecast", "check_room", "fitting_jobs", "forecast", "survey"]

# Bytes of a pixel of photos enlarged by tiny-x2: means over 8 pictures of Set14 and the samples
# (png 1.6, from 0.6 to 2.3; jpg of quality 95 0.5; webp of quality 90 0.24, lossless 1.2); the
# others hold their pixels nearly raw.
_BYTES = {"png": 1.6, "jpg": 0.5, "webp": 0.3, "avif": 0.3}
_RAW_BYTES = 3.0
_LOSSLESS_WEBP = 1.2
_LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".heic"})
# A PNG's result takes nearly as many bytes a pixel as its input: 0.9 on the same pictures.
_OF_ITS_OWN = 0.9

# What each picture costs beside its pixels (opening, flushing to the disk, one call of the
# network), as pixels that tiny-x2 reads in that time: about 10 ms at 1 megapixel a second.
_EACH = 10_000

_HEADER_READERS = 8  # they wait for the disk, not for a processor
_TRIAL_SIDE = 384


@dataclass(frozen=True)
class Extent:
    """A picture and its result.

    Attributes:
        width: of the input, pixels.
        height: of the input.
        format: of the input, as in "png", "jpeg".
        columns: of the result.
        rows: of the result.
        work: pixels that the network reads for it, over all passes.
        tiles: calls of the network, a pass after the other.
        size: about how many bytes the result's file has.
        held: bytes that reader and network hold for it at most, but for the tiles.
        large_enough: it will be left alone (``--skip-larger``); the result counts for nothing.
    """

    width: int
    height: int
    format: str
    columns: int
    rows: int
    work: int
    tiles: int
    size: int
    held: int
    large_enough: bool = False

    @property
    def weight(self) -> int:
        """The part of a run that the picture is, in pixels: its work and what each costs."""
        return _EACH + self.work


def survey(
    jobs: Sequence[Job], upscaler: Upscaler | Family, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[str, Extent]:
    """Read the headers of a run's inputs.

    Args:
        jobs: of the run.
        upscaler: made with the factor or size that is wanted.
        max_pixels: as for :func:`adapool_sr.io.decoding.probe`.

    Returns:
        By the jobs' names; those whose header cannot be read, or whose result no memory holds,
        are absent.
    """

    def one(job: Job) -> tuple[str, Extent | None]:
        try:
            width, height, _, form = probe(job.source, max_pixels)
            chosen = upscaler.choose(height, width, form)
            chosen.check_size(height, width, job.name)
            return job.name, _extent(job, chosen, height, width, form)
        except (AdaPoolError, OSError):  # it is named when its turn comes
            return job.name, None

    with ThreadPoolExecutor(_HEADER_READERS, "probe") as readers:
        return {name: extent for name, extent in readers.map(one, jobs) if extent is not None}


def _extent(job: Job, upscaler: Upscaler, height: int, width: int, form: str) -> Extent:
    way = upscaler.route(height, width)
    engine = upscaler.engine
    turns = 8 if upscaler.self_ensemble else 1
    work = tiles = 0
    for number in range(way.passes if upscaler.look.strength else 0):
        grown = upscaler.model_scale**number
        rows, columns = height * grown, width * grown
        work += turns * rows * columns
        side = engine.tile_for(rows, columns)
        cut = plan_tiles(rows, columns, side, multiple=engine.multiple, radius=engine.radius)
        tiles += turns * len(cut)
    # uint8 and float32 of the input; the result quantised tile by tile, or float32 first.
    grown_bytes = 3 if way.exact and upscaler.look.plain and turns == 1 else 12
    held = 15 * height * width + grown_bytes * height * width * way.grown**2
    return Extent(
        width=width,
        height=height,
        format=form,
        columns=way.columns,
        rows=way.rows,
        work=work,
        tiles=tiles,
        size=round(way.rows * way.columns * _bytes_of_a_pixel(job, height * width)),
        held=held,
        large_enough=upscaler.size is not None and upscaler.size.skips(height, width),
    )


def _bytes_of_a_pixel(job: Job, pixels: int) -> float:
    """Of a result's file, guessed from its format and its input's bytes."""
    usual = _BYTES.get(job.kind, _RAW_BYTES)
    if not isinstance(job.source, Path):
        return usual
    suffix = job.source.suffix.lower()
    if job.kind == "webp" and suffix not in _LOSSY_SUFFIXES:
        return _LOSSLESS_WEBP
    if job.kind == "png" and suffix == ".png":
        return min(2 * usual, _OF_ITS_OWN * job.source.stat().st_size / pixels)
    return usual


def check_room(jobs: Sequence[Job], extents: Mapping[str, Extent]) -> tuple[int, int | None]:
    """Refuse results for which the disk has no room, before any work.

    Args:
        jobs: that are to be done; outputs that they replace give their room back.
        extents: from :func:`survey`.

    Returns:
        Bytes that the results take more than what they replace, about, and bytes free there;
        None for standard output.

    Raises:
        UsageError: says how much is forecast and how much is free.
    """
    targets = [job.target for job in jobs if job.target is not None]
    if not targets:
        return sum(extent.size for extent in extents.values()), None
    wanted = sum(
        extents[job.name].size
        for job in jobs
        if job.name in extents and not extents[job.name].large_enough
    )
    replaced = sum(target.stat().st_size for target in targets if target.is_file())
    place = standing_folder(targets[0])
    free = shutil.disk_usage(place).free
    needed = max(0, wanted - replaced)
    if needed > free:
        raise UsageError(
            f"output '{place}'",
            f"has {free / 1e6:,.0f} MB free, and results of about {needed / 1e6:,.0f} MB are "
            "forecast",
            "free some space, or choose another disk, a smaller factor or --format jpg",
        )
    return needed, free


def fitting_jobs(extents: Collection[Extent], most: int, free: int | None = None) -> int:
    """How many readers and writers may hold pictures at once, by the memory that is free.

    Args:
        extents: of the run's pictures.
        most: the number wanted.
        free: bytes; None for what is free now.
    """
    free = available_bytes(torch.device("cpu")) if free is None else free
    jobs = most
    while jobs > 1 and _held(extents, jobs) > free / 2:
        jobs -= 1
    return jobs


def _held(extents: Collection[Extent], jobs: int) -> int:
    """Bytes of the pictures that a run holds at once, if the largest ones meet."""
    largest = sorted((extent.held for extent in extents), reverse=True)
    written = sorted((4 * e.rows * e.columns + e.size for e in extents), reverse=True)
    return sum(largest[: jobs + 1]) + sum(written[:jobs])


@dataclass(frozen=True)
class Forecast:
    """An estimate of a run.

    Attributes:
        seconds: of the whole run; None where no picture could be tried.
        memory: bytes of the process at most.
        available: bytes that a process may take now.
    """

    seconds: float | None
    memory: int
    available: int


def forecast(
    jobs: Sequence[Job],
    extents: Mapping[str, Extent],
    upscaler: Upscaler | Family,
    readers: int,
    quality: int | None = None,
) -> Forecast:
    """Estimate a run by decoding one picture of it and enlarging and encoding a part of that.

    Args:
        jobs: that are to be done.
        extents: from :func:`survey`.
        upscaler: as for :func:`survey`.
        readers: and as many writers.
        quality: as for :func:`adapool_sr.io.images.to_bytes`.
    """
    due = [job for job in jobs if job.name in extents and not extents[job.name].large_enough]
    found = [extents[job.name] for job in due]
    seconds = _seconds(due, found, upscaler, quality) if due else 0.0
    largest = max(found, key=lambda extent: extent.width * extent.height, default=None)
    network = 0
    if largest is not None:
        chosen = upscaler.choose(largest.height, largest.width, largest.format)
        if chosen.device.type == "cpu" and largest.work:
            network = chosen.engine.bytes_for(largest.height, largest.width)
    memory = _taken() + network + _held(found, readers)
    return Forecast(seconds, memory, available_bytes(torch.device("cpu")))


def _taken() -> int:
    """Bytes that this process has held by now: the libraries and the model are among them."""
    if sys.platform == "win32":
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) of each
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _seconds(
    jobs: Sequence[Job],
    extents: Sequence[Extent],
    upscaler: Upscaler | Family,
    quality: int | None,
) -> float | None:
    order = sorted(range(len(jobs)), key=lambda index: extents[index].work)
    middle = order[len(order) // 2]
    job, extent = jobs[middle], extents[middle]
    chosen = upscaler.choose(extent.height, extent.width, extent.format)
    begun = time.perf_counter()
    try:
        picture = read(job.source, extent.width * extent.height)
    except AdaPoolError:
        return None
    decoding = (time.perf_counter() - begun) / (extent.width * extent.height)
    network, encoding = _try(picture, chosen, job.kind, quality)
    work = network * sum(extent.work for extent in extents)
    other = decoding * sum(extent.width * extent.height for extent in extents)
    other += encoding * sum(extent.columns * extent.rows for extent in extents)
    other /= max(1, torch.get_num_threads())  # they overlap, but share the processors
    return work + other if chosen.device.type == "cpu" else max(work, other)


@torch.inference_mode()
def _try(picture: Picture, upscaler: Upscaler, kind: str, quality: int | None) -> tuple[float, ...]:
    """Seconds a pixel of the network's input, and of the encoded result."""
    part = picture.pixels[:, :_TRIAL_SIDE, :_TRIAL_SIDE].contiguous()
    run = upscaler.engine.trial
    run(part[:, :64, :64])
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        result = run(part)
        times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    try:
        to_bytes(Picture(result, None), kind, quality)
    except AdaPoolError:  # a format that does not take this part: only the estimate suffers
        return statistics.median(times) / part[0].numel(), 0.0
    encoding = (time.perf_counter() - begun) / result[0].numel()
    return statistics.median(times) / part[0].numel(), encoding
