"""The page itself: what stands on it, and what its buttons do."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from adapool_sr.files.errors import AdaPoolError, UsageError
from adapool_sr.inference.look import MOST_STRENGTH
from adapool_sr.io.decoding import probe
from adapool_sr.io.listing import READABLE
from adapool_sr.models.registry import DEFAULT_NAME, PHOTO_NAME, available, find, find_photo

from .sessions import Session, Sessions
from .work import Job, Request, Result, Stage, Workshop, words

__all__ = ["Choice", "Page", "shipped", "theme"]

_HERE = Path(__file__).parent
_EVERY = 0.2  # seconds between looks at a job
_TICK = 240  # seconds between a page's signs of life; sessions are kept much longer
_FORMATS = [("as the input", "auto"), ("PNG", "png"), ("JPEG", "jpg"), ("WebP", "webp")]


@dataclass(frozen=True)
class Choice:
    """What the page offers and what is set when it opens.

    Attributes:
        models: (label, name or file) of each, None for the picture's fitting one; the first one
            is set.
        scale: the factor that is set.
        max_pixels: a larger input is refused.
    """

    models: Sequence[tuple[str, str | Path | None]]
    scale: float
    max_pixels: int


def theme() -> gr.themes.Base:
    """Gradio's plain theme with the system's fonts; its own ones come from another host."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


class Page:
    """The page, for all visitors.

    Args:
        sessions: the open pages' files.
        workshop: does the work.
        choice: what is offered.
    """

    def __init__(self, sessions: Sessions, workshop: Workshop, choice: Choice) -> None:
        self._sessions = sessions
        self._workshop = workshop
        self._choice = choice
        self._models = dict(choice.models)

    def blocks(self) -> gr.Blocks:
        """Build it."""
        script = (_HERE / "page.js").read_text(encoding="utf-8")
        labels = list(self._models)
        blocks: gr.Blocks
        with gr.Blocks(title="adapool-sr", analytics_enabled=False, fill_width=True) as blocks:
            gr.HTML(_HEAD, js_on_load=f"{script}\nheartbeat(element);")
            chooser = gr.HTML(
                _drop_zone(), js_on_load=f"{script}\nchooser(element, trigger, upload);"
            )
            with gr.Row(equal_height=True):
                model = gr.Dropdown(labels, value=labels[0], label="Model", elem_id="model")
                scale = gr.Number(self._choice.scale, label="Scale", step=0.5, elem_id="scale")
                strength = gr.Number(
                    1.0, label="Strength", info="0 is bicubic", minimum=0, maximum=MOST_STRENGTH,
                    step=0.1, elem_id="strength",
                )  # fmt: skip
                kind = gr.Dropdown(_FORMATS, value="auto", label="Format", elem_id="format")
                run = gr.Button("Upscale", variant="primary", interactive=False, elem_id="run")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
            status = gr.HTML(_status(""), elem_id="status")
            view = gr.HTML(
                "",
                elem_id="view",
                js_on_load=f"{script}\ncomparison(element);"
                'watch("value", () => comparison(element));',
            )
            direct: dict[str, Any] = {
                "queue": False,
                "show_progress": "hidden",
                "api_visibility": "private",
            }
            chooser.upload(self.choose, None, [status, view, run], **direct)
            model.change(self.scale_of, model, scale, **direct)
            run.click(
                self.upscale,
                [model, scale, strength, kind],
                [status, view, run, stop],
                show_progress="hidden",
                api_visibility="private",
                concurrency_limit=None,  # the workshop has the line, and says who waits
            )
            stop.click(self.stop, None, stop, **direct)
            gr.Timer(_TICK).tick(self.alive, None, None, **direct)
            blocks.unload(self.leave)
        return blocks

    def choose(self, event: gr.EventData, request: gr.Request) -> tuple[str, str, Any]:
        """Take the picture that has arrived; say what it is, or what is wrong with it.

        The result of the one before goes, so that it can't be taken for this one's.
        """
        data = event._data if isinstance(event._data, dict) else {}
        name = str(data.get("name", ""))
        try:
            upload = self._sessions.uploaded(str(data.get("path", "")))
            source = self._sessions.get(_key(request)).take(upload, name)
        except (AdaPoolError, OSError) as error:
            return _failure(str(error)), "", gr.Button(interactive=False)
        try:
            width, height, *_ = probe(source, self._choice.max_pixels)
        except AdaPoolError as error:
            return _failure(words(error, source)), "", gr.Button(interactive=False)
        text = _status(f"{source.name}: {width}x{height} pixels")
        return text, "", gr.Button(interactive=True)

    def scale_of(self, label: str) -> float:
        """The factor of a model, which is set when it is chosen."""
        model = self._models[label]
        if model is None or isinstance(model, Path):
            return self._choice.scale
        return float(find(model).scale)

    def upscale(
        self,
        label: str,
        scale: float | None,
        strength: float | None,
        kind: str,
        request: gr.Request,
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Run a job and show how far it is, until it has ended."""
        session = self._sessions.get(_key(request))
        try:
            job = self._begin(session, label, scale, strength, kind)
        except AdaPoolError as error:
            yield _failure(str(error)), gr.skip(), gr.skip(), gr.skip()
            return
        shown = _progress(job)
        stop = gr.Button("Stop", visible=True, interactive=True)
        yield shown, "", gr.Button(visible=False), stop
        while not job.wait(_EVERY):
            if (now := _progress(job)) != shown:
                shown = now
                yield shown, gr.skip(), gr.skip(), gr.skip()
        text, result = _ended(job), ""
        if job.result is not None:
            result = _result(job.result, f"files/{session.token}/{job.folder.name}")
        yield text, result, gr.Button(visible=True), gr.Button(visible=False)

    def _begin(
        self,
        session: Session,
        label: str,
        scale: float | None,
        strength: float | None,
        kind: str,
    ) -> Job:
        if session.job is not None and not session.job.wait(0):
            raise UsageError("this page", "is still at work", "wait, or stop it")
        if session.source is None:
            raise UsageError("the picture", "is not chosen yet", "drop, paste or choose one")
        if not scale or scale <= 0:
            raise UsageError("Scale", "must be a number above 0")
        if strength is None or not 0 <= strength <= MOST_STRENGTH:
            raise UsageError("Strength", f"must be 0 to {MOST_STRENGTH:g}")
        wanted = Request(
            session.source,
            self._models[label],
            scale,
            None if kind == "auto" else kind,
            strength,
        )
        session.tidy()
        session.job = self._workshop.start(wanted, session.new_folder())
        return session.job

    def stop(self, request: gr.Request) -> Any:
        """Stop the page's job."""
        job = self._sessions.get(_key(request)).job
        if job is not None:
            job.stop()
        return gr.Button("Stopping …", interactive=False)

    def alive(self, request: gr.Request) -> None:
        """Note that a page is open, so that its files are kept."""
        self._sessions.touch(_key(request))

    def leave(self, request: gr.Request) -> None:
        """A page was closed: its job ends, its files go."""
        self._sessions.close(_key(request))


def shipped() -> list[tuple[str, str | Path | None]]:
    """The models that ship, as :class:`Choice` takes them, after the one that chooses."""
    named = f"{PHOTO_NAME} for JPEG, else {DEFAULT_NAME}" if find_photo() else DEFAULT_NAME
    models: list[tuple[str, str | Path | None]] = [(f"automatic: {named}", None)]
    return models + [(model.name, model.name) for model in available()]


def _key(request: gr.Request) -> str:
    return str(request.session_hash)


_HEAD = """<div class="ap-head"><h1>adapool-sr</h1>
<p>Enlarges a picture. It stays on the machine that runs this page,
and is deleted when you close it.</p>
<div class="ap-gone" role="alert" hidden>The program that makes this page has ended, and
with it what it was doing. Start it again, then reload the page.</div>
</div>"""


def _drop_zone() -> str:
    accept = ",".join(["image/*", *sorted(READABLE)])
    return f"""<div class="ap-drop" tabindex="0" role="button" aria-label="Choose a picture">
<input type="file" accept="{accept}" hidden><img alt="" hidden>
<div><p class="ap-hint">Drop a picture here, paste one, or <u>choose a file</u><br>
<small>PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, PPM</small></p><p class="ap-name"></p></div></div>"""


def _status(text: str, share: float | None = None, busy: bool = False) -> str:
    bar = ""
    if busy:
        fill = 'class="ap-unknown"' if share is None else f'style="width: {share:.1%}"'
        bar = f'<div class="ap-track"><div {fill}></div></div>'
    return f'<div class="ap-status" role="status"><span>{html.escape(text)}</span>{bar}</div>'


def _failure(text: str) -> str:
    return f'<div class="ap-error" role="alert">{html.escape(text)}</div>'


def _progress(job: Job) -> str:
    name = job.request.source.name
    if job.stage is Stage.WAITING and job.ahead:
        others = "another picture" if job.ahead == 1 else f"{job.ahead} other pictures"
        return _status(f"{name}: waits for {others}", busy=True)
    if job.stage is Stage.NETWORK:
        return _status(f"{name}: {job.share:.0%} upscaled", job.share, busy=True)
    what = {
        Stage.WAITING: "starting",
        Stage.WRITING: "writing the result",
        Stage.COMPARING: "preparing before and after",
    }.get(job.stage, "reading the picture")
    return _status(f"{name}: {what}", busy=True)


def _ended(job: Job) -> str:
    if job.stage is Stage.FAILED:
        return _failure(job.error)
    if job.stage is Stage.STOPPED or job.result is None:
        return _status("Stopped; nothing was kept.")
    lost = "".join(f" {text}." for text in job.result.lost)
    return _status(f"Done.{lost}")


def _result(result: Result, base: str) -> str:
    """The slider and the download; addresses are relative, for a page behind a proxy."""
    name = html.escape(result.path.name, quote=True)
    facts = f"{name}: {result.width}x{result.height} pixels, in {result.seconds:.1f} s with "
    bar = f"""<span class="ap-facts">{facts}{html.escape(result.model)}</span>
<a class="ap-download" href="{base}/{quote(result.path.name)}" download="{name}">Download</a>"""
    if (pair := result.comparison) is None:
        return f'<div class="ap-bar">{bar}</div>'
    folder = f"{base}/compare"
    return f"""<figure class="ap-compare" data-width="{pair.width}" data-height="{pair.height}"
data-before="{folder}/{pair.before}" data-after="{folder}/{pair.after}" data-folder="{folder}"
data-pieces="{pair.pieces}"><div class="ap-bar">{bar}
<button type="button" class="ap-zoom">1:1</button>
<button type="button" class="ap-full">Full screen</button></div>
<div class="ap-port"><div class="ap-layer ap-before"></div><div class="ap-layer ap-after"></div>
<div class="ap-line"></div><span class="ap-tag ap-tag-before">Before (bicubic)</span>
<span class="ap-tag ap-tag-after">After</span></div>
<input type="range" min="0" max="1000" value="500" aria-label="Before and after"></figure>"""
