"""The :class:`Upscaler`: a network, a device and a factor, for pictures of any size."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from adapool_sr.files.errors import AdaPoolError, UsageError
from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.alpha import bleed, hold_flat, is_flat
from adapool_sr.inference.backends import SUFFIXES, Limits, OtherModel
from adapool_sr.inference.backends import load as load_model
from adapool_sr.inference.devices import choose_device, choose_precision
from adapool_sr.inference.ensemble import TURNS, self_ensembled
from adapool_sr.inference.memory import available_bytes, bytes_per_pixel, largest_tile
from adapool_sr.inference.tiles import Tile, halo_for, plan_tiles, split
from adapool_sr.io.decoding import array_of
from adapool_sr.io.encoding import image_of
from adapool_sr.io.images import Picture, from_array, quantise, to_array

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapool_sr.models.checkpoint import LoadedModel

__all__ = ["Stopped", "Upscaler"]

Progress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]

_FORMATS = (torch.float32, torch.bfloat16, torch.float16)

# Windows up to this many pixels are run whole without asking how much memory there is: the
# networks that ship need some 100 MB for it.
_ALWAYS_WHOLE = 256 * 256


class Stopped(Exception):
    """The caller's ``should_stop`` said so; nothing was returned."""


class Upscaler:
    """Enlarges pictures with a network, tile by tile where they are large.

    Args:
        model: a network with ``scale``, ``size_multiple`` and ``receptive_radius`` (and, if it
            cannot do all that ours can, ``limits``), or what
            :func:`adapool_sr.inference.backends.load` returned. It is copied.
        scale: the factor wanted, any positive number; None is the network's. Where it is
            another, the network runs as often as is needed to reach it and one exact
            bicubic resize follows.
        device: "auto", "cpu", "cuda", "cuda:1" or any name that torch knows.
        precision: "auto", "fp32", "bf16" or "fp16" of the convolutions; the picture that
            they refine stays float32. With "auto" pictures of 16 bits are done in float32:
            bfloat16 moved a smooth ramp by 27/65535, float32 by 13.
        tile: the side of a tile in input pixels, 0 for none, "auto" for the largest that
            fits the memory there is.
        self_ensemble: run the eight flips and turns of every picture and take their mean in
            float, before the one rounding: a little better, and eight times the work.

    Attributes:
        scale: the factor of the results.
        model_scale: the network's own.
        device: where it runs.
        precision: the number format of the convolutions.
        tile: as it was given.
        self_ensemble: whether the eight flips and turns are averaged.
        spec: what is known of the model; None for a bare network.
        redone: tiles that came out non-finite and were done again in float32.

    Raises:
        UsageError: a device, precision, scale or tile that cannot be.

    Example:
        >>> upscaler = Upscaler.from_pretrained("tiny-x2")
        >>> upscaler(np.zeros((5, 4, 3), np.uint8)).shape
        (10, 8, 3)
    """

    def __init__(
        self,
        model: nn.Module | LoadedModel | OtherModel,
        *,
        scale: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | Literal["auto"] = "auto",
        self_ensemble: bool = False,
    ) -> None:
        network = model if isinstance(model, nn.Module) else model.network
        self.spec = None if isinstance(model, nn.Module) else model.spec
        self.model_scale = int(cast(int, network.scale))
        self.scale = float(scale if scale is not None else self.model_scale)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError("scale", f"must be a number above 0, got {scale}")
        if tile != "auto" and (isinstance(tile, str) or tile < 0):
            raise UsageError("tile", f"must be 'auto', 0 or pixels, got {tile!r}")
        limits = cast(Limits, getattr(network, "limits", Limits()))
        self.device = choose_device("cpu" if limits.cpu_only and device == "auto" else device)
        if limits.cpu_only and self.device.type != "cpu":
            raise UsageError(f"device '{device}'", "is not for this model", "use cpu")
        self.precision = choose_precision(precision, self.device, limits.precisions)
        self._deep_precision = torch.float32 if precision == "auto" else self.precision
        self.self_ensemble = self_ensemble
        self.redone = 0
        self._multiple = int(cast(int, network.size_multiple))
        self._radius = int(cast(int, network.receptive_radius))
        self.tile: int | Literal["auto"] = 0 if limits.untiled and tile == "auto" else tile
        self._largest_core = 2**62  # input pixels; shrinks when the device runs out of memory
        self._pixel_bytes = dict.fromkeys(_FORMATS, limits.pixel_bytes)
        self._network = copy.deepcopy(network).eval().to(self.device)
        # mypy: nn.Module.to has no overload with a memory format alone
        self._network = cast(Any, self._network).to(memory_format=torch.channels_last)
        self._passes = 1
        while self.model_scale > 1 and self.model_scale**self._passes < self.scale - 1e-9:
            self._passes += 1

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> Upscaler:
        """Load a model by name ("tiny-x2", "tiny") or from a file, and build its Upscaler.

        Args:
            name_or_path: a Path, or a text that ends in .safetensors, .ckpt, .pth, .pt or
                .onnx, is a file; any other text is the name of a model that ships.
            options: as for the class.

        Raises:
            UnknownModelError: no model of that name.
            MissingFileError: no such file.
            MissingExtraError: a file that only an absent extra can run.
            ModelFileError: a file that is no model, or a damaged one.
        """
        from adapool_sr.models.registry import find

        if isinstance(name_or_path, Path) or name_or_path.endswith(SUFFIXES):
            return cls(load_model(Path(name_or_path)), **options)
        return cls(load_model(find(name_or_path, None)), **options)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for an input of this size: rounded, at least 1."""
        return (
            max(1, math.floor(height * self.scale + 0.5)),
            max(1, math.floor(width * self.scale + 0.5)),
        )

    def check_size(self, height: int, width: int, name: str) -> None:
        """Refuse, before any work, a result that the memory there is cannot hold.

        Args:
            height: of the input.
            width: of the input.
            name: the input, for the message.

        Raises:
            UsageError: says how much it needs and how much there is.
        """
        high, wide = self.size_of(height, width)
        pixels = 3 * height * width * self.model_scale ** (2 * self._passes)
        exact = self.model_scale**self._passes == self.scale
        # Quantised tile by tile where the network's factor is the one wanted; else float32
        # first, and the exact resize computes in float64. Flips hold the mean and two copies.
        first = 12 if self.self_ensemble else 1 if exact else 4
        needed = first * pixels + (0 if exact else 8 * 3 * high * wide)
        free = available_bytes(torch.device("cpu"))
        if needed > free:
            raise UsageError(
                f"-s {self.scale:g}",
                f"makes {wide}x{high} pixels of {name}, which takes {needed / 1e9:.1f} GB of "
                f"memory where {free / 1e9:.1f} GB are free",
                "use a smaller factor",
            )

    def tile_for(self, height: int, width: int, precision: torch.dtype | None = None) -> int:
        """Side of the tiles that an input of this size is cut into; 0 where it stays whole."""
        if self.tile != "auto":
            return self.tile if max(height, width) > self.tile else 0
        if height * width <= _ALWAYS_WHOLE:
            return 0
        precision = precision or self.precision
        pixel_bytes = self._pixel_bytes[precision]
        if pixel_bytes is None:
            pixel_bytes = bytes_per_pixel(self._network, 3, self.device, precision)
            self._pixel_bytes[precision] = pixel_bytes
        side = largest_tile(
            available_bytes(self.device),
            pixel_bytes,
            halo=halo_for(self._radius, self._multiple),
            multiple=self._multiple,
            on_cpu=self.device.type == "cpu",
        )
        return side if max(height, width) > side else 0

    @torch.inference_mode()
    def upscale_tensor(
        self,
        x: Tensor,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Tensor:
        """Enlarge pictures held as a tensor.

        Args:
            x: (C, H, W) or (N, C, H, W), float in 0..1, C = 1 (grey) or 3 (RGB), any size
                from 1x1; on any device.
            progress: called as ``progress(done, total)`` after each tile, in pixels.
            should_stop: asked before each tile.

        Returns:
            float32 in 0..1 on the CPU, with x's number of dimensions; height and width as
            :meth:`size_of` says.

        Raises:
            ValueError: another shape, or an empty picture.
            TypeError: integers.
            Stopped: ``should_stop`` returned True.
        """
        if x.dim() not in (3, 4) or x.shape[-3] not in (1, 3) or x.numel() == 0:
            raise ValueError(
                f"x must be (C, H, W) or (N, C, H, W), not empty, C 1 or 3, got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(f"x must be of a float type in 0..1, got {x.dtype}")
        pictures = x.reshape(-1, *x.shape[-3:])
        work = self._work(*x.shape[-2:]) * len(pictures)
        meter = _Meter(work, progress, should_stop, self.precision)
        results = [self._enlarge(each, torch.float32, meter) for each in pictures]
        return results[0] if x.dim() == 3 else torch.stack(results)

    @torch.inference_mode()
    def upscale_picture(
        self,
        picture: Picture,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Picture:
        """Enlarge a picture with its alpha, quantised once to the picture's bit depth.

        Colours bleed under transparent pixels first; alpha is enlarged by the same network,
        and what is flat in it stays exactly as it is.

        Args:
            picture: float pixels, as :func:`adapool_sr.io.read` gives them.
            progress: as for :meth:`upscale_tensor`.
            should_stop: as for :meth:`upscale_tensor`.

        Returns:
            The picture with uint8 or uint16 pixels and alpha; all else is the input's.

        Raises:
            Stopped: ``should_stop`` returned True.
        """
        pixels, alpha = picture.pixels, picture.alpha
        planes = 1 if alpha is None or is_flat(alpha) else 2
        work = planes * self._work(picture.height, picture.width)
        precision = self.precision if picture.bit_depth == 8 else self._deep_precision
        meter = _Meter(work, progress, should_stop, precision)
        if alpha is not None:
            pixels = bleed(pixels, alpha)
            alpha = quantise(self._enlarge_alpha(alpha, meter), picture.bit_depth)
        dtype = torch.uint8 if picture.bit_depth == 8 else torch.uint16
        return replace(picture, pixels=self._enlarge(pixels, dtype, meter), alpha=alpha)

    def __call__(self, image: Any) -> Any:
        """Enlarge one picture and return it as the kind that it came as.

        Args:
            image: a PIL image of any mode; a NumPy array (H, W) or (H, W, C), C from 1 to 4,
                uint8, uint16 or float in 0..1; or a tensor as for :meth:`upscale_tensor`.

        Returns:
            A PIL image of mode L, LA, RGB, RGBA or I;16; an array of the same dtype and
            number of dimensions; or a float32 tensor.

        Raises:
            TypeError: something else.
        """
        if isinstance(image, Tensor):
            return self.upscale_tensor(image)
        if isinstance(image, np.ndarray):
            flat = image.ndim == 2
            result = self._array(image[:, :, None] if flat else image)
            return result[:, :, 0] if flat else result
        if hasattr(image, "getbands"):
            return self._pil(image)
        raise TypeError(f"image must be a PIL image, array or tensor, got {type(image).__name__}")

    def _array(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        picture = from_array(image)
        if np.issubdtype(image.dtype, np.floating):
            planes = self.upscale_tensor(picture.pixels)
            if picture.alpha is not None:
                alpha = self._enlarge_alpha(picture.alpha, _Meter(1, None, None, self.precision))
                planes = torch.cat([planes, alpha])
            return planes.numpy().transpose(1, 2, 0).astype(image.dtype)
        return to_array(self.upscale_picture(picture))

    def _pil(self, image: Image) -> Image:
        return image_of(self._array(array_of(image, "image")))

    def _work(self, height: int, width: int) -> int:
        """Pixels that the network reads in all its passes."""
        turns = TURNS if self.self_ensemble else 1
        passes = range(self._passes)
        return sum(turns * height * width * self.model_scale ** (2 * k) for k in passes)

    def _enlarge(self, x: Tensor, dtype: torch.dtype, meter: _Meter) -> Tensor:
        """(C, H, W) float to (C, sH, sW) of dtype, clamped (and rounded, if it is integer)."""
        size = self.size_of(x.shape[1], x.shape[2])
        exact = self.model_scale**self._passes == self.scale
        if self.self_ensemble:
            x = self_ensembled(x, lambda turned: self._run_passes(turned, torch.float32, meter))
        else:
            x = self._run_passes(x, dtype if exact else torch.float32, meter)
        if exact:
            return _as(x, dtype)
        x = imresize(x, size=size, rounded=False)
        return x.clamp_(0, 1) if dtype == torch.float32 else _as(x, dtype)

    @torch.inference_mode()
    def _enlarge_alpha(self, alpha: Tensor, meter: _Meter) -> Tensor:
        """(1, H, W) float to (1, sH, sW) float32."""
        if is_flat(alpha):
            size = self.size_of(alpha.shape[1], alpha.shape[2])
            return alpha[:, :1, :1].float().expand(1, *size)
        return hold_flat(self._enlarge(alpha, torch.float32, meter), alpha)

    def _run_passes(self, x: Tensor, dtype: torch.dtype, meter: _Meter) -> Tensor:
        """(C, h, w) float through all passes; the last one's result is of ``dtype``."""
        for index in range(self._passes):
            last = index == self._passes - 1
            x = self._pass(x, dtype if last else torch.float32, meter)
        return x

    def _pass(self, x: Tensor, dtype: torch.dtype, meter: _Meter) -> Tensor:
        """Run the network once over a whole picture (C, H, W), tile by tile."""
        channels, height, width = x.shape
        scale = self.model_scale
        result = torch.empty(channels, height * scale, width * scale, dtype=dtype)
        geometry = {"multiple": self._multiple, "radius": self._radius}
        tiles = plan_tiles(height, width, self.tile_for(height, width, meter.precision), **geometry)
        tiles.reverse()
        while tiles:
            meter.check()
            tile = tiles.pop()
            smaller = split(tile, height, width, **geometry)
            if smaller and tile.core.area > self._largest_core:
                tiles += reversed(smaller)
                continue
            try:
                y = self._run(x, tile, meter.precision)
            except RuntimeError as error:
                if not _is_out_of_memory(error) or not smaller:
                    raise
                self._largest_core = tile.core.area - 1
                tiles += reversed(smaller)
                continue
            place = tile.place(scale)
            result[:, place.top : place.bottom, place.left : place.right] = _as(y, dtype)
            meter.add(tile.core.area)
        return result

    def _run(self, x: Tensor, tile: Tile, precision: torch.dtype) -> Tensor:
        """The network's output (C, h, w) for a tile's core, clamped float32 on the CPU."""
        window = tile.window
        seen = x[:, window.top : window.bottom, window.left : window.right].to(
            self.device, torch.float32
        )
        batch = seen.expand(3, -1, -1)[None].contiguous(memory_format=torch.channels_last)
        y = self._forward(batch, precision)
        if precision != torch.float32 and not math.isfinite(float(y.sum())):
            self.redone += 1
            y = self._forward(batch, torch.float32)
        crop = tile.crop(self.model_scale)
        y = y[0, :, crop.top : crop.bottom, crop.left : crop.right]
        if not math.isfinite(float(y.sum())):
            raise AdaPoolError(
                "model", "gave values that are not numbers, in float32 too", "use another model"
            )
        if x.shape[0] == 1:  # three equal channels went in
            y = y.mean(0, keepdim=True)
        return y.clamp(0, 1).cpu()

    def _forward(self, batch: Tensor, precision: torch.dtype) -> Tensor:
        reduced = precision != torch.float32
        with torch.autocast(self.device.type, precision, enabled=reduced):
            return cast(Tensor, self._network(batch)).float()


class _Meter:
    """Progress over all tiles of a call, the caller's wish to stop, and the number format."""

    def __init__(
        self,
        total: int,
        progress: Progress | None,
        should_stop: ShouldStop | None,
        precision: torch.dtype,
    ) -> None:
        self.precision = precision
        self._done, self._total = 0, total
        self._progress, self._should_stop = progress, should_stop

    def check(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise Stopped

    def add(self, pixels: int) -> None:
        self._done += pixels
        if self._progress is not None:
            self._progress(self._done, self._total)


def _as(y: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype == torch.float32:
        return y.to(dtype)
    return quantise(y, 8 if dtype == torch.uint8 else 16)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator raises a plain RuntimeError with these words (c10/core/impl/alloc_cpu).
    words = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in words
        or "could not create a memory object" in words
    )
