"""``vllm_deploy.py`` with answers that repeat what was said, to be driven in a pseudo-terminal."""

from __future__ import annotations

import sys

import vllm_deploy
from chat.cli import chat as chat_command
from tests.chat.terminal.scripted import ScriptedBackend

if __name__ == "__main__":
    chat_command.make_backend = lambda settings: ScriptedBackend()  # type: ignore[assignment,return-value]
    sys.exit(vllm_deploy.main(sys.argv[1:]))
