"""``ask`` with tools: what it prints where, what it keeps, and when it ends how. The rest is in test_vllm_deploy.py."""

from __future__ import annotations

import io
import json
import threading

import pytest

from chat.cli.ask import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_UNREACHABLE,
    Tools,
    ask,
    ask_in_conversation,
    open_tools,
)
from chat.config import Settings
from chat.store.local import ConversationStore
from chatcore.errors import ChatError, EngineError
from chatcore.tools.functions import as_tools
from chatcore.tools.rounds import MAX_ROUNDS, REFUSED, STOPPED
from tests.chat.terminal.scripted import Gate, ScriptedBackend
from tests.patience import wait_until
from vllm_wrapper import ToolCall

CALL = ToolCall("call-1", "double", '{"number": 21}')
QUESTION = [{"role": "user", "content": "What is 2 * 21?"}]


def double(number: int) -> int:
    """Double a number."""
    print("this is printed by the tool")
    return 2 * number


def interrupt() -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


def tools(*, allowed: bool = True) -> Tools:
    return Tools(as_tools([double, interrupt]), lambda name, arguments: allowed)


def run(backend: ScriptedBackend, given: Tools, **options) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    code = ask(backend, QUESTION, tools=given, output=output, errors=errors, **options)
    return code, output.getvalue(), errors.getvalue()


def test_the_answer_alone_is_printed_on_standard_output():
    backend = ScriptedBackend([CALL], ["It is 42."])
    assert run(backend, tools()) == (EXIT_OK, "It is 42.\n", "this is printed by the tool\n")
    messages, options = backend.requests[1]
    assert messages[1]["tool_calls"] == [CALL.as_message_part()]
    assert messages[2] == {"role": "tool", "content": "42", "tool_call_id": "call-1"}
    assert [tool["function"]["name"] for tool in options["tools"]] == ["double", "interrupt"]


def test_json_holds_the_steps():
    _, output, _ = run(ScriptedBackend([CALL], ["It is 42."]), tools(), as_json=True)
    data = json.loads(output)
    assert data["text"] == "It is 42."
    assert [message["role"] for message in data["messages"]] == ["assistant", "tool", "assistant"]
    assert "token_ids" not in data["messages"][0]


def test_a_call_that_is_not_allowed_is_not_run():
    backend = ScriptedBackend([CALL], ["I may not."])
    assert run(backend, tools(allowed=False)) == (EXIT_OK, "I may not.\n", "")
    assert backend.requests[1][0][2]["content"] == REFUSED


def test_ctrl_c_in_a_tool_ends_with_130_and_gives_every_call_a_result():
    backend = ScriptedBackend([ToolCall("call-1", "interrupt", "{}"), CALL])
    kept = []
    code, _, _ = run(backend, tools(), keep=kept.append)
    assert code == EXIT_INTERRUPTED
    assert [message.content for message in kept[1:]] == [STOPPED, STOPPED]


def test_a_model_that_only_calls_is_stopped():
    backend = ScriptedBackend(*[[CALL]] * 20)
    code, output, errors = run(backend, tools())
    assert (code, output) == (EXIT_ERROR, "")
    assert f"more than {MAX_ROUNDS} rounds of tool calls" in errors
    assert len(backend.requests) == MAX_ROUNDS + 1


def test_calls_and_results_are_kept_in_the_conversation(tmp_path, capsys):
    store = ConversationStore(tmp_path / "conversations.sqlite")
    backend = ScriptedBackend([CALL], ["It is 42."])
    code = ask_in_conversation(backend, store, store.create(), "What is 2 * 21?", tools=tools())
    assert code == EXIT_OK
    kept = store.load(store.recent()[0].id)
    assert [message.role for message in kept.path()] == ["user", "assistant", "tool", "assistant"]
    assert capsys.readouterr().out == "It is 42.\n"


def test_tools_need_somebody_who_can_be_asked_or_an_explicit_word(tmp_path):
    (tmp_path / "own.py").write_text("def f() -> int:\n    return 1\n")
    settings = Settings(tools={"own": {"python": f"{tmp_path}/own.py"}}, tool_approval="auto")
    with (
        pytest.raises(ChatError, match="nobody is there to be asked") as caught,
        open_tools(settings, is_wanted=True, is_asking=True),
    ):
        pass
    assert "--auto-tools" in caught.value.hint
    with open_tools(settings, is_wanted=False, is_asking=False) as found:
        assert found is not None
        assert found.may_run("f", "{}")
    with open_tools(settings, is_wanted=False, is_asking=True) as found:
        assert found is None
    with (
        pytest.raises(ChatError, match="no tools are configured"),
        open_tools(Settings(), is_wanted=True, is_asking=False),
    ):
        pass


def test_a_partial_answer_is_saved_while_the_model_pauses(tmp_path, monkeypatch):
    """Killed in the middle, ``ask`` had kept the question alone."""
    monkeypatch.setattr("chat.session.answer.SAVE_INTERVAL_S", 0.02)
    store = ConversationStore(tmp_path / "conversations.sqlite")
    silence = Gate()
    backend = ScriptedBackend(["Once upon ", silence, "a time."])
    conversation = store.create()
    asking = threading.Thread(target=lambda: ask_in_conversation(backend, store, conversation, "Tell me a story."))
    asking.start()
    wait_until(lambda: len(store.load(conversation.id).path()) >= 2, "a part of the answer", every_s=0.01)
    kept = store.load(conversation.id).path()
    assert [(message.content, message.status) for message in kept[1:]] == [("Once upon ", "partial")]
    silence.opened.set()
    asking.join()
    [_, answer] = store.load(conversation.id).path()
    assert (answer.content, answer.status, answer.id) == ("Once upon a time.", "complete", kept[1].id)


def test_what_came_of_an_answer_that_fails_is_kept(tmp_path):
    store = ConversationStore(tmp_path / "conversations.sqlite")
    backend = ScriptedBackend(["Half of ", EngineError("the engine has died")])
    conversation = store.create()
    assert ask_in_conversation(backend, store, conversation, "Tell me a story.") == EXIT_UNREACHABLE
    [_, answer] = store.load(conversation.id).path()
    assert (answer.content, answer.status, answer.finish_reason) == ("Half of ", "complete", "abort")
