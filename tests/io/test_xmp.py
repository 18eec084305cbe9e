from __future__ import annotations

import time
from xml.etree import ElementTree

import pytest

from adapool_sr.io.xmp import NAMESPACE, Made, settle_xmp, stamp_xmp


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<x tiff:Orientation="8" a="8"/>', b'<x tiff:Orientation="1" a="8"/>'),
        (b"<tiff:Orientation>6</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b'<x tiff:ImageWidth="8"/>', b'<x tiff:ImageWidth="80"/>'),
        (b"<exif:PixelYDimension>6</x>", b"<exif:PixelYDimension>60</x>"),
        (b"<dc:title>6</dc:title>", b"<dc:title>6</dc:title>"),
    ],
)
def test_xmp_says_upright_and_the_new_size(before: bytes, after: bytes) -> None:
    assert settle_xmp(before, 80, 60) == after


MADE = Made("adapool-sr 1.0", 'a "model" <x2>', "ab12", 1.5)
LIGHTROOM = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    b"<dc:title>t</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def properties(xmp: bytes) -> list[dict[str, str]]:
    tree = ElementTree.fromstring(xmp.split(b"<?xpacket end")[0].split(b"?>\n")[-1])
    return [dict(node.attrib) for node in tree.iter() if "Description" in node.tag]


@pytest.mark.parametrize("packet", [b"", LIGHTROOM])
def test_a_packet_names_tool_model_hash_and_scale_once(packet: bytes) -> None:
    once = stamp_xmp(packet, MADE)
    assert once is not None
    found = properties(once)[-1]
    own = {key.split("}")[1]: value for key, value in found.items() if NAMESPACE in key}
    assert own == {
        "Tool": "adapool-sr 1.0",
        "Model": 'a "model" <x2>',
        "ModelSHA256": "ab12",
        "Scale": "1.5",
    }
    abouts = {value for node in properties(once) for key, value in node.items() if "about" in key}
    assert abouts == {"uuid:1" if packet else ""}
    if packet:
        assert b"<dc:title>t</dc:title>" in once
    assert stamp_xmp(once, MADE) == once
    again = stamp_xmp(once, Made("other", "m", "cd", 2))
    assert again is not None
    assert again.count(b"ModelSHA256") == 1


def test_what_another_program_wrote_anew_is_replaced_too() -> None:
    once = stamp_xmp(LIGHTROOM, MADE)
    assert once is not None
    rewritten = LIGHTROOM.replace(
        b"<dc:title>",
        b'<adapoolsr:Scale xmlns:adapoolsr="x">7</adapoolsr:Scale><dc:title>'.replace(
            b' xmlns:adapoolsr="x"', b""
        ),
    )
    assert stamp_xmp(rewritten, MADE) == once


@pytest.mark.parametrize("packet", [b"<x/>", b"\xff\xfe<\0x\0", b"no xml"])
def test_a_packet_without_a_place_is_left_alone(packet: bytes) -> None:
    assert stamp_xmp(packet, MADE) is None


@pytest.mark.parametrize(
    "piece",
    [
        b" ",
        b"a",
        b"<a:Description xmlns:adapoolsr=",
        b" adapoolsr:a=",
        b"<adapoolsr:a>",
        b":about= ",
    ],
)
def test_no_hostile_packet_takes_long(piece: bytes) -> None:
    start = time.process_time()
    stamp_xmp(settle_xmp(piece * (1_000_000 // len(piece)), 1, 1), MADE)
    assert time.process_time() - start < 3
