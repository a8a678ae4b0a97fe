"""Nothing imports upward: each room of the house may use only those below it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up; rooms in one row never import one another.
FLOORS = [
    {"errors", "reply"},
    {"chat.asgi", "chat.listening", "chat.private_files"},
    {"chat.api_keys"},
    {"chat.connection"},
    {"prompt_encoding", "model_memory", "hub_clients", "short_detokenizer"},
    {"prompt_template"},
    {"prompt_past", "prompt_pieces", "prompt_stop"},
    {"prompt_older"},
    {"prompt_utils", "model_fit", "model_hub", "tool_calling", "response_format", "engine_thread"},
    {"load_checks", "mcp_tools"},
    {"engine_loading", "lora_adapters", "reply_parsing", "sampling"},
    {"reply_request", "reply_stream"},
    {"vllm_wrapper"},
    {"chat.conversation", "chat.engine_host", "chat.tool_sources"},
    {"chat.kinds", "chat.store_changes", "chat.store_interface", "chat.store_schema", "chat.store_writer"},
    {"chat.store_rows", "chat.store_search"},
    {"chat.store_database", "chat.transfer"},
    {"chat.store_leases", "chat.store_served"},
    {"chat.store", "chat.config", "chat.outbox"},
    {"chat.store_upkeep"},
    {"chat.backend", "chat.client", "chat.remote_store"},
    {"chat.answer", "chat.attachments", "chat.figures", "chat.sampling_ranges", "chat.texts", "chat.window"},
    {"chat.error_texts", "chat.talk"},
    {"chat.asking"},
    {"chat.server_backend"},
    {"chat.options"},
    {
        "chat.ask",
        "chat.batch",
        "chat.doctor",
        "chat.manage",
        "chat.terminal",
        "chat.server",
        "chat.stack",
        "chat.upkeep",
        "chat.web",
    }
    | {"chat.download", "chat.models", "chat.shell_completion"},
    {"vllm_deploy"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted([*ROOT.glob("*.py"), *(ROOT / "chat").rglob("*.py")])


def room_of(module: str) -> str | None:
    """Return the room that a module belongs to, or None if it is not one of ours."""
    parts = module.split(".")
    name = ".".join(parts[:2]) if parts[0] == "chat" else parts[0]
    return name if name in FLOOR_OF else None


def module_of(file: Path) -> str:
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path) -> set[str]:
    """Return the modules that a file imports, those inside functions included."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "chat"}
    return modules


@pytest.mark.parametrize("file", FILES, ids=lambda file: module_of(file))
def test_a_room_imports_only_rooms_below(file):
    room = room_of(module_of(file))
    if module_of(file) == "chat":
        assert imports_of(file) == set()
        return
    assert room is not None, f"{file.name} has no place in FLOORS"
    for module in imports_of(file):
        other = room_of(module)
        if other is not None and other != room:
            assert FLOOR_OF[other] < FLOOR_OF[room], f"{room} imports {other}"


def test_every_module_at_the_top_is_installed_with_the_package():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["py-modules"]
    assert packaged == sorted(file.stem for file in ROOT.glob("*.py"))
