"""Tools in the terminal: called, kept, switched, refused. What is asked at the keyboard is in test_pty_tools.py."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from chat.config import Settings
from chat.session.stored import NOT_RUN
from chat.store.local import ConversationStore
from chat.terminal.tool_calls import shown_call, shown_result
from chatcore.errors import EngineError
from chatcore.tools.rounds import MAX_ROUNDS, REFUSED, STOPPED, TOO_MANY
from tests.chat.terminal.conftest import Talk
from tests.chat.terminal.scripted import ScriptedBackend
from tests.chatcore.tools.test_mcp import COMMAND, is_running
from vllm_wrapper import ToolCall

FILE = '''
"""Tools."""

def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression."""
    left, right = expression.split("*")
    return str(int(left) * int(right))

def shout(text: str) -> str:
    """Shout."""
    return "\\n".join([text.upper()] * 30)

def interrupt() -> str:
    """Press Ctrl-C."""
    raise KeyboardInterrupt
'''
CALL = ToolCall("call-1", "calculator", '{"expression": "12 * 12"}')


@pytest.fixture
def auto(tmp_path: Path) -> Settings:
    """Settings with tools that run without asking."""
    (tmp_path / "tools.py").write_text(FILE, "utf-8")
    return Settings(system="", tools={"own": {"python": str(tmp_path / "tools.py")}}, tool_approval="auto")


def roles(backend: ScriptedBackend) -> list[str]:
    return [message["role"] for message in backend.requests[-1][0]]


def test_a_call_is_shown_run_and_answered_from(talk: Talk, auto: Settings) -> None:
    backend = ScriptedBackend([CALL], ["12 * 12 = 144"], ["Bye."])
    shown = talk(backend, "What is 12 * 12?", "Thanks.", "/history", settings=auto)
    steps = '● calculator(expression="12 * 12")\n  144\n12 * 12 = 144\n'
    assert shown.count(steps) == 2
    assert "13 tokens · TTFT" in shown
    assert "0 tokens" not in shown  # no figures for a call, which is no answer
    assert "without a word" not in shown
    tools = backend.requests[0][1]["tools"]
    assert [tool["function"]["name"] for tool in tools] == ["calculator", "shout", "interrupt"]
    assert roles(backend) == ["user", "assistant", "tool", "assistant", "user"]
    messages = backend.requests[1][0]
    assert messages[1]["tool_calls"] == [CALL.as_message_part()]
    assert (messages[2]["content"], messages[2]["tool_call_id"]) == ("144", "call-1")


def test_calls_and_results_are_kept_and_come_back(talk: Talk, auto: Settings) -> None:
    talk(ScriptedBackend([CALL], ["144"]), "What is 12 * 12?", settings=auto)
    backend = ScriptedBackend([CALL], ["It is 144."], ["Bye."])
    lines = ("/resume", "/retry", "/variants", "/variants 1", "Thanks.")
    shown = talk(backend, *lines, settings=auto)
    assert "This is answer 2" in shown
    assert re.search(r"1  stop  144\n\*  2  stop  It is 144\.", shown)
    contents = [message["content"] for message in backend.requests[-1][0]]
    assert contents == ["What is 12 * 12?", "", "144", "144", "Thanks."]


def test_calls_survive_export_and_import(talk: Talk, auto: Settings, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    talk(ScriptedBackend([CALL], ["144"]), "What is 12 * 12?", f"/save {file}", settings=auto)
    backend = ScriptedBackend(["Bye."])
    talk(backend, f"/load {file}", "Thanks.", settings=Settings(system=""))
    assert roles(backend) == ["user", "assistant", "tool", "assistant", "user"]
    assert "tools" not in backend.requests[0][1]


def test_a_tool_that_fails_is_the_models_to_read(talk: Talk, auto: Settings) -> None:
    wrong = ToolCall("call-1", "calculator", '{"expression": "twelve"}')
    backend = ScriptedBackend([wrong], ["I could not."])
    shown = talk(backend, "What is twelve?", settings=auto)
    assert "  error: ValueError: not enough values" in shown
    assert backend.requests[1][0][2]["content"].startswith("error: ValueError")


def test_a_tool_that_is_not_there_is_not_asked_about(talk: Talk, auto: Settings) -> None:
    backend = ScriptedBackend([ToolCall("call-1", "delete_everything", "{}")], ["Well."])
    shown = talk(backend, "Clean up.", settings=Settings(system="", tools=auto.tools))
    assert "Not run" not in shown
    assert backend.requests[1][0][2]["content"].startswith("error: there is no tool delete_everything")


def test_nothing_runs_unasked_where_nobody_can_be_asked(talk: Talk, auto: Settings) -> None:
    """The next line of a piped file is a question, and no answer to ours."""
    backend = ScriptedBackend([CALL], ["I may not."], ["Hello."])
    shown = talk(backend, "What is 12 * 12?", "y", settings=Settings(system="", tools=auto.tools))
    assert "Not run: nobody is there to be asked." in shown
    assert backend.requests[1][0][2]["content"] == REFUSED
    assert backend.requests[2][0][-1]["content"] == "y"


def test_ctrl_c_in_a_tool_keeps_what_is_there_and_continue_goes_on(talk: Talk, auto: Settings) -> None:
    calls = [ToolCall("call-1", "interrupt", "{}"), CALL]
    backend = ScriptedBackend(["Let me see.", *calls], ["Stopped, then."], ["Bye."])
    shown = talk(backend, "What is 12 * 12?", "/continue", "Thanks.", settings=auto)
    assert "Let me see.\n● interrupt()\nstopped; what has arrived is kept" in shown
    assert [message["content"] for message in backend.requests[1][0][2:]] == [STOPPED] * 2
    assert roles(backend) == ["user", "assistant", "tool", "tool", "assistant", "user"]


def test_an_answer_that_fails_after_a_call_keeps_the_result(talk: Talk, auto: Settings) -> None:
    backend = ScriptedBackend([CALL], [EngineError("the engine has died")], ["144"])
    shown = talk(backend, "What is 12 * 12?", "/continue", settings=auto)
    assert "error: the engine has died" in shown
    assert roles(backend) == ["user", "assistant", "tool"]
    assert "\n144\n" in shown


def test_a_kill_between_call_and_result_loses_neither(talk: Talk, auto: Settings, store: ConversationStore) -> None:
    """As after kill -9: the call is in the store, its result is not. See test_pty_tools.py for the kill itself."""

    def kill() -> str:
        talk(ScriptedBackend([CALL], ["144"]), "What is 12 * 12?", settings=auto)
        conversation = store.load(store.recent()[0].id)
        conversation.tip_id = conversation.path()[1].id
        store.save(conversation)
        return conversation.id

    backend = ScriptedBackend(["144"])
    talk(backend, "/continue", resume=kill(), settings=auto)
    assert roles(backend) == ["user", "assistant", "tool"]
    talk(backend, "Never mind.", resume=kill(), settings=auto)
    assert [message["content"] for message in backend.requests[-1][0]][2:] == [NOT_RUN, "Never mind."]


def test_rounds_of_calls_have_a_limit(talk: Talk, auto: Settings) -> None:
    backend = ScriptedBackend(*[[CALL]] * (MAX_ROUNDS + 1), ["At last."])
    shown = talk(backend, "What is 12 * 12?", "/continue", settings=auto)
    assert shown.count("● calculator") == MAX_ROUNDS
    assert f"{MAX_ROUNDS} rounds of calls in one turn" in shown
    assert backend.requests[-1][0][-1]["content"] == TOO_MANY
    assert "At last." in shown


def test_a_long_result_is_shown_short_and_read_whole(talk: Talk, auto: Settings) -> None:
    backend = ScriptedBackend([ToolCall("call-1", "shout", '{"text": "hey"}')], ["Loud."])
    shown = talk(backend, "Shout.", settings=auto)
    assert shown.count("  HEY\n") == 5
    assert "  …\n" in shown
    assert backend.requests[1][0][2]["content"].count("HEY") == 30


def test_a_result_longer_than_the_window_is_cut(talk: Talk, auto: Settings) -> None:
    """Whole, it would make a turn that can never be sent again."""
    backend = ScriptedBackend([ToolCall("call-1", "shout", '{"text": "hey hey!!"}')], ["Loud."], window=250)
    talk(backend, "Shout.", "/history", settings=auto)
    result = next(m for m in backend.requests[1][0] if m["role"] == "tool")
    assert result["content"].endswith("[cut: 299 characters, 125 are shown]")


def test_tools_take_their_place_in_the_window(talk: Talk, auto: Settings) -> None:
    shown = talk(ScriptedBackend(["12345"]), "hello", "/tokens", settings=auto)
    rows = re.findall(r"^(.+?) +([\d,]+) +\d+%$", shown, re.MULTILINE)
    numbers = {name: int(value.replace(",", "")) for name, value in rows}
    assert numbers["tools"] == 30
    assert sum(value for name, value in numbers.items() if name != "window") == numbers["window"]


def test_tools_are_listed_and_switched(talk: Talk, auto: Settings) -> None:
    backend = ScriptedBackend()
    lines = (
        "/tools",
        "/tools off shout",
        "one",
        "/tools off own",
        "two",
        "/tools on",
        "three",
        "/tools ask",
        "/tools of",
    )
    shown = talk(backend, *lines, settings=auto)
    assert re.search(r"^on   calculator  Evaluate an arithmetic expression\.$", shown, re.MULTILINE)
    assert re.search(r"^off  shout", shown, re.MULTILINE)
    assert re.search(r"^off  \[own\]", shown, re.MULTILINE)
    assert "You are asked before each call" in shown
    assert "/tools does not know 'of'" in shown
    names = [[tool["function"]["name"] for tool in options.get("tools", ())] for _, options in backend.requests]
    assert names == [["calculator", "interrupt"], [], ["calculator", "shout", "interrupt"]]


def test_an_unknown_tool_names_those_that_are_there(talk: Talk, auto: Settings) -> None:
    shown = talk(ScriptedBackend(), "one", "/tools off calcs", settings=auto)
    assert "no tool and no source is named 'calcs'\nhint: own, calculator, shout, interrupt" in shown


def test_without_tools_the_place_for_them_is_named(talk: Talk) -> None:
    shown = talk(ScriptedBackend(), "/tools")
    assert "No tools are configured. They stand in " in shown
    assert "config.toml" in shown


def test_a_source_that_cannot_be_had_is_told_once_and_ends_nothing(talk: Talk, auto: Settings) -> None:
    tools = {"broken": {"command": [sys.executable, "-c", "import sys; sys.exit('no key')"]}, **auto.tools}
    backend = ScriptedBackend(["a"], ["b"])
    shown = talk(backend, "one", "two", "/tools", settings=Settings(system="", tools=tools))
    assert shown.count("error: the tool server broken ended before it answered; it said: no key") == 1
    assert re.search(r"^failed  \[broken\]", shown, re.MULTILINE)
    assert len(backend.requests[0][1]["tools"]) == 3


def test_a_source_that_is_switched_off_while_it_starts_is_off(talk: Talk) -> None:
    tools = {"slow": {"command": [sys.executable, "-c", "import time; time.sleep(60)"]}}
    backend = ScriptedBackend()
    began_s = time.monotonic()
    shown = talk(backend, "/tools", "/tools off", "one", settings=Settings(system="", tools=tools))
    assert time.monotonic() - began_s < 20
    assert re.search(r"^starting  \[slow\]$", shown, re.MULTILINE)
    assert re.search(r"^off  \[slow\]$", shown, re.MULTILINE)
    assert "error" not in shown


def test_two_sources_with_one_name_are_told_apart(talk: Talk, auto: Settings, tmp_path: Path) -> None:
    tools = {
        **auto.tools,
        "again": {"python": str(tmp_path / "tools.py")},
        "third": {"python": f"{tmp_path}/tools.py:shout", "prefix": "third_"},
    }
    backend = ScriptedBackend()
    shown = talk(backend, "one", "two", settings=Settings(system="", tools=tools))
    assert "tools.again has tools of names that are taken: calculator, interrupt, shout" in shown
    assert 'prefix = "again_" in [tools.again]' in shown
    assert [tool["function"]["name"] for tool in backend.requests[0][1]["tools"]][-1] == "third_shout"


def test_a_servers_tools_are_called_and_its_process_ends_with_the_program(talk: Talk) -> None:
    settings = Settings(system="", tools={"tests": {"command": COMMAND}}, tool_approval="auto")
    backend = ScriptedBackend([ToolCall("call-1", "process", "{}"), CALL], ["Done."])
    shown = talk(backend, "Do it.", settings=settings)
    assert "● process()" in shown
    pid, product = [message["content"] for message in backend.requests[1][0][2:]]
    assert product == "144"
    assert not is_running(int(pid))


def test_a_call_shows_all_that_the_tool_would_get() -> None:
    assert shown_call("f", '{"a": "x\\ny", "b": [1]}') == '● f(a="x\\ny", b=[1])'
    assert shown_call("f", "{broken") == "● f: {broken"
    code = "import os\nos.remove('x')\n" + "#" * 60
    assert shown_call("run", json_of(code)) == f"● run\n  code: import os\n    os.remove('x')\n    {'#' * 60}"
    assert shown_call("run", json_of("x" * 5000)).endswith("… (5,000)")
    assert shown_result("a\n" * 9) == "  a\n  a\n  a\n  a\n  a\n  …"


def json_of(code: str) -> str:
    import json

    return json.dumps({"code": code})
