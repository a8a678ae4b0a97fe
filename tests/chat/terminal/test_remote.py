"""The terminal with its conversations on a server: the real command in a pseudo-terminal, the server's real routes."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from chat.store.local import ConversationStore
from tests.chat.store.store_server import StoreServer
from tests.chat.terminal.driver import Driver
from tests.program import PROGRAM

Start = Callable[..., Driver]
REPEATING = (sys.executable, "-m", "tests.chat.terminal.remote_program")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    server = StoreServer(ConversationStore(tmp_path / "server.sqlite"))
    yield server
    server.stop()
    server.store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    key_file = tmp_path / "key"
    key_file.write_text("local: key-of-local\n")
    drivers: list[Driver] = []

    def start(url: str, *options: str, program: Sequence[str] = REPEATING) -> Driver:
        program = [*program, "chat", "--url", url, "--system", ""]
        environ = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_STATE_HOME": str(tmp_path / "state")}
        drivers.append(Driver([*program, "--api-key-file", str(key_file), *options], environ=environ, columns=240))
        drivers[-1].wait_until(drivers[-1].prompts, "the first prompt")
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def say(terminal: Driver, text: str) -> None:
    terminal.enter(text)
    terminal.wait_for(f"echo: {text}")
    terminal.wait_until(terminal.is_prompting, "the next prompt")


def newest(server: StoreServer) -> list[str]:
    return [message.content for message in server.store.load(server.store.recent(limit=1)[0].id).path()]


def test_what_is_said_is_on_the_server_and_nowhere_else(server: StoreServer, start: Start, tmp_path: Path) -> None:
    terminal = start(server.url)
    terminal.wait_for(f"Conversations are kept on {server.url.removesuffix('/v1')}.")
    say(terminal, "one")
    say(terminal, "two")
    assert newest(server) == ["one", "echo: one", "two", "echo: two"]
    assert not list((tmp_path / "data").rglob("*"))
    terminal.enter("/sessions")
    terminal.wait_for("2 turns")


def test_a_conversation_goes_on_in_another_terminal(server: StoreServer, start: Start) -> None:
    first = start(server.url)
    say(first, "begun here")
    second = start(server.url, "--continue")
    second.wait_for("begun here", "echo: begun here")
    say(second, "gone on there")
    say(first, "and here at once")
    (summary,) = server.store.recent()
    messages = server.store.load(summary.id).messages.values()
    said = ["begun here", "gone on there", "and here at once"]
    assert sorted(m.content for m in messages) == sorted([*said, *(f"echo: {text}" for text in said)])


def test_a_server_that_goes_away_costs_nothing_that_was_said(server: StoreServer, start: Start) -> None:
    terminal = start(server.url)
    say(terminal, "before")
    server.stop()
    say(terminal, "meanwhile")
    terminal.wait_for("does not answer", "sent when the server answers again")
    server.start()
    say(terminal, "after")
    assert newest(server) == [f"{mark}{text}" for text in ("before", "meanwhile", "after") for mark in ("", "echo: ")]


def test_a_terminal_that_is_killed_while_the_server_is_away_loses_nothing(server: StoreServer, start: Start) -> None:
    terminal = start(server.url)
    say(terminal, "before")
    server.stop()
    say(terminal, "meanwhile")
    terminal.wait_for("does not answer")
    terminal.wait_until(terminal.is_prompting, "a prompt")
    terminal.kill()
    server.start()
    start(server.url).wait_for("Conversations are kept on")
    assert newest(server) == ["before", "echo: before", "meanwhile", "echo: meanwhile"]


def test_a_server_that_dies_in_the_middle_of_an_answer_costs_nothing(
    server: StoreServer, start: Start, tmp_path: Path
) -> None:
    """The terminal stays; what came is kept; what was typed is back in the line, and goes once the server is back."""
    terminal = start(server.url, program=PROGRAM)
    terminal.wait_for("Conversations are kept on")
    terminal.enter("long")
    terminal.wait_for("word20 ")
    server.stop()
    terminal.wait_for("What came is kept")
    terminal.enter("next")
    terminal.wait_for("Your message is back in the line")
    terminal.wait_until(
        lambda: re.search(r"in the line\.\n> next\n[^>]*│", terminal.screen.text), "the prompt with the text"
    )
    server.start()
    time.sleep(0.5)  # keys that come together are a paste
    terminal.press("\r")
    terminal.wait_for("short")
    terminal.wait_until(terminal.is_prompting, "the next prompt")
    long, partial, typed, answer = newest(server)
    assert (long, typed, answer) == ("long", "next", "short")
    assert partial.startswith("word0 word1 ")
    assert "word399" not in partial
    assert not list((tmp_path / "data").rglob("*.json"))


def test_the_prompt_does_not_wait_for_a_server_that_is_silent(start: Start, tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        terminal = start(f"http://127.0.0.1:{silent.getsockname()[1]}/v1")  # it waits for the first prompt
        terminal.press("typed meanwhile")
        terminal.wait_for("> typed meanwhile")
    # The connection has broken: what is said is kept here.
    terminal.wait_for("Conversations are kept on this machine")
    terminal.wait_until(lambda: terminal.line().startswith("> typed meanwhile"), "the line, typed and not sent")
    time.sleep(0.5)  # keys that come together are a paste
    terminal.press("\r")
    terminal.wait_for("echo: typed meanwhile")
    store = ConversationStore(tmp_path / "data" / "vllm-deploy" / "conversations.sqlite")
    assert [line.title for line in store.recent()] == ["typed meanwhile"]
    store.close()


def test_with_a_server_that_keeps_nothing_conversations_stay_here(start: Start, tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    terminal = start(url)
    terminal.wait_for("Conversations are kept on this machine", f"not on {url}")
    say(terminal, "hello")
    store = ConversationStore(tmp_path / "data" / "vllm-deploy" / "conversations.sqlite")
    assert [line.title for line in store.recent()] == ["hello"]
    store.close()
