"""The store on a server, as a terminal elsewhere uses it: on the real routes, over real sockets, cut and killed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from chat.conversations.conversation import Conversation, Message
from chat.server.settings.retention import ServedSettings
from chat.store import remote as remote_store
from chat.store.base import Store
from chat.store.local import ConversationStore
from chat.store.remote import RemoteStore, find_store
from chat.store.writer import Writer
from chatcore.errors import ConversationNotFoundError, StoreError, StoreUnreachableError
from tests.chat.store.store_server import StoreServer
from tests.chat.store.storing import keep_fruit
from tests.chat.store.test_any_order import AnyOrder
from tests.patience import patient

KEY, BOBS_KEY = "key-of-local", "key-of-bob"


@pytest.fixture
def server(tmp_path) -> Iterator[StoreServer]:
    server = StoreServer(ConversationStore(tmp_path / "conversations.sqlite"))
    yield server
    server.stop()
    server.store.close()


@pytest.fixture
def remote(server) -> Iterator[RemoteStore]:
    store = RemoteStore(server.url, api_key=KEY)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def own_outbox(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def say(store: Store, conversation: Conversation, *texts: str) -> None:
    for number, text in enumerate(texts):
        store.add(conversation, Message("assistant" if number % 2 else "user", text))


def contents(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.path()]


# -- the same as a store of this machine ------------------------------------------------------------------------------


def test_memory_and_server_stay_equal_whatever_is_done(server):
    class Machine(AnyOrder):
        def open(self) -> Store:
            return RemoteStore(server.url, api_key=KEY)

        def memory_and_store_are_equal(self) -> None:
            self.store.flush(5)
            super().memory_and_store_are_equal()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=6,
            stateful_step_count=15,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_everything_about_a_message_comes_back(remote):
    conversation = remote.create(system="Be terse.", title="A name")
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": "é"}'}}
    said = [
        Message("user", "你好 🙂 a\0b"),
        Message("assistant", "", reasoning="hm", tool_calls=(call,), token_ids=(0, 2**32 - 1), usage={"ttft_ms": 1.5}),
        Message("tool", "42", tool_call_id="c1"),
        Message("assistant", "It is 42.", finish_reason="stop"),
    ]
    for message in said:
        remote.add(conversation, message)
    loaded = remote.load(conversation.id[:6])
    assert contents(loaded) == ["你好 🙂 a�b", "", "42", "It is 42."]
    assert list(loaded.messages.values())[1:] == list(conversation.messages.values())[1:]
    assert (loaded.title, loaded.system) == ("A name", "Be terse.")


def test_lists_and_search_are_those_of_the_server(remote, server):
    conversation = server.store.create()
    say(server.store, conversation, "where is the lighthouse?", "At the cape.")
    assert remote.recent() == server.store.recent()
    assert remote.find_conversations("lighthouse") == server.store.find_conversations("lighthouse")
    assert [line.excerpt for line in remote.find_conversations("light")] == ["where is the lighthouse?"]
    assert remote.delete(conversation.id) == "where is the lighthouse?"
    assert server.store.recent() == remote.recent() == []
    with pytest.raises(ConversationNotFoundError):
        remote.delete(conversation.id)


def test_conversations_are_found_however_often_another_has_the_word(remote):
    keep_fruit(remote)
    assert [line.title for line in remote.find_conversations("apple")] == ["Orchard", "Dessert"]
    assert [line.title for line in remote.find_conversations("Banana")] == ["Banana notes"]
    assert [line.title for line in remote.find_conversations("apple", limit=1)] == ["Orchard"]
    assert remote.find_conversations("apple" + 2000 * " pie") == remote.find_conversations("apple pie")


def test_an_older_server_that_cannot_find_conversations_is_named(httpserver_answering):
    store = RemoteStore(httpserver_answering(404, b'{"detail": "Not Found"}'))
    with pytest.raises(StoreError, match="cannot search conversations") as caught:
        store.find_conversations("apple")
    assert not isinstance(caught.value, ConversationNotFoundError)
    assert "same version" in caught.value.hint


def test_what_is_imported_gets_ids_of_its_own_and_comes_at_once(remote, server):
    first, second = Conversation(title="a"), Conversation(title="b")
    first.add(Message("user", "one"))
    second.add(Message("user", "two"))
    kept = remote.insert_all([first, second])
    assert {line.title for line in server.store.recent()} == {"a", "b"}
    assert kept[0].id != first.id
    say(remote, kept[0], "more")  # what was imported can be gone on with
    assert contents(server.store.load(kept[0].id)) == ["one", "more"]


# -- two at once ------------------------------------------------------------------------------------------------------


def test_two_terminals_in_one_conversation_lose_nothing(server, remote):
    other = RemoteStore(server.url, api_key=KEY)
    mine = remote.create()
    say(remote, mine, "question", "answer")
    theirs = other.load(mine.id)
    other.add(theirs, Message("user", "theirs"))
    theirs.system = "set there"
    theirs.pinned_ids.add(next(iter(theirs.messages)))
    other.save(theirs)
    remote.add(mine, Message("user", "mine"))
    mine.pinned_ids.add(list(mine.messages)[1])
    remote.save(mine)
    loaded = remote.load(mine.id)
    assert {message.content for message in loaded.messages.values()} == {"question", "answer", "theirs", "mine"}
    assert (loaded.system, len(loaded.pinned_ids)) == ("set there", 2)
    assert contents(loaded) == ["question", "answer", "mine"]
    other.close()


def test_many_writers_at_once_lose_nothing(server, remote):
    conversation = remote.create()
    say(remote, conversation, "beginning")

    def write(number: int) -> None:
        store = RemoteStore(server.url, api_key=KEY)
        mine = store.load(conversation.id)
        for index in range(5):
            store.add(mine, Message("user", f"{number}-{index}"))
        store.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = {message.content for message in server.store.load(conversation.id).messages.values()}
    assert kept == {"beginning"} | {f"{number}-{index}" for number in range(4) for index in range(5)}


def test_a_conversation_that_another_terminal_has_deleted_says_so(server, remote):
    conversation = remote.create()
    say(remote, conversation, "hello")
    server.store.delete(conversation.id)
    with pytest.raises(ConversationNotFoundError):
        say(remote, conversation, "still there?")


# -- cut, killed, silent ----------------------------------------------------------------------------------------------


def test_a_retry_after_a_cut_off_response_stores_a_message_once(server, remote):
    conversation = remote.create()
    server.cuts["/v1/store/changes"] = True
    say(remote, conversation, "once")
    assert not server.cuts
    assert [m.content for m in server.store.load(conversation.id).messages.values()] == ["once"]


def test_a_server_that_was_restarted_is_found_again(server, remote):
    conversation = remote.create()
    say(remote, conversation, "before")
    server.stop()
    server.start()
    say(remote, conversation, "after")
    assert contents(server.store.load(conversation.id)) == ["before", "after"]


def test_changes_during_an_outage_are_sent_with_the_next_message(server, remote):
    conversation = remote.create()
    say(remote, conversation, "before")
    server.stop()
    conversation.add(Message("user", "meanwhile"))
    with pytest.raises(StoreUnreachableError, match="does not answer") as caught:
        remote.save(conversation)
    assert KEY not in f"{caught.value} {caught.value.hint}"
    server.start()
    remote.add(conversation, Message("assistant", "after"))
    assert contents(server.store.load(conversation.id)) == ["before", "meanwhile", "after"]


def test_unsent_changes_of_a_dead_program_are_sent_by_the_next_one(server, tmp_path):
    store = find_store(server.url, api_key=KEY)
    conversation = store.create()
    say(store, conversation, "before")
    server.stop()
    conversation.add(Message("user", "meanwhile"))
    with pytest.raises(StoreUnreachableError):
        store.save(conversation)
    conversation.add(Message("assistant", "half", status="partial"))
    store.save(conversation)
    store.flush(10)
    with pytest.raises(StoreUnreachableError):
        store.add(conversation, replace(conversation.tip, content="half an answer"))
    waiting = list((tmp_path / "data").rglob("*.json"))
    assert [file.stat().st_mode & 0o777 for file in waiting] == [0o600]
    server.start()
    find_store(server.url, api_key=BOBS_KEY).close()  # somebody else's program does not take it for its own
    assert contents(server.store.load(conversation.id)) == ["before"]
    find_store(server.url, api_key=KEY).close()
    assert contents(server.store.load(conversation.id)) == ["before", "meanwhile", "half an answer"]
    assert not list((tmp_path / "data").rglob("*.json"))


def test_an_answer_that_grows_waits_for_no_network(server, remote):
    conversation = remote.create()
    say(remote, conversation, "question")
    hold = threading.Event()
    server.before = lambda path: hold.wait(5) and None
    answer = Message("assistant", "", status="partial")
    began_s = time.perf_counter()
    for number in range(20):
        remote.add(conversation, replace(answer, content="word " * number))
    assert time.perf_counter() - began_s < patient(1)
    hold.set()
    remote.flush(10)
    assert contents(server.store.load(conversation.id))[-1] == "word " * 19
    remote.add(conversation, replace(answer, content="the whole", status="complete"))
    assert contents(server.store.load(conversation.id)) == ["question", "the whole"]


def test_a_growing_answer_that_cannot_be_sent_is_told_by_the_next_piece(server, remote):
    conversation = remote.create()
    say(remote, conversation, "question")
    server.stop()
    answer = Message("assistant", "half", status="partial")
    conversation.add(answer)
    remote.save(conversation)
    remote.flush(10)
    with pytest.raises(StoreUnreachableError):
        remote.add(conversation, replace(answer, content="half an answer"))
    server.start()
    conversation.add(replace(answer, content="half an answer", finish_reason="abort", status="complete"))
    remote.save(conversation)
    assert contents(server.store.load(conversation.id)) == ["question", "half an answer"]


def test_a_silent_server_is_waited_for_once_and_not_at_every_message(server, remote, monkeypatch):
    conversation = remote.create()
    monkeypatch.setattr(remote_store, "TIMEOUT", httpx2.Timeout(0.3))
    monkeypatch.setattr(remote._link.call.__func__, "__kwdefaults__", {"query": None, "timeout": httpx2.Timeout(0.3)})
    hold = threading.Event()
    server.before = lambda path: hold.wait(5) and None
    took_s = []
    for number in range(3):
        began_s = time.perf_counter()
        conversation.add(Message("user", f"message {number}"))
        with pytest.raises(StoreUnreachableError, match="silent"):
            remote.save(conversation)
        took_s.append(time.perf_counter() - began_s)
    hold.set()
    assert took_s[0] < patient(3)
    assert max(took_s[1:]) < patient(0.1)
    monkeypatch.setattr(remote_store, "PAUSE_S", 0.0)
    remote._link._pause_until_s = 0.0
    remote.save(conversation)
    assert len(contents(server.store.load(conversation.id))) == 3


# -- turns that were cut off ------------------------------------------------------------------------------------------


def test_a_terminal_that_dies_leaves_its_turn_to_be_resumed(server, remote):
    dead = RemoteStore(server.url, api_key=KEY)
    dead._writer = _a_dead_writer()
    conversation = dead.create()
    say(dead, conversation, "unanswered")
    dead._link.close()
    assert [line.id for line in remote.unfinished()] == [conversation.id]
    remote.settle(conversation.id)
    assert remote.unfinished() == []


def test_an_answer_that_another_terminal_is_writing_is_not_unfinished(server, remote):
    other = RemoteStore(server.url, api_key=KEY)
    conversation = other.create()
    say(other, conversation, "question")
    other.add(conversation, Message("assistant", "half", status="partial"))
    other.flush(5)
    assert remote.unfinished() == []
    other.close()  # with half an answer
    assert [line.id for line in remote.unfinished()] == [conversation.id]


def test_a_question_that_was_left_open_on_purpose_is_not_offered(server, remote):
    other = RemoteStore(server.url, api_key=KEY)
    say(other, other.create(), "never mind")
    other.close()
    assert remote.unfinished() == []


def _a_dead_writer() -> Writer:
    writer = Writer()
    host, boot, _, _, serial = writer.name.split(" ")
    writer.name = f"{host} {boot} 4194304 1 {serial}"  # beyond any process id
    return writer


# -- whose it is ------------------------------------------------------------------------------------------------------


def test_two_keys_do_not_see_each_others_conversations(server, remote):
    bobs = RemoteStore(server.url, api_key=BOBS_KEY)
    conversation = remote.create(system="secret system")
    say(remote, conversation, "secret words")
    assert bobs.recent() == bobs.unfinished() == bobs.find_conversations("secret") == []
    for attempt in (bobs.load, bobs.delete, bobs.settle):
        with pytest.raises(ConversationNotFoundError):
            attempt(conversation.id)
    bobs.close()


def test_nobody_writes_into_anothers_conversation_by_its_ids(server, remote):
    bobs = RemoteStore(server.url, api_key=BOBS_KEY)
    conversation = remote.create()
    say(remote, conversation, "mine")
    with pytest.raises(ConversationNotFoundError):  # as one that he made himself
        bobs.save(Conversation(id=conversation.id, title="taken"))
    stolen = replace(next(iter(conversation.messages.values())), content="replaced")
    with pytest.raises(StoreError):
        bobs.save(Conversation(messages={stolen.id: stolen}, tip_id=stolen.id))
    bobs.create()
    foreign_parent = Message("user", "behind it", parent_id=stolen.id)
    with pytest.raises(StoreError):
        bobs.save(Conversation(messages={foreign_parent.id: foreign_parent}, tip_id=foreign_parent.id))
    loaded = server.store.load(conversation.id)
    assert (contents(loaded), loaded.title) == (["mine"], "mine")
    assert bobs.recent() == []
    bobs.close()


def test_more_conversations_than_are_allowed_are_refused(server, remote):
    server.settings = ServedSettings(max_conversations=2)
    server.stop()
    server.start()
    conversations = [remote.create(), remote.create()]
    with pytest.raises(StoreError, match="2 conversations are the most"):
        remote.create()
    with pytest.raises(StoreError, match="2 conversations are the most"):
        remote.insert_all([Conversation(title="a")])
    say(remote, conversations[0], "those that are there go on")
    remote.delete(conversations[1].id)
    remote.create()


def test_a_wrong_key_is_told_without_naming_it(server):
    with pytest.raises(StoreError, match="refuses the key") as caught:
        find_store(server.url, api_key="wrong-key")
    assert "wrong-key" not in f"{caught.value} {caught.value.hint}"


# -- what is no store -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (200, b"<html>"), (200, b'{"object": "list"}'), (405, b"")])
def test_a_server_that_keeps_no_conversations_is_no_store(status, body, httpserver_answering):
    assert find_store(httpserver_answering(status, body)) is None


def test_a_server_of_a_newer_version_is_told(httpserver_answering):
    body = json.dumps({"object": "conversation_store", "version": 99, "owner": "x"}).encode()
    with pytest.raises(StoreError, match="another version"):
        find_store(httpserver_answering(200, body))


def test_what_is_no_conversation_is_told(httpserver_answering):
    store = RemoteStore(httpserver_answering(200, b'{"data": [{"id": 1}]}'))
    for ask in (store.recent, lambda: store.load("abcd"), lambda: store.find_conversations("x")):
        with pytest.raises(StoreError, match="answers something else"):
            ask()
    store.close()


def test_nobody_at_the_address_is_told(server):
    server.stop()
    with pytest.raises(StoreUnreachableError, match="does not answer"):
        find_store(server.url, api_key=KEY)
    server.start()


@pytest.fixture
def httpserver_answering() -> Iterator[object]:
    """Start a server that gives one answer to everything."""
    import http.server

    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "Content-Length" in self.headers:
                    self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
