"""Headless Chromium for tests of pages: one browser and one server for a module; what the browser asks is kept."""

import importlib.util
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

TIMEOUT = 120_000  # ms: a loaded machine is slow
WORDS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def needs_browser() -> None:
    """Skip the test where Gradio, Playwright or Chromium is missing."""
    for package in ("gradio", "playwright"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extras pages and dev)")
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on the PATH")


@contextmanager
def chromium(spoken: Path | None = None) -> Iterator[Any]:
    """A headless browser of Playwright, one at a time. spoken: a wav file that its microphone hears."""
    from playwright.sync_api import sync_playwright

    words = [*WORDS, *([f"--use-file-for-fake-audio-capture={spoken}"] if spoken else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=words)
        yield browser
        browser.close()


@contextmanager
def served(make: Callable[[], Any]) -> Iterator[str]:
    """The address of a page that a thread of this process serves."""
    import uvicorn

    from common.search.page import own_uploads

    with own_uploads(), socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(make(), log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@contextmanager
def tab(browser: Any, address: str, **context: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page that is open, and the addresses that it asks; scripts may not fail, and all must be of this machine."""
    opened = browser.new_context(permissions=["microphone"], **context)
    page, asked, failed = opened.new_page(), [], []
    page.set_default_timeout(TIMEOUT)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(address)
    yield page, asked
    opened.close()
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert not failed
