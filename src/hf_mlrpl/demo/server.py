"""The server of `hf-mlrpl demo`, and what it refuses."""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from PIL import Image

from ..data.images.photos import find_images, open_image
from ..extras import check_installed
from ..pipelines.image_tagging import ImageTaggingPipeline
from .answers import MAX_MEGABYTES, Answerer
from .page import make_page

if TYPE_CHECKING:
    import gradio as gr

LOCAL = "127.0.0.1"
MAX_WAITING = 32  # requests
MAX_VISITORS = 100  # whose answers are kept in memory
MAX_EXAMPLES = 12
MAX_KEPT = 2_000_000_000  # bytes of all uploads together, which stay for an hour
EXAMPLE_SIDE = 1024  # pixels
# What Gradio's server offers beside what the page uses: fetching addresses for others, and converting videos.
_REFUSED = ("/proxy=", "/file=http:", "/file=https:", "/process_recording", "/monitoring", "/stream/")


def launch_demo(
    tagger: ImageTaggingPipeline,
    *,
    name: str | None = None,
    examples: Sequence[Image.Image] = (),
    host: str = LOCAL,
    port: int | None = None,
    open_browser: bool = False,
    wait: bool = True,
) -> "gr.Blocks":
    """Serve a page where photos are tagged in a browser.

    Uploads lie in a folder of their own, which only the user of this process can read; an hour later they are gone, at
    the end all of them. Nothing else of the disk is served, and nothing is shared over a tunnel, whatever the
    environment says.

    Args:
        tagger: the pipeline "image-tagging".
        name: of the model, for the head of the page.
        examples: photos to start with.
        host: address to listen on; "0.0.0.0" lets other machines in, without a password.
        port: by default the first free one from 7860 on.
        open_browser: also open the page.
        wait: serve until Ctrl+C; otherwise return at once, and `.close()` ends it.

    Raises:
        ImportError: without the extra `demo`.
        OSError: if the port is taken, or the address is none of this machine.
    """
    check_installed("gradio")
    check_address(host, port)
    scratch = tempfile.TemporaryDirectory(prefix="hf-mlrpl-demo-")
    os.environ["GRADIO_TEMP_DIR"] = scratch.name  # read when gradio is imported, and later
    import gradio as gr
    from starlette.middleware import Middleware

    page = make_page(Answerer(tagger, Path(scratch.name)), name or _name_of(tagger), examples)
    page._uploads = scratch  # type: ignore[attr-defined]  # lives as long as the page
    page.queue(max_size=MAX_WAITING)
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        allowed_paths=[scratch.name],  # not those of GRADIO_ALLOWED_PATHS
        max_file_size=f"{MAX_MEGABYTES}mb",
        state_session_capacity=MAX_VISITORS,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        footer_links=["api"],
        theme=gr.themes.Default(font="system-ui", font_mono="monospace"),  # no fonts from elsewhere
        app_kwargs={"middleware": [Middleware(_Refusal, uploads=Path(scratch.name))]},
        quiet=True,
        prevent_thread_lock=True,
    )
    if wait:
        _say_where(page, host)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        try:
            page.block_thread()
        finally:
            scratch.cleanup()
    return page


class _Refusal:
    """Answers 404 to paths of Gradio's server that the page does not need, takes no more files when their folder is
    full, and lets none of them run scripts."""

    def __init__(self, app: Callable[..., Awaitable[None]], uploads: Path):
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        path = unquote(scope.get("path", "")).lower()
        if scope["type"] == "http" and any(part in path for part in _REFUSED):
            await PlainTextResponse("not found", 404)(scope, receive, send)
        elif path.endswith("/upload") and _size_of(self.uploads) > MAX_KEPT:
            await PlainTextResponse("There are too many photos here. Please try again in an hour.", 507)(
                scope, receive, send
            )
        else:
            await self.app(scope, receive, partial(_send_tame, send) if "/file" in path else send)


def _size_of(folder: Path) -> int:
    """Bytes of all files, at least of those before one that is deleted meanwhile."""
    total = 0
    with suppress(FileNotFoundError):
        for file in folder.rglob("*"):
            total += file.stat().st_size
    return total


async def _send_tame(send: Any, message: dict[str, Any]) -> None:
    """Send a file of a visitor so that a browser shows it, but neither guesses its type nor runs what is in it."""
    if message["type"] == "http.response.start":
        rules = [(b"content-security-policy", b"sandbox; default-src 'none'"), (b"x-content-type-options", b"nosniff")]
        message = message | {"headers": [*message["headers"], *rules]}
    await send(message)


def check_address(host: str, port: int | None) -> None:
    """Raise `OSError` where no page can be served, as on a port that is taken; `ValueError` for no host, which would
    let all machines in, or the port 0."""
    if not host.strip():
        raise ValueError("`--host` is empty. Was a variable empty? 0.0.0.0 lets other machines in.")
    if port == 0:
        raise ValueError("`--port` must be at least 1. Leave it out, and the first free one from 7860 on is taken.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port or 0), family=family).close()
    except (OSError, OverflowError) as error:
        place = host if port is None else f"{host}, port {port}"
        raise OSError(f"The page cannot be served at {place} ({error}). Choose another --port or --host.") from error


def read_examples(folder: Path) -> list[Image.Image]:
    """The first photos of a folder, reduced for the page."""
    images = [open_image(path) for path in find_images(folder)[:MAX_EXAMPLES]]
    for image in images:
        image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    return images


def _name_of(tagger: ImageTaggingPipeline) -> str:
    return Path(tagger.model.config.name_or_path or type(tagger.model).__name__).name


def _say_where(page: "gr.Blocks", host: str) -> None:
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{page.server_port}"
    print(f"The page is at {address}; Ctrl+C ends it.", flush=True)
    if host not in (LOCAL, "localhost", "::1"):
        warning = "Other machines can reach it, too, and there is no password: anybody can tag photos on this machine."
        print(f"warning: {warning}", file=sys.stderr, flush=True)
