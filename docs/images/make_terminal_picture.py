"""Make docs/images/terminal.svg: a real conversation, typed into the real program inside tmux, as tmux shows it.

    python docs/images/make_terminal_picture.py [MODEL]

Needs tmux. The conversation is kept nowhere; the engine is stopped afterwards.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
COLUMNS, LINES = 92, 31
TIMEOUT_S = 180.0
LINES_TYPED = (
    "Hello! My name is Ada.",
    "What is my name?",
    "Tell me a story about a ship.",
    "/tokens",
)


class Tmux:
    """One window of a tmux server of its own."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._socket = f"picture-{os.getpid()}"
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, shlex.join(command), env={**os.environ, **environ})

    def press(self, keys: str, *, literally: bool = True) -> None:
        self._tmux("send-keys", *(["-l"] if literally else []), keys)

    def screen(self, *, colours: bool = False) -> str:
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def wait_for(self, text: str, count: int = 1) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.screen().count(text) < count:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{text!r} did not come:\n{self.screen()}")
            time.sleep(0.1)

    def close(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)  # noqa: S603 (programs that this file names)
        return done.stdout


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "demo"
    with tempfile.TemporaryDirectory() as folder:
        environ = {"VLLMDEPLOY_STORE": f"{folder}/conversations.sqlite", "XDG_STATE_HOME": folder, "LANG": "C.UTF-8"}
        command = [sys.executable, str(ROOT / "vllm_deploy.py"), "chat", "--model", model, "--keep-alive", "0"]
        tmux = Tmux(command, environ)
        try:
            tmux.wait_for("ctx")
            for number, line in enumerate(LINES_TYPED, start=1):
                tmux.press(line)
                tmux.wait_for(line[-20:])
                tmux.press("Enter", literally=False)
                tmux.wait_for("window  " if line == "/tokens" else "TTFT", 1 if line == "/tokens" else number)
                time.sleep(1)
            tmux.press("What else can")
            time.sleep(1)
            screen = tmux.screen(colours=True)
        finally:
            tmux.close()
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(screen.rstrip("\n")))
    svg = console.export_svg(title="python vllm_deploy.py", theme=MONOKAI, unique_id="terminal")
    (ROOT / "docs" / "images" / "terminal.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
