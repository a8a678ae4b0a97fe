"""Make docs/images/web*.png: the real page in Chromium, light, dark with its settings, and on a phone.

    python docs/images/make_web_pictures.py

Needs Chromium (Debian: chromium) and Playwright (requirements-dev.txt). The first turn is put into the store, so that
the pictures show what is rendered; the others are said by the demo model. Nothing is kept, and the engine is stopped
afterwards.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PICTURES = Path(__file__).parent
NUM_COLORS = 256  # of a picture, since it has to be small
TIMEOUT_MS = 180_000

QUESTION = "How do I solve a quadratic equation in Python?"
ANSWER = r"""The solutions of $ax^2 + bx + c = 0$ are

$$x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$$

The sign of the discriminant $d = b^2 - 4ac$ tells how many there are:

| $d$ | Solutions |
|---|---|
| positive | two |
| zero | one |
| negative | none that is real |

```python
from math import sqrt

def solve(a: float, b: float, c: float) -> list[float]:
    d = b * b - 4 * a * c
    return [(-b + sign * sqrt(d)) / (2 * a) for sign in (1, -1)] if d >= 0 else []
```
"""
SAID = ("Hello! My name is Ada.", "What is my name?")


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory(prefix="web-") as folder:
        environ = {f"XDG_{name}_HOME": f"{folder}/{name.lower()}" for name in ("DATA", "CONFIG", "STATE")}
        os.environ.update(environ | {"VLLMDEPLOY_RUNTIME_DIR": f"{folder}/run", "OMP_NUM_THREADS": "1"})
        conversation_id = put_first_turn()
        with page_running() as address, sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            talk(browser, f"{address}/#c={conversation_id}")
            browser.close()


def put_first_turn() -> str:
    """Keep a turn that shows what is rendered; return the conversation's id."""
    from chat.conversations.conversation import Conversation, Message
    from chat.store.local import ConversationStore

    store = ConversationStore()
    for title in ("Names for a ship", "Summary of the minutes"):
        other = Conversation(title=title)
        other.add(Message("user", title))
        store.save(other)
        store.settle(other.id)
    conversation = Conversation(system="You are a helpful assistant.")
    conversation.add(Message("user", QUESTION))
    conversation.add(Message("assistant", ANSWER, finish_reason="stop"))
    store.save(conversation)
    store.close()
    return conversation.id


@contextmanager
def page_running() -> Iterator[str]:
    """Start the page; yield its address."""
    command = [sys.executable, str(ROOT / "vllm_deploy.py")]
    arguments = [*command, "web", "--port", "0", "--temperature", "0"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)  # noqa: S603 (programs that this file names)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        subprocess.run([*command, "stop"], check=False)  # noqa: S603 (programs that this file names)


def talk(browser: Any, address: str) -> None:
    """Say something in each look of the page, and take its picture."""
    light = visit(browser, address, width=1200, height=900)
    say(light, SAID[0])
    save(light, "web.png")
    dark = visit(browser, address, width=1200, height=820, scheme="dark")
    say(dark, SAID[1])
    dark.click("#panel-settings .toggle-button")
    dark.wait_for_timeout(600)
    save(dark, "web-dark.png")
    save(visit(browser, address, width=390, height=780), "web-phone.png")


def visit(browser: Any, address: str, *, width: int, height: int, scheme: str = "light") -> Any:
    """Open the page in a window of its own, and wait for the model."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(address)
    page.wait_for_selector("#head .model.ready", state="attached")
    page.wait_for_selector("#past .message.answer")
    page.wait_for_timeout(1000)
    return page


def say(page: Any, text: str) -> None:
    """Send a message and wait for the answer."""
    before = page.locator("#past .message.answer").count()
    page.fill("#box textarea", text)
    page.press("#box textarea", "Enter")
    page.wait_for_function("n => document.querySelectorAll('#past .message.answer').length > n", arg=before)
    page.wait_for_timeout(300)


def save(page: Any, name: str) -> None:
    """Take a picture."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(NUM_COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        PICTURES / name, optimize=True
    )


if __name__ == "__main__":
    main()
