"""Upgrades: stores of every released version open; a store from the future and an unknown vLLM are refused."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from importlib.util import find_spec
from pathlib import Path

import pytest

from chat.conversations.conversation import Message
from chat.server.api.routes import ChatRoutes
from chat.server.vllm_plugin import compatibility as seams
from chat.server.vllm_plugin import tokenizer_mode as plugin
from chat.server.vllm_plugin.compatibility import SEAMS, check_vllm, missing_seams, version_of
from chat.store.local import ConversationStore
from chat.store.schema import MIGRATIONS
from chatcore.errors import ServerError, StoreError
from tests import program
from tests.reliability import older_stores, scale
from tests.serving import free_port

VERSIONS = range(1, len(MIGRATIONS) + 1)
INSTALLED = Path(next(iter(find_spec("vllm").submodule_search_locations)))


@pytest.fixture(params=VERSIONS, ids=[f"schema {version}" for version in VERSIONS])
def version(request) -> int:
    return request.param


@pytest.fixture
def old(tmp_path, version) -> Path:
    """The file of a store as a released version left it."""
    file = tmp_path / "conversations.sqlite"
    older_stores.restore(version, file)
    file.chmod(0o600)
    return file


def said(version: int) -> dict:
    """Return what was in the store when it was made."""
    return json.loads((older_stores.FOLDER / f"schema-{version}.json").read_text("utf-8"))


def ask(file: Path, statement: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


def schema_of(file: Path) -> int:
    return ask(file, "SELECT version FROM store_version")[0][0]


# -- stores ------------------------------------------------------------------------------------------------------------


def test_every_schema_has_a_store_to_try():
    made = sorted(file.name for file in older_stores.FOLDER.glob("*.sql"))
    assert made == [f"schema-{version}.sql" for version in VERSIONS], "python -m tests.reliability.older_stores"


def test_a_store_of_every_released_schema_opens_with_all_that_it_holds(old, version):
    with contextlib.closing(ConversationStore(old)) as store:
        assert older_stores.contents(store) == said(version)
        assert [hit.role for hit in store.search("北京")] == ["user"]
        assert len(store.unfinished(owner="alice")) == 1
    assert schema_of(old) == len(MIGRATIONS)
    assert ask(old, "PRAGMA integrity_check") == [("ok",)]
    assert ask(old, "PRAGMA foreign_key_check") == []


def test_what_was_brought_up_to_date_has_the_tables_of_a_new_store(old, tmp_path):
    ConversationStore(old).close()
    ConversationStore(tmp_path / "new.sqlite").close()
    names = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
    assert ask(old, names) == ask(tmp_path / "new.sqlite", names)
    for kind, name in ask(old, names):
        if kind == "table":
            columns = f"SELECT name, type, \"notnull\" FROM pragma_table_info('{name}') ORDER BY 1"
            assert ask(old, columns) == ask(tmp_path / "new.sqlite", columns), name


def test_the_next_turn_works_in_what_was_brought_up_to_date(old):
    with contextlib.closing(ConversationStore(old)) as store:
        conversation = store.load(store.recent()[0].id)
        before = [message.id for message in conversation.path()]
        store.add(conversation, Message("user", "And tomorrow?"))
        store.add(conversation, Message("assistant", "Rain."))
        assert store.served.begin_session(conversation.id, 70, owner="local")[0] == 70
    with contextlib.closing(ConversationStore(old)) as store:
        path = store.load(conversation.id).path()
        assert [message.id for message in path][: len(before)] == before
        assert [message.content for message in path][-2:] == ["And tomorrow?", "Rain."]
        assert store.served.find_session(70, owner="local") == conversation.id


def test_the_store_as_it_was_is_kept_beside_it(old, version):
    ConversationStore(old).close()
    copies = list(old.parent.glob("*.schema-*"))
    if version == len(MIGRATIONS):
        assert copies == []
        return
    (copy,) = copies
    assert copy.name == f"{old.name}.schema-{version}"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert schema_of(copy) == version
    with contextlib.closing(ConversationStore(copy)) as store:
        assert older_stores.contents(store) == said(version)


def test_sessions_and_responses_of_servers_are_still_there(tmp_path):
    file = tmp_path / "conversations.sqlite"
    older_stores.restore(older_stores.FIRST_WITH_SERVER_TABLES, file)
    with contextlib.closing(ConversationStore(file)) as store:
        for owner in older_stores.OWNERS:
            kept = store.served.find_response(f"response-of-{owner}", owner=owner)
            assert store.served.find_session(7, owner=owner) == kept.conversation_id
            assert kept.body == {"status": "completed"}


def test_a_store_of_a_newer_schema_is_refused_and_unchanged(old):
    with contextlib.closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE store_version SET version = 99")
    before = ask(old, "SELECT * FROM messages")
    with pytest.raises(StoreError, match=rf"newer version of this program \(schema 99 of {len(MIGRATIONS)}\)$"):
        ConversationStore(old)
    environment = {**os.environ, "VLLMDEPLOY_STORE": str(old)}
    for command in (("conversations", "list"), ("store", "info"), ("serve", "--port", str(free_port()))):
        done = program.run(*command, env=environment)
        assert done.returncode == 1, (command, done.stdout, done.stderr)
        assert "newer version of this program" in done.stderr
        assert "hint: Update this program" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    assert schema_of(old) == 99
    assert ask(old, "SELECT * FROM messages") == before
    assert list(old.parent.glob("*.schema-*")) == []


# -- vLLM --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def another(tmp_path):
    """A function that makes a copy of what is used of vLLM's source: of another version, or with one file changed."""
    folder = tmp_path / "vllm"

    def make(*, version: str | None = None, module: str = "", old: str = "", new: str = "") -> Path:
        for name in {"_version", *(seam.module for seam in SEAMS)}:
            name = f"{name}/__init__.py" if (INSTALLED / name).is_dir() else f"{name}.py"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text((INSTALLED / name).read_text("utf-8"), "utf-8")
        (folder / "__init__.py").touch()
        if version is not None:
            (folder / "_version.py").write_text(f"__version__ = version = '{version}'\n")
        if module:
            text = (folder / f"{module}.py").read_text("utf-8")
            assert old in text
            (folder / f"{module}.py").write_text(text.replace(old, new), "utf-8")
        return folder

    return make


def test_the_vllm_that_is_installed_here_is_known():
    assert version_of(INSTALLED).startswith(f"{seams.KNOWN}.")
    assert missing_seams(INSTALLED) == []
    check_vllm()
    figures = {"schemas": len(VERSIONS), "vllm": version_of(INSTALLED), "names_of_vllm_looked_at": len(SEAMS)}
    scale.keep("upgrades", figures)


@pytest.mark.parametrize("number", ["0.31.0", "0.33.0", "0.33.0rc1.dev5+g1a2b3c", "0.3.2", "0.320.0", "1.32.0", "dev"])
def test_another_version_of_vllm_is_refused_in_a_sentence(another, number):
    with pytest.raises(ServerError, match=rf"^vLLM {number.replace('+', '.')} is not known to this program") as refused:
        check_vllm(another(version=number))
    assert "requirements.txt" in refused.value.hint


@pytest.mark.parametrize("number", ["0.32.0", "0.32.1", "0.32.0+cpu", "0.32.1rc1"])
def test_builds_of_the_known_version_are_taken(another, number):
    check_vllm(another(version=number))


def test_a_vllm_that_does_not_say_its_version_is_refused(another):
    folder = another()
    (folder / "_version.py").unlink()
    with pytest.raises(ServerError, match="vLLM of no version is not known"):
        check_vllm(folder)


@pytest.mark.parametrize(
    ("module", "old", "new", "said"),
    [
        ("renderers/hf", "def render_messages(", "def render_prompt(", "HfRenderer.render_messages"),
        ("renderers/hf", "async def render_messages_async", "def render_messages_async", "render_messages_async"),
        ("renderers/registry", "def register(self, ", "def register(self, owner, ", "RendererRegistry.register"),
        ("renderers/registry", "RENDERER_REGISTRY =", "RENDERERS =", "RENDERER_REGISTRY"),
        ("renderers/params", "    chat_template_kwargs:", "    template_kwargs:", "ChatParams"),
        ("renderers/chat_utils", "content_format:", "format:", "parse_chat_messages"),
        ("entrypoints/openai/chat_completion/protocol", "kv_transfer_params:", "kv_params:", "ChatCompletionRequest"),
        ("entrypoints/serve/utils/api_utils", "def with_cancellation", "def cancellable", "with_cancellation"),
        ("plugins/endpoint_plugins/interface", "def attach_router(self", "def attach(self", "attach_router"),
        ("tokenizers/registry", "import", "impoort", "TokenizerRegistry"),
    ],
)  # fmt: skip
def test_a_vllm_of_the_same_version_that_is_another_inside_is_refused(another, module, old, new, said):
    with pytest.raises(ServerError, match=r"is another than the one that this program knows: no .*" + said):
        check_vllm(another(module=module, old=old, new=new))


def test_a_vllm_with_a_missing_file_is_refused(another):
    folder = another()
    (folder / "renderers" / "chat_utils.py").unlink()
    with pytest.raises(ServerError, match=r"no parse_chat_messages.* in vllm/renderers/chat_utils and 1 more$"):
        check_vllm(folder)


def test_only_names_that_are_looked_at_come_through_the_door():
    for name in seams.HOMES:
        assert getattr(seams, name) is not None
    with pytest.raises(AttributeError, match="AsyncLLM"):
        _ = seams.AsyncLLM


def test_serve_refuses_it_before_anything_is_loaded(another, tmp_path):
    folder = another(version="0.33.0")
    path = program.python_path(folder.parent, program.ROOT)
    environment = {**os.environ, **path, "VLLMDEPLOY_STORE": str(tmp_path / "store.sqlite")}
    done = program.run("serve", "--port", str(free_port()), env=environment)
    assert done.returncode == 1
    assert "vLLM 0.33.0 is not known to this program, which works with vLLM 0.32" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "store.sqlite").exists()


def test_the_plugins_refuse_it_where_they_are_asked_for(another, monkeypatch):
    folder = another(version="0.33.0")
    monkeypatch.setattr(seams, "_installed", lambda: folder)
    check_vllm.cache_clear()
    monkeypatch.setenv("VLLM_PLUGINS", "chatml,api_process")
    with pytest.raises(ServerError, match=r"vLLM 0\.33\.0 is not known"):
        plugin.register()
    with pytest.raises(ServerError, match=r"vLLM 0\.33\.0 is not known"):
        ChatRoutes().attach_router(None)


def test_whoever_does_not_ask_for_the_plugins_keeps_their_vllm(another, monkeypatch, caplog):
    """vLLM loads plugins of its general group by itself, in every program that uses it."""
    monkeypatch.setattr(seams, "_installed", lambda: another(version="0.33.0"))
    check_vllm.cache_clear()
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    plugin.register()
    assert "vLLM 0.33.0 is not known to this program" in caplog.text
    assert "there is no tokenizer mode chatml" in caplog.text


@pytest.fixture(autouse=True)
def forgotten():
    """What was found out about one vLLM is not believed of another."""
    yield
    check_vllm.cache_clear()
