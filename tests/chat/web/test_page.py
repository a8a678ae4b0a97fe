"""The page in a real browser, with the real engine and the demo model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chat.conversations.conversation import Conversation, Message
from chat.store.local import ConversationStore
from tests.chat.web.conftest import KEYS, Visit, store_file, visiting
from tests.chat.web.test_markup import ATTACKS
from tests.patience import wait_until

LONG = "Tell me a long story."


@pytest.fixture
def kept() -> Iterator[ConversationStore]:
    """The store that the page uses."""
    store = ConversationStore(store_file())
    yield store
    store.close()


def set_endless(visit: Visit) -> None:
    """Have answers go on until they are stopped: with the settings that the page has for it."""
    visit.page.click("#panel-settings .toggle-button")
    visit.page.check("#sampling-ignore_eos input")
    visit.page.fill("#sampling-max_tokens input", "4000")
    visit.page.press("#sampling-max_tokens input", "Tab")
    visit.wait_for("document.querySelector('#reset').innerText.includes('(3 changed)')")  # with the --temperature
    visit.page.click("#panel-settings .toggle-button")


def test_two_turns_that_remember(visit: Visit, kept: ConversationStore) -> None:
    visit.open()
    assert visit.texts("#head h1") == ["New chat"]
    visit.ask("Hello! My name is Tom.")
    assert "Tom" in visit.ask("What is my name?")
    assert visit.texts("#past .user .plain") == ["Hello! My name is Tom.", "What is my name?"]
    assert "tokens · TTFT" in visit.texts("#past .figures")[-1]
    assert "of 8,192 tokens" in visit.texts("#head .gauge")[0]
    assert visit.texts("#list [aria-current] span") == ["Hello! My name is Tom."]
    assert kept.load(visit.page.url.split("#c=")[1]).num_turns == 2
    assert visit.errors == []


def test_an_answer_is_stopped_in_the_middle_and_kept(visit: Visit, kept: ConversationStore) -> None:
    visit.open()
    set_endless(visit)
    visit.send(LONG)
    visit.wait_for("document.querySelector('#live .body')?.innerText.length > 80")
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_selector("#past .message.answer")
    assert visit.texts("#past .figures")[0].endswith("stopped")
    assert visit.page.locator("#live .message").count() == 0
    tip = kept.load(visit.page.url.split("#c=")[1]).tip
    assert tip is not None
    assert (tip.role, tip.finish_reason) == ("assistant", "abort")
    assert visit.page.is_visible("#send")


def test_a_reloaded_page_goes_on(visit: Visit) -> None:
    visit.open()
    visit.ask("Hello! My name is Tom.")
    visit.page.fill("#system textarea", "You are Tom's friend.")
    visit.page.locator("#system textarea").blur()
    visit.page.wait_for_timeout(500)
    visit.reload()
    visit.page.wait_for_selector("#past .message.answer")
    assert visit.texts("#past .user .plain") == ["Hello! My name is Tom."]
    assert visit.page.input_value("#system textarea") == "You are Tom's friend."
    assert "Tom" in visit.ask("What is my name?")


def test_whoever_leaves_ends_the_request(chromium: Any, site: str, kept: ConversationStore) -> None:
    with visiting(chromium, site) as visit:
        visit.open()
        set_endless(visit)
        visit.send(LONG)
        visit.wait_for("document.querySelector('#live .body')?.innerText.length > 80")
        visit.wait_for("location.hash.startsWith('#c=')")
        conversation_id = visit.page.url.split("#c=")[1]
    wait_until(lambda: getattr(kept.load(conversation_id).tip, "finish_reason", None) == "abort")


def test_a_terminals_conversation_goes_on_here(visit: Visit, kept: ConversationStore) -> None:
    conversation = Conversation(system="You are a helpful assistant.")
    conversation.add(Message("user", "Hello! My name is Anna."))
    conversation.add(Message("assistant", "Nice to meet you, Anna!"))
    kept.save(conversation)
    visit.open()
    visit.page.get_by_role("button", name="Hello! My name is Anna.").click()
    visit.page.wait_for_selector("#past .message.answer")
    assert "Anna" in visit.ask("What is my name?")
    assert kept.load(conversation.id).num_turns == 2


def test_editing_answering_again_undoing(visit: Visit) -> None:
    visit.open()
    visit.ask("Hello! My name is Tom.")
    visit.page.locator("#past .answer [data-action=retry]").click()
    visit.page.wait_for_selector("#past .answer .versions")
    assert visit.texts("#past .answer .versions span") == ["2 of 2"]
    visit.page.locator("#past .user [data-action=edit]").click()
    visit.wait_for("document.querySelector('#box textarea').value === 'Hello! My name is Tom.'")
    visit.send("Hello! My name is Eva.")
    visit.page.wait_for_selector("#past .user .versions")
    visit.wait_for("document.querySelector('#past .user .plain').innerText.includes('Eva')")
    visit.page.wait_for_selector("#past .answer [data-action=undo]")
    visit.page.locator("#past .answer [data-action=undo]").click()
    visit.page.wait_for_selector("#past .welcome")
    visit.page.click("#head .menu summary")
    visit.page.click("#head .menu [data-action=redo]")
    visit.wait_for("document.querySelector('#past .user .plain')?.innerText.includes('Eva')")


def test_renaming_searching_exporting_deleting(visit: Visit) -> None:
    visit.open()
    visit.ask("Where does the wombat live?")
    page = visit.page
    page.click("#head .menu summary")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Title").fill("Marsupials")
    page.keyboard.press("Enter")
    visit.wait_for("document.querySelector('#head h1').innerText === 'Marsupials'")
    page.locator("#search input").press_sequentially("wombat")
    visit.wait_for("document.querySelectorAll('#list li').length === 1")
    assert visit.texts("#list li span") == ["Marsupials"]
    page.click("#head .menu summary")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as Markdown").click()
    assert download.value.suggested_filename == "Marsupials.md"
    assert "## User\n\nWhere does the wombat live?" in Path(download.value.path()).read_text("utf-8")
    page.click("#head .menu summary")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="OK").click()
    page.wait_for_selector("#past .welcome")
    visit.wait_for("document.querySelector('#list .none')")
    assert visit.errors == []


def test_a_file_costs_what_is_said_before_it_is_sent(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("# Notes\n\nThe cat is called Minka. <script>alert(1)</script>\n", "utf-8")
    visit.open()
    visit.page.set_input_files("input[type=file]", file)
    visit.page.wait_for_selector("#files li")
    shown = visit.texts("#files li")[0]
    assert shown.startswith("notes.md · 60 bytes · ")
    assert int(shown.split(" · ")[2].split()[0]) > 10
    visit.ask("Here are my notes.")
    assert "Minka" in visit.texts("#past .user code")[0]
    assert visit.page.locator("#files li").count() == 0
    assert visit.errors == []


def test_attacks_stay_text(visit: Visit, kept: ConversationStore) -> None:
    """Said, answered, thought, called, as a title, and in the box: nothing runs, and nothing is fetched."""
    conversation = Conversation(title=ATTACKS[1], system=ATTACKS[0])
    for attack in ATTACKS:
        conversation.add(Message("user", attack))
        call = {"id": "1", "type": "function", "function": {"name": attack, "arguments": attack}}
        conversation.add(Message("assistant", attack, reasoning=attack, tool_calls=(call,), finish_reason=attack))
        conversation.add(Message("tool", attack, tool_call_id="1"))
    kept.save(conversation)
    visit.open(f"#c={conversation.id}")
    visit.page.wait_for_selector("#past .earlier")
    visit.page.click("#past .earlier")
    visit.wait_for(f"document.querySelectorAll('#past .user').length === {len(ATTACKS)}")
    assert visit.page.locator("#past").locator("script, img, iframe, style, form, input, svg[onload]").count() == 0
    handlers = (
        "[...document.querySelectorAll('#chat *, #list *')].filter(e => e.getAttributeNames().some(n => /^on/.test(n)))"
    )
    assert visit.page.evaluate(f"{handlers}.length") == 0
    assert visit.texts("#head h1") == [ATTACKS[1]]
    visit.ask(ATTACKS[1])
    assert visit.texts("#past .user .plain")[-1] == ATTACKS[1]
    assert visit.errors == []
    assert {address.split("/")[2] for address in visit.requests} == {visit.address.split("/")[2]}


def test_nothing_is_asked_for_from_elsewhere(visit: Visit) -> None:
    visit.open()
    visit.ask("Hello!")
    visit.page.click("#panel-settings .toggle-button")
    addresses = {address.split("/")[2] for address in visit.requests if not address.startswith(("data:", "blob:"))}
    assert addresses == {visit.address.split("/")[2]}
    assert visit.page.evaluate("document.fonts.size") == 0 or not any("fonts." in a for a in visit.requests)
    assert visit.errors == []


def test_the_width_of_a_phone_is_enough(chromium: Any, site: str) -> None:
    with visiting(chromium, site, viewport={"width": 360, "height": 640}, has_touch=True) as visit:
        visit.open()
        visit.wait_for("!document.querySelector('#panel-list').classList.contains('open')")
        visit.ask("Hello! My name is Tom.")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        for part in ("#box textarea", "#send", "#past .answer"):
            box = visit.page.locator(part).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
        visit.page.click("#panel-list .toggle-button")
        visit.page.click("#new")
        visit.page.wait_for_selector("#past .welcome")


def test_on_a_slow_line_the_list_of_a_phone_is_closed_too(chromium: Any, site: str) -> None:
    with visiting(chromium, site, viewport={"width": 360, "height": 640}, has_touch=True) as visit:
        visit.hold_back("Toggle Sidebar", for_s=2)
        visit.open()
        visit.page.wait_for_selector("#panel-list", state="attached")
        visit.wait_for("!document.querySelector('#panel-list').classList.contains('open')")
        visit.page.wait_for_timeout(500)
        assert "open" not in str(visit.page.get_attribute("#panel-list", "class")).split()


def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    visit.open()
    page = visit.page
    page.focus("#box textarea")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#box textarea") == "one\ntwo"
    # The Enter that ends a word written with an input method: it must not send.
    compose = "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true})"
    page.evaluate(f"document.querySelector('#box textarea').dispatchEvent({compose})")
    page.wait_for_timeout(300)
    assert page.locator("#past .message").count() == 0
    page.keyboard.press("Enter")
    page.wait_for_selector("#past .message.answer")
    assert visit.texts("#past .user .plain") == ["one\ntwo"]
    page.focus("#head .menu summary")
    page.keyboard.press("Enter")
    assert page.is_visible("#head .menu .items")
    page.keyboard.press("Escape")
    assert not page.is_visible("#head .menu .items")


def test_chinese_and_darkness(chromium: Any, site: str) -> None:
    with visiting(chromium, site, locale="zh-CN", color_scheme="dark") as visit:
        visit.open()
        visit.wait_for("document.querySelector('#send').innerText === '发送'")
        assert visit.page.get_attribute("html", "lang") == "zh"
        assert "dark" in str(visit.page.get_attribute("body", "class"))
        visit.page.click("#head .menu summary")
        visit.page.click("#head .menu [data-theme]")
        assert "dark" not in str(visit.page.get_attribute("body", "class"))
        visit.reload()
        assert "dark" not in str(visit.page.get_attribute("body", "class"))


def test_what_is_copied_is_what_was_written(chromium: Any, site: str, kept: ConversationStore) -> None:
    conversation = Conversation()
    conversation.add(Message("user", "code?"))
    conversation.add(Message("assistant", "**So:**\n\n```python\nif a < b:\n    print('x')\n```\n"))
    kept.save(conversation)
    with visiting(chromium, site) as visit:
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site)
        visit.open(f"#c={conversation.id}")
        for button, text in (("code", "if a < b:\n    print('x')\n"), ("message", conversation.tip.content)):
            visit.page.locator(f"#past .answer [data-copy={button}]").click()
            assert visit.page.evaluate("navigator.clipboard.readText()") == text


def test_two_people_see_their_own(chromium: Any, guarded_site: str) -> None:
    with visiting(chromium, guarded_site) as alice, visiting(chromium, guarded_site) as bob:
        for name, visit in (("alice", alice), ("bob", bob)):
            visit.log_in("wrong-key-wrong")
            assert "not known here" in visit.page.get_by_role("alert").inner_text()
            visit.page.close()
            visit.log_in(KEYS[name])
            visit.wait_until_ready()
        alice.send("Hello! My name is Alice.")
        bob.send("Hello! My name is Bob.")
        for name, visit in (("Alice", alice), ("Bob", bob)):
            visit.page.wait_for_selector("#past .message.answer")
            assert name in visit.ask("What is my name?")
            visit.wait_for("document.querySelectorAll('#list li').length === 1")
            assert visit.texts("#list li span") == [f"Hello! My name is {name}."]
        alices = alice.page.url.split("#c=")[1]
        bob.page.goto(f"{guarded_site}/?again#c={alices}")
        bob.wait_until_ready()
        assert "there is no conversation" in bob.texts("#notice")[0]
        assert bob.page.request.get(f"{guarded_site}/export/{alices}.md").status == 404
        assert alice.page.request.get(f"{guarded_site}/export/{alices}.md").status == 200
        alice.page.goto(f"{guarded_site}/logout")
        assert alice.page.request.get(f"{guarded_site}/export/{alices}.md").status == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium: Any, site: str, axe: str, kept: ConversationStore, scheme: str) -> None:
    conversation = Conversation()
    conversation.add(Message("user", "Show me everything."))
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    text = "# Title\n\n[link](https://a.example) `code`\n\n| a |\n|---|\n| $x^2$ |\n\n```python\n# why\nx = 'y'\n```\n"
    usage = {"num_prompt_tokens": 10, "num_output_tokens": 9, "ttft_ms": 10.0, "e2el_ms": 90.0}
    conversation.add(Message("assistant", text, reasoning="Hm.", tool_calls=(call,), usage=usage))
    kept.save(conversation)
    with visiting(chromium, site, color_scheme=scheme) as visit:
        visit.open(f"#c={conversation.id}")
        visit.page.click("#panel-settings .toggle-button")
        visit.page.wait_for_timeout(600)  # until the panel has come to rest
        visit.page.evaluate(axe)
        for opened in ("", "#head .menu summary", "#head .menu [data-dialog=rename]"):
            if opened:
                visit.page.click(opened)
            found = visit.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            serious = [item for item in found if item["impact"] in ("serious", "critical")]
            assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in serious] == []


# -- without a browser ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=/etc/passwd", "/gradio_api/proxy=https://a.example", "/monitoring", "/docs", "/openapi.json"]
    + [
        "/gradio_api/vibe-code",
        "/gradio_api/runs",
        "/gradio_api/call/sent",
        "/gradio_api/openapi.json",
        "/static/../x",
    ],
)
def test_what_the_page_does_not_need_is_not_there(site: str, path: str) -> None:
    assert httpx2.get(site + path).status_code == 404


def test_another_name_is_refused(site: str) -> None:
    """A page elsewhere can have its own name point to this machine, and would then speak to us as if it were ours."""
    assert httpx2.get(site, headers={"host": "evil.example"}).status_code == 403


def test_a_browser_is_told_to_fetch_nothing_from_elsewhere(site: str) -> None:
    policy = httpx2.get(site).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy


def test_nobody_comes_in_without_a_key(guarded_site: str) -> None:
    response = httpx2.get(guarded_site)
    assert (response.status_code, response.headers["location"]) == (303, "login")
    for path in ("/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x"):
        assert httpx2.get(guarded_site + path).status_code == 401
    body: dict[str, Any] = {"data": ["", "en"], "fn_index": 0, "session_hash": "x"}
    assert httpx2.post(guarded_site + "/gradio_api/queue/join", json=body).status_code == 401
    assert httpx2.post(guarded_site + "/gradio_api/upload", files={"files": b"x"}).status_code == 401
