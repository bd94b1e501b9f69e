"""The frame of the pages: one look, and one way to serve that keeps everything on this machine.

with frame("Title", "What it does.") as blocks:
    ...                                     # components of Gradio
serve(application(blocks, routes), port=7860)

Gradio is the extra `pages`; it is imported in the functions.
"""

import html
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.audio.reading import info
from common.run.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from gradio import Blocks

LOCAL = "127.0.0.1"
PORT = 7860
UPLOAD_BYTES = 20 * 2**20
UPLOAD_SECONDS = 60.0
ADDED_FILES, ADDED_BYTES = 500, 500 * 2**20  # of a folder that is added
WAITING = 16  # requests that may wait for an answer; more are refused
KEPT = 3600  # seconds for which uploads stay in their temporary folder
STYLE = Path(__file__).with_name("page.css")
ACCENT = "blue"
# What the browser may load: nothing from elsewhere. Gradio's own scripts are inline and make functions of text.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


def gradio() -> Any:
    """The library, told to be silent. Raises UserError where it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError:
        raise UserError('pages need Gradio: the extra `pages`, pip install ".[pages]"') from None
    return gradio


@contextmanager
def frame(title: str, lead: str) -> "Iterator[Blocks]":
    """A page with its head, in plain text; the block adds the rest."""
    ui = gradio()
    head = f"<h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"
    with ui.Blocks(title=title, analytics_enabled=False, delete_cache=(KEPT, KEPT)) as blocks:
        ui.HTML(head, elem_classes="head")
        yield blocks


def note(sentence: str) -> str:
    """A sentence in the place of results, as HTML."""
    return f"<p class='note' role='status'>{html.escape(sentence)}</p>"


def uploaded(path: str | None) -> Path:
    """An upload or recording that is short enough. Raises UserError, a sentence for the page."""
    if not path:
        raise UserError("Record or upload a sound first.")
    file = Path(path)
    if not file.resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve()):  # a forged request
        raise UserError(f"{file.name}: was not uploaded here.")
    with without_folder(file):
        seconds = info(file).seconds
    if seconds > UPLOAD_SECONDS:
        raise UserError(f"{file.name}: lasts {seconds:.0f} s; the page takes up to {UPLOAD_SECONDS:.0f} s.")
    return file


def added(paths: Sequence[str] | None, number: int) -> Path:
    """A folder of uploaded files, `added <number>` among the uploads. Raises UserError, a sentence for the page."""
    at, files = Path(os.environ["GRADIO_TEMP_DIR"]).resolve(), [Path(path) for path in paths or ()]
    if not files or not all(file.resolve().is_relative_to(at) for file in files):  # a forged request
        raise UserError("Choose a folder with recordings first.")
    if len(files) > ADDED_FILES or sum(file.stat().st_size for file in files) > ADDED_BYTES:
        raise UserError(
            f"The page takes up to {ADDED_FILES} files, {ADDED_BYTES // 2**20} MB together; --library takes more."
        )
    folder = at / f"added {number}"
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
    for place, file in enumerate(files):
        name = folder / file.name
        name.parent.mkdir(exist_ok=True)
        os.link(file, name if not name.exists() else name.with_stem(f"{name.stem} {place}"))
    return folder


@contextmanager
def without_folder(file: Path) -> Iterator[None]:
    """Messages of UserError name the file alone, not where it lies."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(file), file.name)) from None


def answered(ask: Callable[..., str]) -> Callable[..., str]:
    """A handler whose UserError is a sentence on the page."""

    def handler(*given: Any) -> str:
        try:
            return ask(*given)
        except UserError as error:
            return note(str(error))

    return handler


def application(
    blocks: "Blocks",
    routes: Mapping[str, Callable[..., Any]],
    host: str = LOCAL,
    style: Path | None = None,
    script: Path | None = None,
) -> "FastAPI":
    """The page at `/` and answers to GET at `routes` ({path: function}) beside it; other names of the host are refused.

    Names: a page elsewhere could otherwise reach this one by a name of its own that leads here. style, script: files of
    CSS and JavaScript of this page alone.
    """
    import fastapi
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for path, answer in routes.items():
        app.add_api_route(path, answer, response_model=None)
    ui = gradio()
    blocks.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    theme = ui.themes.Base(primary_hue=ACCENT, font=["system-ui", "sans-serif"], font_mono=["monospace"])
    app = ui.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=host,
        footer_links=[],
        show_error=False,
        max_file_size=UPLOAD_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        allowed_paths=[],
        theme=theme,
        css_paths=[STYLE, *([style] if style else [])],
        head=f"<script>{script.read_text(encoding='utf-8')}</script>" if script else None,
    )
    blocks.has_launched = True  # else Gradio, mounted, takes any file that a forged request names for an upload
    app.add_middleware(_Headers)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["*"] if host != LOCAL else [LOCAL, "localhost"])
    return app


class _Headers:
    """Every answer with the same headers of safety."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, sent)


@contextmanager
def own_uploads() -> Iterator[Path]:
    """Uploads of this process lie in a folder of their own, which goes with it."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def serve(make: "Callable[[], FastAPI]", host: str = LOCAL, port: int = PORT) -> None:
    """Show what `make` makes until Ctrl-C; port 0: any free one. Raises UserError where the port is taken."""
    import uvicorn

    with _listening(host, port) as listener, own_uploads():
        config = uvicorn.Config(make(), log_level="error", timeout_graceful_shutdown=2)
        if host != LOCAL:
            print(f"warning: {host}: others on the network can use this page and hear what it plays", file=sys.stderr)
        print(f"http://{host}:{listener.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        # uvicorn raises what stopped it once more, but not where the shell had the signal ignored.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
        print("stopped", flush=True)


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{host}:{port}: cannot be listened on ({reason}); --port names another, 0 any") from None
