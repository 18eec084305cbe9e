"""The server of the page: its address, its files, who may ask, and its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from adapool_sr.files.errors import UsageError

from .sessions import SWEEP_SECONDS, Sessions

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .work import Device, Workshop

__all__ = ["Options", "application", "bind", "serve"]

# Before Gradio is imported: it reads them then, and asks its makers' servers for news otherwise.
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}

# 'unsafe-inline' and 'unsafe-eval' are Gradio's: its settings and templates are inline scripts.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 2  # seconds for answers under way when the server ends


@dataclass(frozen=True)
class Options:
    """How the page is served.

    Attributes:
        host: the address to listen on.
        port: the port; if it is taken, any free one. 0 for any.
        model: the model that is set when the page opens; None for the first that ships.
        scale: the factor that is set; None for the model's.
        device: where and how to run.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    model: str | Path | None = None
    scale: float | None = None
    device: Device | None = None


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address; on a free port where the one wanted is taken.

    Raises:
        UsageError: the host is no address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        try:
            return _listen(family, address)
        except OSError:
            return _listen(family, (address[0], 0, *address[2:]))
    except OSError as error:
        why = f"cannot be listened on ({error.strerror or error})"
        raise UsageError(f"--host {host}", why, "use an address of this machine") from error


def _listen(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def application(sessions: Sessions, workshop: Workshop, options: Options) -> FastAPI:
    """The page with its files, as an ASGI application.

    Args:
        sessions: the open pages' files.
        workshop: does the work.
        options: how the page is served.

    Raises:
        AdaPoolError: the model cannot be loaded.
    """
    os.environ.update(_QUIET)
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.uploads)
    import gradio as gr
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse

    from .page import Choice, Page, shipped, theme

    offered = shipped()
    if isinstance(options.model, Path):
        offered.insert(0, (options.model.name, options.model))
    elif options.model is not None:
        offered.sort(key=lambda pair: pair[1] != options.model)
    scale = workshop.prepare(offered[0][1], options.scale)
    choice = Choice(offered, scale, workshop.device.max_pixels)
    page = Page(sessions, workshop, choice)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/files/{token}/{number}/{name:path}")
    def file(token: str, number: str, name: str) -> FileResponse:
        place = sessions.file(token, number, name)
        if place is None:
            raise HTTPException(404, "this file is gone: its page was closed")
        kept = {"Cache-Control": "no-store"}
        if "/" in name:
            return FileResponse(place, headers=kept)
        return FileResponse(place, headers=kept, filename=place.name)

    @app.get("/alive", status_code=204)
    def alive() -> None:
        """Tell a page that the server is there."""

    app.add_middleware(_Guard, loopback=options.host in _LOOPBACK)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page.blocks(),
        path="",
        footer_links=[],
        run_history=False,  # else the browser would keep what was asked
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        css_paths=Path(__file__).parent / "page.css",
    )
    return mounted


class _Guard:
    """Answers only those who came by this page's own address, and says what it may load.

    A foreign web page in the same browser could else send pictures to the loopback, or, with a
    name of its own that leads there, read it.
    """

    def __init__(self, app: ASGIApp, loopback: bool) -> None:
        self._app = app
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        foreign = bool(origin) and origin.partition("://")[2] != host
        if foreign or (self._loopback and name.strip("[]") not in _LOOPBACK):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"ask by the page's own address\n"})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await self._app(scope, receive, guarded)


def serve(options: Options, ready: Callable[[str, bool], None]) -> None:
    """Serve the page until the process is interrupted; then stop all jobs, delete all files.

    Args:
        options: how.
        ready: called with the page's address, and whether its port is the one wanted.

    Raises:
        AdaPoolError: the model cannot be loaded or the address not be used.
        KeyboardInterrupt: the user ended it.
    """
    import uvicorn

    from .work import Device, Workshop

    listener = bind(options.host, options.port)
    sessions = Sessions()
    workshop = Workshop(options.device or Device())
    ended = threading.Event()
    ending = _Ending()
    previous = {number: signal.signal(number, ending) for number in _SIGNALS}
    try:
        app = application(sessions, workshop, options)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=_GRACE,
        )
        threading.Thread(target=_sweep, args=(sessions, ended), daemon=True).start()
        workshop.warm(options.model, options.scale)
        server = uvicorn.Server(config)
        ending.server = server
        ending.check()
        port = listener.getsockname()[1]
        name = f"[{options.host}]" if ":" in options.host else options.host
        ready(f"http://{name}:{port}/", options.port in (0, port))
        # Every open page listens for news; that their answers are cut off at the end is no error.
        log = logging.getLogger("uvicorn.error")
        log.addFilter(quiet := lambda record: not server.should_exit)
        try:
            server.run(sockets=[listener])
        finally:
            log.removeFilter(quiet)
        ending.check()
    finally:
        ended.set()
        try:
            workshop.end()
        finally:  # also when a second Ctrl-C finds the network at a tile
            sessions.end()
            listener.close()
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Ending:
    """The handler of Ctrl-C and SIGTERM: the first one is noted, the second one interrupts.

    An exception that comes while this thread imports a module can leave the lock of all imports
    held. The thread of the network imports too: it would wait for ever, and the end for it.

    Attributes:
        server: what to end when it is asked for; None before there is one.
    """

    def __init__(self) -> None:
        self.server: uvicorn.Server | None = None
        self._wanted = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._wanted:
            raise KeyboardInterrupt
        self._wanted = True
        if self.server is not None:
            self.server.should_exit = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if the end was asked for."""
        if self._wanted:
            raise KeyboardInterrupt


def _sweep(sessions: Sessions, ended: threading.Event) -> None:
    while not ended.wait(SWEEP_SECONDS):
        sessions.sweep()
