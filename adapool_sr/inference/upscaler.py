"""The :class:`Upscaler`: a network, a device and a factor, for pictures of any size."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from adapool_sr.files.errors import UsageError
from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.alpha import bleed, bleed_evenly, hold_flat, is_flat
from adapool_sr.inference.backends import SUFFIXES, OtherModel
from adapool_sr.inference.backends import load as load_model
from adapool_sr.inference.crops import Crop
from adapool_sr.inference.engine import Engine, Meter, Progress, ShouldStop, Stopped, as_dtype
from adapool_sr.inference.ensemble import TURNS, self_ensembled
from adapool_sr.inference.look import Look, Wrap
from adapool_sr.inference.memory import available_bytes
from adapool_sr.inference.pieces import Pieces
from adapool_sr.inference.sizes import Route, Size, route
from adapool_sr.inference.tiles import Box
from adapool_sr.inference.verifying import FARTHEST, Verdict, compare
from adapool_sr.io.decoding import array_of
from adapool_sr.io.encoding import image_of
from adapool_sr.io.images import Picture, from_array, quantise, to_array

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapool_sr.models.checkpoint import LoadedModel

__all__ = ["Stopped", "Upscaler"]


class Upscaler:
    """Enlarges pictures with a network, tile by tile where they are large.

    Args:
        model: a network with ``scale``, ``size_multiple`` and ``receptive_radius`` (and, if it
            cannot do all that ours can, ``limits``), or what
            :func:`adapool_sr.inference.backends.load` returned. It is copied.
        scale: the factor wanted, any positive number; None is the network's. Where it is
            another, the network runs as often as is needed to reach it and one exact
            bicubic resize follows; below 1 the resize alone.
        size: the size wanted instead of a factor, as in ``Size(fit=(1920, 1080))``.
        device: "auto", "cpu", "cuda", "cuda:1" or any name that torch knows.
        precision: "auto", "fp32", "bf16" or "fp16" of the convolutions; the picture that
            they refine stays float32. With "auto" pictures of 16 bits are done in float32:
            bfloat16 moved a smooth ramp by 27/65535, float32 by 13.
        tile: the side of a tile in input pixels, 0 for none, "auto" for the largest that
            fits the memory there is.
        self_ensemble: run the eight flips and turns of every picture and take their mean in
            float, before the one rounding: a little better, and eight times the work.
        strength: s of bicubic + s·(network − bicubic) in float, 0 to 2; 0 runs no network.
        wrap: "x", "y" or "xy": on these axes the picture goes on with its other end. A network
            that pools by m runs m times an axis, so that rolling the input by n rolls the
            result by n·scale, to 1e-5 in fp32.
        consistent: change the result by the least that makes the exact resize to the input's
            size give the input (results larger than their input).

    Attributes:
        scale: the factor of the results; the network's own where ``size`` decides.
        size: as it was given.
        model_scale: the network's own factor.
        look: strength, wrap and consistent.
        self_ensemble: whether the eight flips and turns are averaged.
        spec: what is known of the model; None for a bare network.
        engine: runs the network.

    Raises:
        UsageError: a device, precision, scale, tile, strength or wrap that cannot be.

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
        size: Size | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | Literal["auto"] = "auto",
        self_ensemble: bool = False,
        strength: float = 1.0,
        wrap: Wrap = "",
        consistent: bool = False,
    ) -> None:
        network = model if isinstance(model, nn.Module) else model.network
        self.spec = None if isinstance(model, nn.Module) else model.spec
        self.model_scale = int(cast(int, network.scale))
        self.scale = float(scale if scale is not None else self.model_scale)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError("scale", f"must be a number above 0, got {scale}")
        if scale is not None and size is not None:
            raise UsageError("scale and size", "contradict each other", "give one")
        self.size = size
        self.look = Look(strength, wrap, consistent)
        self.engine = Engine(network, device, precision, tile)
        self.self_ensemble = self_ensemble
        self._pieces = Pieces(self.engine, self.look, self_ensemble)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.engine.device

    @property
    def precision(self) -> torch.dtype:
        """The number format of the convolutions."""
        return self.engine.precision

    @property
    def tile(self) -> int | Literal["auto"]:
        """The side of a tile in input pixels, 0 for none."""
        return self.engine.tile

    @property
    def redone(self) -> int:
        """Tiles that came out non-finite and were done again in float32."""
        return self.engine.redone

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

    def compare(self, result: Picture, picture: Picture) -> Verdict:
        """Shrink a result to its input's size and say how far it is from it.

        Args:
            result: what :meth:`upscale_picture` made of it. The verdict is about its colours,
                or about its alpha where that is far off.
            picture: the input.
        """
        pixels, alpha = picture.pixels, picture.alpha
        if alpha is None or result.alpha is None:
            return compare(result.pixels, pixels, self.look.wrap)
        colours = compare(result.pixels, self._bled(pixels, alpha), self.look.wrap)
        mask = compare(result.alpha, alpha, self.look.wrap)
        if mask.worst <= FARTHEST:
            return colours
        # The bicubic of a mask with hard edges is as far from it as the mask is ragged.
        usual = compare(self._bicubic_alpha(alpha, None), alpha, self.look.wrap)
        return colours if mask.worst <= usual.worst + FARTHEST else mask

    def choose(self, height: int, width: int, form: str) -> Upscaler:
        """The Upscaler for pictures of this size and format: this one (a Family chooses)."""
        return self

    def route(self, height: int, width: int) -> Route:
        """How an input of this size gets to its result's."""
        return route(height, width, self.size or self.scale, self.model_scale)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for an input of this size: rounded, at least 1."""
        way = self.route(height, width)
        return way.rows, way.columns

    def check_size(self, height: int, width: int, name: str) -> None:
        """Refuse, before any work, a result that the memory there is cannot hold.

        Args:
            height: of the input.
            width: of the input.
            name: the input, for the message.

        Raises:
            UsageError: says how much it needs and how much there is.
        """
        way = self.route(height, width)
        pixels = 3 * height * width * way.grown**2
        # Quantised tile by tile where the network's factor is the one wanted; else float32
        # first, and the exact resize computes in float64. Flips hold the mean and two copies; so
        # do the places of a wrapped picture.
        first = 1 if way.exact and self.look.plain else 4
        first = 12 if self.self_ensemble or self.look.wrap else first
        needed = first * pixels + (0 if way.exact else 8 * 3 * way.rows * way.columns)
        if self.look.strength != 1:
            needed += 12 * 3 * way.rows * way.columns
        if self.look.consistent:  # one colour at a time in float64, and its change
            needed += 24 * way.rows * way.columns
        free = available_bytes(torch.device("cpu"))
        if needed > free:
            what = f"-s {self.scale:g}" if self.size is None else f"size {self.size}"
            raise UsageError(
                what,
                f"makes {way.columns}x{way.rows} pixels of {name}, which takes "
                f"{needed / 1e9:.1f} GB of memory where {free / 1e9:.1f} GB are free",
                "use a smaller factor" if self.size is None else "use a smaller size",
            )

    def tile_for(self, height: int, width: int) -> int:
        """Side of the tiles that an input of this size is cut into; 0 where it stays whole."""
        return self.engine.tile_for(height, width)

    @torch.inference_mode()
    def upscale_tensor(
        self,
        x: Tensor,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
        *,
        crop: Crop | None = None,
    ) -> Tensor:
        """Enlarge pictures held as a tensor.

        Args:
            x: (C, H, W) or (N, C, H, W), float in 0..1, C = 1 (grey) or 3 (RGB), any size
                from 1x1; on any device.
            progress: called as ``progress(done, total)`` after each tile, in pixels.
            should_stop: asked before each tile.
            crop: a piece of the pictures: no more than it needs is run, and its result is that
                piece of the whole result, to 1e-4 in fp32.

        Returns:
            float32 in 0..1 on the CPU, with x's number of dimensions; height and width as
            :meth:`size_of` says, or those of the piece.

        Raises:
            UsageError: a piece that is not in the picture.
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
        meter = Meter(progress, should_stop, len(pictures))
        results = [self._enlarge(each, torch.float32, meter, crop) for each in pictures]
        return results[0] if x.dim() == 3 else torch.stack(results)

    @torch.inference_mode()
    def upscale_picture(
        self,
        picture: Picture,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
        *,
        crop: Crop | None = None,
    ) -> Picture:
        """Enlarge a picture with its alpha, quantised once to the picture's bit depth.

        Colours bleed under transparent pixels first; alpha is enlarged by the same network,
        and what is flat in it stays exactly as it is.

        Args:
            picture: float pixels, as :func:`adapool_sr.io.read` gives them.
            progress: as for :meth:`upscale_tensor`.
            should_stop: as for :meth:`upscale_tensor`.
            crop: as for :meth:`upscale_tensor`.

        Returns:
            The picture with uint8 or uint16 pixels and alpha; all else is the input's.

        Raises:
            Stopped: ``should_stop`` returned True.
        """
        pixels, alpha = picture.pixels, picture.alpha
        planes = 1 if alpha is None or is_flat(alpha) else 2
        deep = picture.bit_depth != 8
        precision = self.engine.deep_precision if deep else self.precision
        meter = Meter(progress, should_stop, planes, precision)
        if alpha is not None:
            pixels = self._bled(pixels, alpha)
            alpha = quantise(self._alpha(alpha, meter, crop), picture.bit_depth)
        dtype = torch.uint16 if deep else torch.uint8
        return replace(picture, pixels=self._enlarge(pixels, dtype, meter, crop), alpha=alpha)

    def bicubic_picture(self, picture: Picture, crop: Crop | None = None) -> Picture:
        """As :meth:`upscale_picture`, with bicubic in the network's place."""
        way = self.route(picture.height, picture.width)
        pixels, alpha = picture.pixels, picture.alpha
        if alpha is not None:
            pixels = self._bled(pixels, alpha)
            alpha = quantise(self._bicubic_alpha(alpha, crop), picture.bit_depth)
        made = self._pieces.bicubic(pixels, way, self._box(crop, way))
        return replace(picture, pixels=quantise(made, picture.bit_depth), alpha=alpha)

    def __call__(self, image: Any, *, crop: Crop | None = None) -> Any:
        """Enlarge one picture and return it as the kind that it came as.

        Args:
            image: a PIL image of any mode; a NumPy array (H, W) or (H, W, C), C from 1 to 4,
                uint8, uint16 or float in 0..1; or a tensor as for :meth:`upscale_tensor`.
            crop: as for :meth:`upscale_tensor`.

        Returns:
            A PIL image of mode L, LA, RGB, RGBA or I;16; an array of the same dtype and
            number of dimensions; or a float32 tensor.

        Raises:
            TypeError: something else.
        """
        if isinstance(image, Tensor):
            return self.upscale_tensor(image, crop=crop)
        if isinstance(image, np.ndarray):
            flat = image.ndim == 2
            result = self._array(image[:, :, None] if flat else image, crop)
            return result[:, :, 0] if flat else result
        if hasattr(image, "getbands"):
            return self._pil(image, crop)
        raise TypeError(f"image must be a PIL image, array or tensor, got {type(image).__name__}")

    def _array(self, image: np.ndarray[Any, Any], crop: Crop | None) -> np.ndarray[Any, Any]:
        picture = from_array(image)
        if np.issubdtype(image.dtype, np.floating):
            pixels = picture.pixels
            if picture.alpha is not None:
                pixels = self._bled(pixels, picture.alpha)
            planes = self.upscale_tensor(pixels, crop=crop)
            if picture.alpha is not None:
                planes = torch.cat([planes, self._alpha(picture.alpha, Meter(), crop)])
            return planes.numpy().transpose(1, 2, 0).astype(image.dtype)
        return to_array(self.upscale_picture(picture, crop=crop))

    def _pil(self, image: Image, crop: Crop | None) -> Image:
        return image_of(self._array(array_of(image, "image"), crop))

    def _enlarge(self, x: Tensor, dtype: torch.dtype, meter: Meter, crop: Crop | None) -> Tensor:
        """(C, H, W) float to its result of dtype, clamped (and rounded, if it is integer)."""
        way = self.route(x.shape[1], x.shape[2])
        if crop is not None or not self.look.plain:
            # Half types would lose what the bicubic beside the network keeps.
            x = x.detach().cpu().to(torch.promote_types(x.dtype, torch.float32))
            return as_dtype(self._pieces.make(x, way, self._box(crop, way), meter), dtype)
        turns = TURNS if self.self_ensemble else 1
        pixels = sum(x[0].numel() * self.model_scale ** (2 * k) for k in range(way.passes))
        meter.expect(turns * pixels)
        direct = way.exact and way.passes > 0
        if self.self_ensemble:
            x = self_ensembled(
                x, lambda seen: self.engine.run_passes(seen, way.passes, torch.float32, meter)
            )
        else:
            x = self.engine.run_passes(x, way.passes, dtype if direct else torch.float32, meter)
        if not direct:
            x = imresize(x.cpu(), size=(way.rows, way.columns), rounded=False)
        return as_dtype(x, dtype)

    @torch.inference_mode()
    def _alpha(self, alpha: Tensor, meter: Meter, crop: Crop | None) -> Tensor:
        """An alpha plane (1, H, W) enlarged as its colours are, float32 in 0..1."""
        way = self.route(alpha.shape[1], alpha.shape[2])
        box = self._box(crop, way)
        if is_flat(alpha):
            return alpha[:, :1, :1].float().expand(1, box.height, box.width)
        made = self._enlarge(alpha, torch.float32, meter, crop)
        if self.look.strength == 0 or self.look.consistent:
            return made  # exact there already
        return hold_flat(made, alpha.float(), (way.rows, way.columns), box, self.look.wrap)

    def _bicubic_alpha(self, alpha: Tensor, crop: Crop | None) -> Tensor:
        """An alpha plane (1, H, W) enlarged by exact bicubic, float32 in 0..1."""
        way = self.route(alpha.shape[1], alpha.shape[2])
        return self._pieces.bicubic(alpha, way, self._box(crop, way))

    def _box(self, crop: Crop | None, way: Route) -> Box:
        if crop is None:
            return Box(0, 0, way.rows, way.columns)
        crop.check(way.height, way.width)
        return crop.place(way)

    def _bled(self, pixels: Tensor, alpha: Tensor) -> Tensor:
        """The pixels with colours under transparent ones, as far as the network sees."""
        if not self.look.wrap:
            return bleed(pixels, alpha)
        return bleed_evenly(pixels, alpha, self.engine.radius, self.look.wrap)
