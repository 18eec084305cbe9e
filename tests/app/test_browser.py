"""The page in a real browser: what a visitor does, and that nothing leaves the machine."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "datasets" / "samples" / "colosseum.png"
LIMIT = 30_000_000  # --max-pixels of the server

Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def server(serve: Any) -> Iterator[Any]:
    with serve("--max-pixels", str(LIMIT)) as running:
        yield running
        assert running.outgoing.read_text() == ""
        assert "Traceback" not in running.errors.read_text()
    assert running.files() == []  # SIGTERM deletes everything


@pytest.fixture
def visit(browser: Any, server: Any) -> Iterator[Visit]:
    """``visit(width=1200, height=900) -> page``; fails on a request to another host."""
    contexts, requests, troubles = [], [], []

    def open_page(width: int = 1200, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console",
            lambda message: troubles.append(message.text) if message.type == "error" else None,
        )
        page.goto(server.url)
        page.wait_for_selector(".ap-drop")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert foreign(requests) == []
    assert requests
    assert troubles == []


def foreign(urls: list[str]) -> list[str]:
    """Those that leave the machine."""
    local = [urlparse(url) for url in urls]
    return [
        url.geturl()
        for url in local
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname != "127.0.0.1"
    ]


def choose(page: Any, path: Path) -> None:
    page.set_input_files(".ap-drop input", str(path))
    page.wait_for_selector(f"#status :text('{path.name}')")


def upscale(page: Any, path: Path) -> None:
    choose(page, path)
    page.click("#run")
    page.wait_for_selector("#status :text('Done.')", timeout=120_000)
    page.wait_for_function(
        "[...document.querySelectorAll('.ap-layer > img:first-child')]"
        ".every(image => image.complete && image.naturalWidth) "
        "&& document.querySelectorAll('.ap-layer > img').length >= 2"
    )


def download(page: Any) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.click(".ap-download")
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def command(run_cli: Any, path: Path, folder: Path, *words: str) -> Path:
    """The command's own result for a file."""
    folder.mkdir(exist_ok=True)
    done = run_cli("upscale", "-i", path, "-o", f"{folder}/", "--overwrite", *words)
    assert done.returncode == 0, done.stderr
    (result,) = folder.iterdir()
    return result


def shot(page: Any, selector: str = ".ap-port") -> np.ndarray[Any, Any]:
    """What an element looks like, (H, W, 3) uint8."""
    content = page.locator(selector).screenshot()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def beside(page: Any, result: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """What the slider shows at 1:1, and the same part of the result: (H, W, 3) int each."""
    seen = shot(page)
    place = page.evaluate(
        """() => {
          const box = (name) => document.querySelector(name).getBoundingClientRect();
          return [box(".ap-port").left - box(".ap-after").left,
            box(".ap-port").top - box(".ap-after").top];
        }"""
    )
    left, top = (math.floor(value) for value in place)  # as a screenshot of it is cut
    seen = seen[max(0, -top) :, max(0, -left) :].astype(int)
    truth = result[max(0, top) :, max(0, left) :].astype(int)
    height, width = (min(a, b) for a, b in zip(seen.shape[:2], truth.shape[:2], strict=True))
    return seen[:height, :width], truth[:height, :width]


def pixels(path: Path | bytes) -> np.ndarray[Any, Any]:
    stream = io.BytesIO(path) if isinstance(path, bytes) else path
    return np.asarray(Image.open(stream))


def photo(folder: Path, name: str, size: tuple[int, int], **options: Any) -> Path:
    """A photo of any size, and name, under which Pillow saves it with the options."""
    path = folder / name
    Image.open(PHOTO).resize(size, Image.Resampling.BICUBIC).save(path, **options)
    return path


def test_from_the_upload_to_a_download_that_equals_the_commands(
    visit: Visit, server: Any, run_cli: Any, tmp_path: Path
) -> None:
    page = visit()
    page.screenshot(path=tmp_path / "empty.png")
    assert page.locator("#run").is_disabled()
    choose(page, PHOTO)
    wanted = hashlib.sha256(PHOTO.read_bytes()).hexdigest()
    arrived = [path for path in server.files() if "pages" in path.parts]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in arrived] == [wanted]
    start = time.monotonic()
    upscale(page, PHOTO)
    print(f"512x384 x2 in the page: {time.monotonic() - start:.2f} s")
    name, content = download(page)
    assert name == "colosseum.png"
    result = command(run_cli, PHOTO, tmp_path / "command")
    assert np.array_equal(pixels(content), pixels(result))
    assert content == result.read_bytes()

    page.locator(".ap-compare input[type=range]").fill("300")
    page.screenshot(path=tmp_path / "slider.png", full_page=True)
    clip = page.locator(".ap-after").evaluate("layer => layer.style.clipPath")
    width = page.locator(".ap-after").evaluate("layer => layer.clientWidth")
    assert float(re.findall(r"([\d.]+)px", clip)[-1]) == pytest.approx(0.3 * width, abs=1)


def test_before_and_after_stand_on_their_sides_of_the_line(
    visit: Visit, run_cli: Any, tmp_path: Path
) -> None:
    page = visit()
    upscale(page, PHOTO)
    page.click(".ap-zoom")
    line = page.locator(".ap-line").bounding_box()
    page.mouse.move(line["x"], line["y"] + 60)
    page.mouse.down()
    page.mouse.move(line["x"] - 200, line["y"] + 60, steps=5)
    page.mouse.up()
    after = pixels(command(run_cli, PHOTO, tmp_path / "command"))
    seen, truth = beside(page, after)
    height, width = seen.shape[:2]
    cut = width // 2 - 200
    rows, right = slice(60, height - 10), slice(cut + 40, width)
    assert np.array_equal(seen[rows, right], truth[rows, right])  # 1:1: the result's own pixels
    side = slice(130, cut - 40)
    gap = np.abs(seen[rows, side] - truth[rows, side])
    assert 0 < gap.mean() < 12  # bicubic: another picture, of the same place


def test_a_large_result_shows_its_true_pixels_in_pieces(
    visit: Visit, run_cli: Any, tmp_path: Path
) -> None:
    page = visit()
    path = photo(tmp_path, "large.png", (1500, 1100))
    upscale(page, path)
    assert page.locator(".ap-piece").count() == 0
    page.click(".ap-zoom")
    page.locator(".ap-compare input[type=range]").fill("0")
    page.wait_for_function("[...document.querySelectorAll('.ap-piece')].every(p => p.complete)")
    page.wait_for_timeout(200)
    loaded = page.locator(".ap-piece").count()
    assert 2 <= loaded < 2 * 9  # those in view
    after = pixels(command(run_cli, path, tmp_path / "command"))
    seen, truth = beside(page, after)
    rows, columns = slice(60, -20), slice(60, -60)
    assert np.array_equal(seen[rows, columns], truth[rows, columns])
    box = page.locator(".ap-port").bounding_box()
    for _ in range(2):
        page.mouse.move(box["x"] + 900, box["y"] + 560)
        page.mouse.down()
        page.mouse.move(box["x"] + 800, box["y"] + 60, steps=4)
        page.mouse.up()
    page.wait_for_function(f"document.querySelectorAll('.ap-piece').length > {loaded}")


def test_a_turned_photo_keeps_its_bytes_and_stands_upright_on_both_sides(
    visit: Visit, server: Any, run_cli: Any, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photo(tmp_path, "Grüße aus (Rom) #1.jpg", (200, 100), exif=exif, quality=90)
    page = visit()
    upscale(page, path)
    name, content = download(page)
    assert name == path.name
    assert content == command(run_cli, path, tmp_path / "command").read_bytes()
    sizes = page.evaluate(
        "[...document.querySelectorAll('.ap-layer > img:first-child')]"
        ".map(image => [image.naturalWidth, image.naturalHeight])"
    )
    assert sizes == [[200, 400], [200, 400]]


@pytest.mark.parametrize(("label", "suffix"), [("JPEG", ".jpg"), ("WebP", ".webp")])
def test_the_format_and_the_factor_are_the_ones_chosen(
    visit: Visit, run_cli: Any, tmp_path: Path, label: str, suffix: str
) -> None:
    path = photo(tmp_path, "small.png", (64, 48))
    page = visit()
    page.locator("#format input").click()
    page.get_by_role("option", name=label).click()
    page.locator("#scale input").fill("3")
    upscale(page, path)
    name, content = download(page)
    assert name == f"small{suffix}"
    result = command(run_cli, path, tmp_path / "command", "-s", "3", "-f", suffix[1:])
    assert content == result.read_bytes()
    assert pixels(content).shape == (144, 192, 3)


def test_stop_ends_the_network_and_leaves_nothing(
    visit: Visit, server: Any, tmp_path: Path
) -> None:
    page = visit()
    choose(page, photo(tmp_path, "vast.png", (5000, 4000), compress_level=1))
    page.click("#run")
    page.wait_for_selector("#status :text('% upscaled')", timeout=60_000)
    page.screenshot(path=tmp_path / "working.png")
    start = time.monotonic()
    page.click("#stop")
    page.wait_for_selector("#status :text('Stopped')", timeout=20_000)
    seconds = time.monotonic() - start
    print(f"stop answered after {seconds:.2f} s")
    assert seconds < 3  # a tile of a third of a second, and two
    assert [p.name for p in server.files() if "pages" in p.parts] == ["vast.png"]
    assert page.locator("#stop").count() == 0 or page.locator("#stop").is_hidden()
    upscale(page, PHOTO)  # nothing stands in its way


def test_a_second_visitor_waits_and_is_told(visit: Visit, tmp_path: Path) -> None:
    first, second = visit(), visit()
    choose(first, photo(tmp_path, "vast.png", (3000, 2500), compress_level=1))
    first.click("#run")
    first.wait_for_selector("#status :text('% upscaled')", timeout=60_000)
    choose(second, PHOTO)
    second.click("#run")
    second.wait_for_selector("#status :text('waits for another picture')")
    second.click("#stop")
    second.wait_for_selector("#status :text('Stopped')", timeout=1_000)  # it had not begun
    second.click("#run")
    second.wait_for_selector("#status :text('waits for another picture')")
    first.click("#stop")
    second.wait_for_selector("#status :text('Done.')", timeout=20_000)
    first.wait_for_selector("#status :text('Stopped')")


def test_a_closed_page_stops_its_job_and_its_files_go(
    visit: Visit, server: Any, tmp_path: Path
) -> None:
    page = visit()
    choose(page, photo(tmp_path, "vast.png", (5000, 4000), compress_level=1))
    page.click("#run")
    page.wait_for_selector("#status :text('% upscaled')", timeout=60_000)
    page.close()
    end = time.monotonic() + 10
    while server.files() and time.monotonic() < end:
        time.sleep(0.1)
    assert server.files() == []
    other = visit()
    upscale(other, PHOTO)


def test_a_new_picture_takes_the_old_result_away(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    upscale(page, PHOTO)
    choose(page, photo(tmp_path, "another.png", (64, 48)))
    page.wait_for_selector(".ap-compare", state="detached")
    assert page.locator(".ap-download").count() == 0


def test_a_server_that_ends_is_told_of_by_its_page_and_ends_in_one_line(
    browser: Any, serve: Any, tmp_path: Path
) -> None:
    context = browser.new_context()
    with serve() as server:
        page = context.new_page()
        page.goto(server.url)
        choose(page, photo(tmp_path, "vast.png", (4000, 3000), compress_level=1))
        page.click("#run")
        page.wait_for_selector("#status :text('% upscaled')", timeout=60_000)
        assert not page.locator(".ap-gone").is_visible()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 130
        page.wait_for_selector(".ap-gone", timeout=20_000)
        assert not page.locator("#stop").is_visible()
        assert server.errors.read_text().splitlines()[-1] == "adapool-sr: interrupted"
        assert "Traceback" not in server.errors.read_text()
        assert "ERROR" not in server.errors.read_text()
    context.close()


def bomb(folder: Path) -> Path:
    path = folder / "bomb.png"
    Image.new("1", (8000, 4000)).save(path)
    return path


def text(folder: Path) -> Path:
    path = folder / "letter.png"
    path.write_text("Dear Sir or Madam")
    return path


def truncated(folder: Path) -> Path:
    path = photo(folder, "half.jpg", (400, 300))
    path.write_bytes(path.read_bytes()[:9000])
    return path


def empty(folder: Path) -> Path:
    path = folder / "nothing.jpg"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (text, "letter.png: is no picture of a known kind"),
        (truncated, "half.jpg: is truncated or damaged"),
        (empty, "nothing.jpg: is empty"),
        (bomb, "bomb.png: states 8000x4000 pixels, more than the limit of 30,000,000"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(
    visit: Visit, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    page = visit()
    path = make(tmp_path)
    choose(page, path)
    if page.locator("#run").is_enabled():  # its header is whole
        page.click("#run")
    page.wait_for_selector(".ap-error", timeout=20_000)
    page.screenshot(path=tmp_path / "error.png")
    said = page.locator(".ap-error").inner_text()
    assert words in said
    assert str(tmp_path) not in said
    assert "/" not in said.replace(" / ", "")
    upscale(page, PHOTO)  # the server lives on


DROP = """([kind, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped_anywhere(visit: Visit, kind: str) -> None:
    page = visit()
    data = base64.b64encode(PHOTO.read_bytes()).decode()
    page.evaluate(DROP, [kind, "given.png", "image/png", data])
    page.wait_for_selector("#status :text('given.png: 512x384')")
    assert page.locator("#run").is_enabled()


def test_the_page_fits_a_telephone(visit: Visit, tmp_path: Path) -> None:
    page = visit(390, 844)
    upscale(page, PHOTO)
    page.screenshot(path=tmp_path / "narrow.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_full_screen_shows_the_whole_picture(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    upscale(page, PHOTO)
    page.click(".ap-full")
    page.wait_for_function("document.fullscreenElement !== null")
    page.wait_for_timeout(300)
    page.screenshot(path=tmp_path / "full.png")
    port, layer = (page.locator(name).bounding_box() for name in (".ap-port", ".ap-after"))
    assert layer["height"] <= port["height"] + 1
    assert layer["width"] <= port["width"] + 1
    assert max(layer["height"] / port["height"], layer["width"] / port["width"]) > 0.98


def test_twenty_jobs_in_one_page_leave_the_memory_as_it_was(visit: Visit, server: Any) -> None:
    page = visit()
    choose(page, PHOTO)
    sizes = []
    for _ in range(20):
        page.click("#run")
        page.wait_for_selector("#stop")
        page.wait_for_selector("#status :text('Done.')", timeout=60_000)
        sizes.append(server.memory())
    print(f"memory: third {sizes[2] / 1e6:.0f} MB, last {sizes[-1] / 1e6:.0f} MB")
    assert sizes[-1] <= 1.1 * sizes[2]


def test_a_foreign_request_would_be_seen() -> None:
    urls = ["http://127.0.0.1:1/", "data:image/png;base64,", "https://fonts.example/a.css"]
    assert foreign(urls) == ["https://fonts.example/a.css"]
