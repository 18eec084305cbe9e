"""XMP packets: made true of an upright picture of another size, and told what enlarged it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

__all__ = ["NAMESPACE", "Made", "settle_xmp", "stamp_xmp"]

#: Of the properties Tool, Model, ModelSHA256 and Scale that a result's XMP has.
NAMESPACE = "urn:adapool-sr:xmp:1:"

_PREFIX = "adapoolsr"
# Patterns begin with what is rare, so that none takes long on a hostile packet.
_OWN_BLOCK = re.compile(rb"<\w+:Description xmlns:adapoolsr=\"[^\"<>]*\"[^<>]*/>")
# The same properties after another program has written the packet anew.
_OWN_PROPERTIES = re.compile(
    rb"<adapoolsr:\w+>[^<]*</adapoolsr:\w+>|\sadapoolsr:\w+\s*=\s*(?:\"[^\"]*\"|'[^']*')"
)
_END = re.compile(rb"</(\w+:)RDF\s*>")
_ABOUT = re.compile(rb":about\s*=\s*(\"[^\"]*\"|'[^']*')")
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
    b'</x:xmpmeta>\n<?xpacket end="w"?>'
)


@dataclass(frozen=True)
class Made:
    """What made a picture.

    Attributes:
        tool: program and version.
        model: the model's name, or "bicubic" where no network ran.
        sha256: of its tensors, in hexadecimal; "" without a network.
        scale: the factor.
    """

    tool: str
    model: str
    sha256: str
    scale: float


def settle_xmp(xmp: bytes, width: int, height: int) -> bytes:
    """Return an XMP packet whose orientation and size, where it states them, are right.

    Args:
        xmp: a packet.
        width: pixels of the upright result.
        height: pixels of the result.
    """
    for names, value in (
        (b"tiff:Orientation", b"1"),
        (b"tiff:ImageWidth|exif:PixelXDimension", b"%d" % width),
        (b"tiff:ImageLength|exif:PixelYDimension", b"%d" % height),
    ):
        xmp = re.sub(rb"((?:" + names + rb")\s*=\s*[\"'])\d+", rb"\g<1>" + value, xmp)
        xmp = re.sub(rb"(<(?:" + names + rb")>\s*)\d+", rb"\g<1>" + value, xmp)
    return xmp


def stamp_xmp(xmp: bytes, made: Made) -> bytes | None:
    """Return a packet that says what made the picture; what it said of that before is replaced.

    Args:
        xmp: a packet; an empty one is made.
        made: what to say.

    Returns:
        The packet, or None if it has no place where this could stand.
    """
    xmp = _OWN_PROPERTIES.sub(b"", _OWN_BLOCK.sub(b"", xmp or _EMPTY))
    ends = list(_END.finditer(xmp))
    if not ends:
        return None
    end = ends[-1]
    about = _ABOUT.search(xmp)  # all descriptions of a packet are of the same thing
    values = {
        "Tool": made.tool,
        "Model": made.model,
        "ModelSHA256": made.sha256,
        "Scale": f"{made.scale:g}",
    }
    prefix = end[1].decode("ascii", "replace")
    words = "".join(
        f" {_PREFIX}:{name}={quoteattr(value)}" for name, value in values.items() if value
    )
    subject = about[1].decode("utf-8", "replace") if about else '""'
    block = f'<{prefix}Description xmlns:{_PREFIX}="{NAMESPACE}" {prefix}about={subject}{words}/>'
    return xmp[: end.start()] + block.encode() + xmp[end.start() :]
