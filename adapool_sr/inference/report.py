"""The :class:`Report` of a run: it counts files, words the last line, gives the exit status."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Report"]


@dataclass
class Report:
    """What became of the files of a run.

    Attributes:
        done: enlarged and written.
        skipped: left alone because their output stood there (``--skip``).
        resumed: finished by the interrupted run that this one continued.
        failed: the others, each with what went wrong.
        decoding: seconds of reading and decoding, over all readers.
        network: seconds of the network and the resizes around it.
        encoding: seconds of encoding and writing, over all writers.
        wall: seconds from the first file's start to the last one's end.
        larger: left alone because they have the wanted size already (``--skip-larger``).
        verified: pictures and the dB of their results against them (``--verify``).
        off: how many of these differ from their input by more than they may.
        pixels: of the results.
    """

    done: int = 0
    skipped: int = 0
    resumed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    decoding: float = 0.0
    network: float = 0.0
    encoding: float = 0.0
    wall: float = 0.0
    larger: int = 0
    verified: list[tuple[str, float]] = field(default_factory=list)
    off: int = 0
    pixels: int = 0

    @property
    def exit_status(self) -> int:
        """0 if every file is done, skipped or resumed; 3 if some failed."""
        return 3 if self.failed else 0

    @property
    def slowest(self) -> str:
        """The stage that took the most seconds: "decoding", "network" or "encoding"."""
        stages = ("network", "encoding", "decoding")
        return max(stages, key=lambda stage: float(getattr(self, stage)))

    def words(self) -> str:
        """The last line of a run."""
        counts = [f"{self.done} done"]
        for count, what in (
            (self.skipped, "skipped"),
            (self.larger, "skipped as large enough"),
            (self.resumed, "done before"),
            (len(self.failed), "failed"),
        ):
            if count:
                counts.append(f"{count} {what}")
        text = f"{', '.join(counts)} in {self.wall:.1f} s"
        if self.pixels:
            text += (
                f" ({self.images_per_second:.2f} images/s, "
                f"{self.megapixels_per_second:.2f} megapixels/s)"
            )
        if self.done:
            text += (
                f": decoding {self.decoding:.1f} s, network {self.network:.1f} s, "
                f"encoding {self.encoding:.1f} s; slowest: {self.slowest}"
            )
        if self.lowest is not None:
            name, psnr = self.lowest
            text += f"; lowest {psnr:.1f} dB against its input: {name}"
            text += f", {self.off} of them off by more than 4 %" if self.off else ""
        return text

    @property
    def images_per_second(self) -> float:
        """Results a second of the whole run."""
        return self.done / self.wall if self.wall else 0.0

    @property
    def megapixels_per_second(self) -> float:
        """Of the results, a second of the whole run."""
        return self.pixels / 1e6 / self.wall if self.wall else 0.0

    @property
    def lowest(self) -> tuple[str, float] | None:
        """The picture whose result is furthest from it, and its dB."""
        return min(self.verified, key=lambda entry: entry[1], default=None)

    def as_dict(self) -> dict[str, object]:
        """The fields of the ``done`` event."""
        return {
            "done": self.done,
            "skipped": self.skipped,
            "resumed": self.resumed,
            "skipped_larger": self.larger,
            "failed": len(self.failed),
            "seconds": {
                "decoding": round(self.decoding, 3),
                "network": round(self.network, 3),
                "encoding": round(self.encoding, 3),
                "wall": round(self.wall, 3),
            },
            "slowest": self.slowest,
            "images_per_second": round(self.images_per_second, 3),
            "megapixels_per_second": round(self.megapixels_per_second, 3),
            **({"verified": len(self.verified), "off": self.off} if self.verified else {}),
            "exit_status": self.exit_status,
        }
