"""The page in front of a server: everybody logs in with their key of that server, whose store has the conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from chat.store.local import ConversationStore
from tests.chat.web.conftest import running_page, visiting
from tests.patience import wait_until
from tests.serving import RunningServer

LONG = "Tell me a long story."


@pytest.fixture(scope="module")
def site(server: RunningServer) -> Iterator[str]:
    with running_page("--url", f"{server.url}/v1", "--set", "ignore_eos=true") as address:
        yield address


def test_two_people_of_a_server(chromium: Any, server: RunningServer, site: str) -> None:
    """Each has the conversations of the own key, on the server; one's leaving ends the one's answer."""
    kept = ConversationStore(server.store)
    with visiting(chromium, site) as alice, visiting(chromium, site) as bob:
        bob.log_in("not-a-key-of-this-server")
        assert "refuses the key" in bob.page.get_by_role("alert").inner_text()
        bob.page.close()
        for owner, visit in (("alice", alice), ("bob", bob)):
            visit.log_in(server.keys[owner])
            visit.wait_until_ready()
        for owner, visit in (("alice", alice), ("bob", bob)):  # at once: an answer takes but seconds on a fast machine
            visit.send(f"I am {owner}. {LONG}")
        said_something = "document.querySelector('#live .body')?.innerText.length > 20"
        alice.wait_for(said_something, timeout_s=90)
        alice.page.click("#stop")
        alice.page.wait_for_selector("#past .message.answer")
        assert alice.texts("#past .figures")[0].endswith("stopped")
        bob.wait_for(said_something, timeout_s=90)
        assert bob.page.is_visible("#stop")  # goes on
    for owner in ("alice", "bob"):  # bob has left in the middle
        entry = kept.recent(owner=owner)[0]
        assert entry.title == f"I am {owner}. {LONG}"
        wait_until(lambda owner=owner, entry=entry: _reason(kept, entry.id, owner) == "abort")
    kept.close()


def _reason(store: ConversationStore, conversation_id: str, owner: str) -> str | None:
    tip = store.load(conversation_id, owner=owner).tip
    return tip.finish_reason if tip is not None else None


def test_nobody_comes_in_without_a_key(site: str) -> None:
    assert httpx2.get(site).headers["location"] == "login"
    assert httpx2.get(f"{site}/config").status_code == 401
