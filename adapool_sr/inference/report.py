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
    """

    done: int = 0
    skipped: int = 0
    resumed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    decoding: float = 0.0
    network: float = 0.0
    encoding: float = 0.0
    wall: float = 0.0

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
            (self.resumed, "done before"),
            (len(self.failed), "failed"),
        ):
            if count:
                counts.append(f"{count} {what}")
        text = f"{', '.join(counts)} in {self.wall:.1f} s"
        if self.done:
            text += (
                f": decoding {self.decoding:.1f} s, network {self.network:.1f} s, "
                f"encoding {self.encoding:.1f} s; slowest: {self.slowest}"
            )
        return text

    def as_dict(self) -> dict[str, object]:
        """The fields of the ``done`` event."""
        return {
            "done": self.done,
            "skipped": self.skipped,
            "resumed": self.resumed,
            "failed": len(self.failed),
            "seconds": {
                "decoding": round(self.decoding, 3),
                "network": round(self.network, 3),
                "encoding": round(self.encoding, 3),
                "wall": round(self.wall, 3),
            },
            "slowest": self.slowest,
            "exit_status": self.exit_status,
        }
