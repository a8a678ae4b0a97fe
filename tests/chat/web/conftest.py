"""Real pages for real browsers: the program as people start it, Debian's Chromium, the demo model."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.patience import patient
from tests.program import GREEDY, start

KEYS = {"alice": "key-of-alice-0123456789", "bob": "key-of-bob-0123456789"}
START_TIMEOUT_S = 120
AXE = "axe-core@4.14.1"
NPM_TIMEOUT_S = 60


@pytest.fixture(scope="session", autouse=True)
def gradio() -> None:
    """Skip where the page cannot be served. Gradio itself is not imported here: the page is another process."""
    import importlib.util

    if importlib.util.find_spec("gradio") is None:
        pytest.skip("the extra for the web page is not installed")


@contextmanager
def running_page(*options: str) -> Iterator[str]:
    """Start ``web`` on a free port; yield its address."""
    process = start("web", "--port", "0", *options, *GREEDY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        if not address:
            process.wait(START_TIMEOUT_S)
            assert process.stderr is not None
            pytest.fail(process.stderr.read().decode())
        yield address
    finally:
        process.send_signal(2)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of a page of this machine, where nobody logs in."""
    with running_page() as address:
        yield address


@pytest.fixture(scope="session")
def guarded_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page where everybody has a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("".join(f"{owner}: {key}\n" for owner, key in KEYS.items()), "utf-8")
    with running_page("--keys", str(keys)) as address:
        yield address


@pytest.fixture(scope="package")  # while it is there, Playwright's event loop runs, and asyncio.run cannot
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: chromium)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, which judges how accessible a page is; npm fetches it into a folder that is thrown away."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine to fetch axe-core with (Debian: npm)")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", AXE]
    try:
        subprocess.run(command, capture_output=True, timeout=NPM_TIMEOUT_S, check=True)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("npm cannot fetch axe-core here")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


@dataclass
class Visit:
    """Somebody at the page, in a browser of their own.

    Attributes:
        requests: addresses of everything that the page asked for.
        errors: scripts that failed, and dialogs that opened.
    """

    context: Any
    address: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    page: Any = None

    def open(self, place: str = "") -> None:
        """Load the page and wait until the model is there."""
        if self.page is None:
            self._begin()
        self.page.goto(f"{self.address}/{place}")
        self.wait_until_ready()

    def hold_back(self, text: str, for_s: float) -> None:
        """Let the scripts that hold a text come late, as over a slow line; before the page is opened."""

        def answer(route: Any) -> None:
            response = route.fetch()
            if text in response.text():
                time.sleep(for_s)
            route.fulfill(response=response)

        self._begin()
        self.page.route("**/*.js", answer)

    def _begin(self) -> None:
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", self._refuse)

    def _refuse(self, dialog: Any) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def reload(self) -> None:
        self.page.reload()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        self.page.wait_for_selector("#head .model.ready", state="attached", timeout=120_000)

    def log_in(self, key: str) -> None:
        self.page = self.context.new_page()
        self.page.goto(self.address)
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("button", name="Log in").click()

    def send(self, text: str) -> None:
        """Type a message and press Enter."""
        self.page.fill("#box textarea", text)
        self.page.press("#box textarea", "Enter")

    def ask(self, text: str) -> str:
        """Send a message, wait for the whole answer, and return it."""
        before = self.page.locator("#past .message.answer").count()
        self.send(text)
        self.page.wait_for_function("n => document.querySelectorAll('#past .message.answer').length > n", arg=before)
        return self.last_answer()

    def last_answer(self) -> str:
        return str(self.page.locator("#past .message.answer").last.get_attribute("data-text"))

    def texts(self, selector: str) -> list[str]:
        return [str(text) for text in self.page.locator(selector).all_inner_texts()]

    def wait_for(self, condition: str, timeout_s: float = 30) -> None:
        """Wait until a condition in JavaScript holds."""
        self.page.wait_for_function(condition, timeout=patient(timeout_s) * 1000)


@pytest.fixture
def visit(chromium: Any, site: str) -> Iterator[Visit]:
    """A visitor at the page where nobody logs in."""
    with visiting(chromium, site) as visitor:
        yield visitor


@contextmanager
def visiting(chromium: Any, address: str, **options: Any) -> Iterator[Visit]:
    """Let somebody visit an address in a browser of their own."""
    defaults: dict[str, Any] = {"viewport": {"width": 1200, "height": 800}, "locale": "en-GB"}
    context = chromium.new_context(**(defaults | options))
    visitor = Visit(context, address)
    try:
        yield visitor
    finally:
        context.close()


def store_file() -> Path:
    """Return the file that holds the conversations of the pages of this machine."""
    from chat.store.local import default_path

    return default_path()
