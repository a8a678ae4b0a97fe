"""Whole transcripts: lines in, everything that is printed out, and what the backend was asked for."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from chat.config import Settings
from chat.conversation import Conversation
from chat.store import ConversationStore
from chat.terminal.commands import COMMANDS, Invocation, Message, PathLike, find_command, parse
from errors import CommandError, EngineError, ModelNotFoundError, StoreError, UnknownCommandError
from tests.chat.terminal.conftest import Talk
from tests.chat.terminal.scripted import ScriptedBackend, Think


def said(backend: ScriptedBackend, index: int = -1) -> list[str]:
    """Return the contents of the messages of a request."""
    return [message["content"] for message in backend.requests[index][0]]


# -- reading a line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [
        ("/help", "help", ""),
        ("/HELP", "help", ""),
        ("／帮助", "help", ""),
        ("／帮助　retry", "help", "retry"),
        ("。help", "help", ""),
        ("、退出", "exit", ""),
        ("/regen temperature=1.1", "retry", "temperature=1.1"),
        ("/multi", "multiline", ""),
        ("/系统 你是诗人", "system", "你是诗人"),
        ("/system one\n\ntwo", "system", "one\n\ntwo"),
        ("  /title A  B", "title", "A  B"),
    ],
)
def test_a_command_is_found_by_name_alias_beginning_and_chinese_name(line: str, name: str, argument: str) -> None:
    parsed = parse(line)
    assert isinstance(parsed, Invocation)
    assert (parsed.command.name, parsed.argument) == (name, argument)


@pytest.mark.parametrize(
    "line", ["hello", "half/half", "a", "exit", "。。。", "、你好", "C:\\temp\\", "ends with /", " x\n\ny "]
)
def test_everything_else_is_a_message_letter_by_letter(line: str) -> None:
    """Also one letter (mlx took it for a command), and a slash or backslash at the end (llama-cli ate it)."""
    assert parse(line) == Message(line)


def test_two_slashes_send_one() -> None:
    assert parse("//etc/hosts") == Message("/etc/hosts")
    assert parse("／／帮助") == Message("／帮助")


@pytest.mark.parametrize("line", ["/etc/hosts: what is this", "/tmp", "/usr/bin/env", "/hello: you"])
def test_what_looks_like_a_path_is_asked_back(line: str) -> None:
    assert parse(line) == PathLike(line)


def test_an_unknown_command_names_the_nearest() -> None:
    with pytest.raises(UnknownCommandError) as caught:
        parse("/retyr")
    assert "retry" in caught.value.nearest
    with pytest.raises(UnknownCommandError) as caught:
        parse("/ex")
    assert caught.value.nearest == ("exit", "export")


def test_no_name_is_taken_twice() -> None:
    names = [name for command in COMMANDS for name in (command.name, command.chinese, *command.aliases)]
    assert len(names) == len(set(names))
    assert all(find_command(name) for name in names)


# -- the loop -----------------------------------------------------------------------------------------------------


def test_a_conversation_goes_back_and_forth(talk: Talk) -> None:
    backend = ScriptedBackend(["Hello ", "Ada."], ["You are Ada."])
    shown = talk(backend, "I am Ada", "Who am I?")
    assert "Hello Ada.\n" in shown
    assert "10 tokens · TTFT 0.01 s" in shown
    assert said(backend) == ["I am Ada", "Hello Ada.", "Who am I?"]


def test_generated_ids_go_back_with_the_answer(talk: Talk) -> None:
    backend = ScriptedBackend(["abc"])
    talk(backend, "one", "two")
    assert backend.requests[1][0][1]["token_ids"] == [0, 1, 2]


def test_a_typo_is_not_sent_to_the_model(talk: Talk) -> None:
    """Qwen's demo sent ":hlep" to the model."""
    backend = ScriptedBackend()
    shown = talk(backend, "/hlep", "/exiting now", "/exitnow")
    assert "Did you mean /help?" in shown
    assert backend.requests == []


def test_exiting_now_does_not_exit(talk: Talk) -> None:
    """llama-cli and ollama left at "/exiting now": they compared beginnings."""
    backend = ScriptedBackend()
    talk(backend, "/exiting now", "/exit now", "still here")
    assert said(backend) == ["still here"]


def test_an_empty_enter_does_nothing(talk: Talk) -> None:
    """FastChat left."""
    backend = ScriptedBackend()
    talk(backend, "", "   ", "still here")
    assert len(backend.requests) == 1


def test_a_one_letter_message_is_a_message(talk: Talk) -> None:
    """mlx took "q" and "r" for commands."""
    backend = ScriptedBackend()
    talk(backend, "q", "r")
    assert said(backend)[-1] == "r"
    assert len(backend.requests) == 2


@pytest.mark.parametrize("text", ["ends with /", "ends with \\", "a\\", "/"])
def test_a_trailing_slash_or_backslash_is_not_eaten(talk: Talk, text: str) -> None:
    backend = ScriptedBackend()
    talk(backend, f"x {text}")
    assert said(backend) == [f"x {text}"]


def test_blank_lines_in_a_block_survive(talk: Talk) -> None:
    """llm and lmdeploy dropped them."""
    backend = ScriptedBackend()
    talk(backend, '"""', "one", "", "", "two", '"""')
    assert said(backend) == ["one\n\n\ntwo"]


def test_exit_inside_a_block_is_text(talk: Talk) -> None:
    backend = ScriptedBackend()
    talk(backend, '"""first', "/exit", "exit", 'last"""', "after")
    assert said(backend, 0) == ["first\n/exit\nexit\nlast"]
    assert len(backend.requests) == 2


def test_a_path_is_sent_only_after_asking(talk: Talk) -> None:
    backend = ScriptedBackend()
    assert "Send it as a message?" in talk(backend, "/etc/hosts: what is this", "n")
    assert backend.requests == []
    talk(backend, "/etc/hosts: what is this", "y")
    assert said(backend) == ["/etc/hosts: what is this"]


# -- the system message -------------------------------------------------------------------------------------------


def test_the_system_message_is_there_once(talk: Talk) -> None:
    """mlx repeated it at each turn."""
    backend = ScriptedBackend()
    talk(backend, "one", "two", "three", settings=Settings(system="Be brief."))
    assert [message["role"] for message in backend.requests[-1][0]].count("system") == 1


def test_a_new_system_message_replaces_the_old_one(talk: Talk) -> None:
    """ollama appended it."""
    backend = ScriptedBackend()
    talk(
        backend,
        "one",
        "/system You are a poet.",
        "two",
        "/system reset",
        "three",
        settings=Settings(system="Be brief."),
    )
    assert said(backend, 1)[0] == "You are a poet."
    assert "Be brief." not in said(backend, 1)
    assert said(backend, 2)[0] == "Be brief."


def test_the_system_message_can_come_from_a_file(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "poet.txt"
    file.write_text("你是诗人。\n", "gb18030")
    backend = ScriptedBackend()
    talk(backend, f"/system @{file}", "one")
    assert said(backend)[0] == "你是诗人。"


# -- sampling -----------------------------------------------------------------------------------------------------


def test_set_has_an_effect(talk: Talk) -> None:
    """In Qwen's demo ":conf" had none."""
    backend = ScriptedBackend()
    talk(backend, '/set temperature=0.2 top_k=20 stop="\\n\\n"', "one", "/reset top_k", "two", "/reset", "three")
    assert backend.requests[0][1] == {"temperature": 0.2, "top_k": 20, "stop": ["\n\n"]}
    assert backend.requests[1][1] == {"temperature": 0.2, "stop": ["\n\n"]}
    assert backend.requests[2][1] == {}


@pytest.mark.parametrize(
    "line",
    [
        "temperature=3",
        "temperature=nan",
        "temperature=inf",
        "temprature=1",
        "top_p=0",
        "top_k=1.5",
        "seed=x",
        "max_tokens=0",
    ],
)
def test_an_impossible_value_is_refused_with_the_range(talk: Talk, line: str) -> None:
    backend = ScriptedBackend()
    shown = talk(backend, f"/set {line}", "one")
    assert "error:" in shown
    assert "hint:" in shown
    assert backend.requests[0][1] == {}


def test_values_are_never_evaluated(talk: Talk, tmp_path: Path) -> None:
    """Qwen's demo called eval on what was typed."""
    target = tmp_path / "evil"
    shown = talk(ScriptedBackend(), f"/set seed=__import__('pathlib').Path('{target}').touch()", "/set seed=1+1")
    assert not target.exists()
    assert shown.count("error:") == 2


def test_set_lists_what_can_be_set(talk: Talk) -> None:
    shown = talk(ScriptedBackend(), "/set top_p 0.5", "/set")
    assert "top_p               0.5" in shown
    assert "0.7" in shown  # the model's own temperature


# -- thinking -----------------------------------------------------------------------------------------------------


def test_thinking_is_counted_shown_on_demand_and_not_part_of_the_answer(talk: Talk) -> None:
    backend = ScriptedBackend([Think("Let me "), Think("see."), "42"])
    shown = talk(backend, "what?", "/think show", "again")
    assert "thought for" in shown
    assert shown.count("Let me see.") == 1
    assert backend.requests[1][0][1]["content"] == "42"


def test_thinking_can_be_shown_in_full_or_hidden(talk: Talk) -> None:
    script = [Think("Let me see."), "42"]
    assert "Let me see.\n──\n42\n" in talk(ScriptedBackend(script), "/think full", "what?")
    hidden = talk(ScriptedBackend(script), "/think hidden", "what?")
    assert "see" not in hidden
    assert "thought" not in hidden


def test_think_reaches_the_model(talk: Talk) -> None:
    backend = ScriptedBackend()
    talk(backend, "/think off", "one", "/think on", "/think budget 100", "two", "/think auto", "three")
    assert [options for _, options in backend.requests] == [
        {"enable_thinking": False},
        {"enable_thinking": True, "thinking_token_budget": 100},
        {},
    ]


# -- taking back, asking again ------------------------------------------------------------------------------------


def test_undo_and_redo_move_through_the_turns(talk: Talk) -> None:
    backend = ScriptedBackend(["1"], ["2"], ["3"])
    shown = talk(backend, "one", "two", "/undo 2", "/redo", "/redo", "/redo", "three")
    assert "2 turns taken back" in shown
    assert shown.count("1 turn brought back") == 2
    assert "nothing to bring back" in shown
    assert said(backend) == ["one", "1", "two", "2", "three"]


def test_undo_has_nothing_to_take_back_at_the_beginning(talk: Talk) -> None:
    assert "nothing to take back" in talk(ScriptedBackend(), "/undo")


def test_retry_keeps_the_old_answer_as_a_variant(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["first"], ["second"], ["next"])
    shown = talk(backend, "one", "/retry temperature=1.1", "/variants", "/variants 1", "two")
    assert backend.requests[1] == ([{"role": "user", "content": "one"}], {"temperature": 1.1})
    assert "This is answer 2" in shown
    assert said(backend) == ["one", "first", "two"]
    conversation = store.load(store.recent()[0].id)
    assert {message.content for message in conversation.messages.values()} >= {"first", "second"}


def test_edit_makes_a_branch_and_keeps_the_old_one(talk: Talk) -> None:
    backend = ScriptedBackend(["1"], ["2"], ["new"])
    shown = talk(backend, "one", "two", "/edit 1 uno", "/branch", "/branch 1", "three")
    assert said(backend, 2) == ["uno"]
    assert said(backend, 3) == ["one", "1", "two", "2", "three"]
    assert "*  2  1 turn" in shown


def test_continue_goes_on_inside_the_last_answer(talk: Talk) -> None:
    backend = ScriptedBackend(["One, two"], [", three"])
    backend.finish_reason = "length"
    shown = talk(backend, "count", "/continue", "/history")
    assert "cut at 8 tokens" in shown
    messages, options = backend.requests[1]
    assert options == {"continue_final_message": True}
    assert messages[-1]["content"] == "One, two"
    assert "One, two, three" in shown


def test_a_failed_edit_leaves_the_conversation_as_it_was(talk: Talk) -> None:
    backend = ScriptedBackend(["1"], [EngineError("the engine has died")], ["ok"])
    talk(backend, "one", "/edit 1 uno", "/history", "two")
    assert said(backend) == ["one", "1", "two"]


# -- errors -------------------------------------------------------------------------------------------------------


def test_an_error_leaves_no_user_turn_and_no_empty_answer(talk: Talk, store: ConversationStore) -> None:
    """llama-cli kept an empty assistant turn after an error, ollama the user's turn."""
    backend = ScriptedBackend([EngineError("the engine has died")], ["fine"])
    shown = talk(backend, "one", "two")
    assert "error: the engine has died" in shown
    assert "Your message is back in the line." in shown
    assert said(backend) == ["two"]


def test_a_partial_answer_is_kept_when_the_engine_dies(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["The answer", EngineError("the engine has died")], ["."])
    shown = talk(backend, "one", "/retry")
    assert "What had arrived is kept" in shown
    conversation = store.load(store.recent()[0].id)
    assert "The answer" in {message.content for message in conversation.messages.values()}


def test_a_model_that_cannot_be_loaded_leaves_the_program_alive(talk: Talk) -> None:
    backend = ScriptedBackend(["hello"])
    backend.fail(EngineError("the engine did not start", hint="Free some memory."))
    shown = talk(backend, "one", "/reload", "two")
    assert shown.count("error: the engine did not start") >= 1
    assert "hint: Free some memory." in shown
    assert said(backend) == ["two"]


def test_a_message_that_cannot_be_sent_comes_back_into_the_line(talk: Talk) -> None:
    """Also when the engine died before, while nobody asked it anything."""
    backend = ScriptedBackend(["hello"])
    backend.fail(EngineError("the engine has died"))
    shown = talk(backend, "my long question", "/reload", "")
    assert "Your message is back in the line." in shown
    assert "Typed before: my long question" in shown
    assert said(backend) == ["my long question"]


def test_a_mistake_of_ours_ends_nothing(talk: Talk) -> None:
    backend = ScriptedBackend()
    backend.fit = None  # type: ignore[assignment]
    shown = talk(backend, "one", "/title still here")
    assert "a mistake in this program: TypeError" in shown
    assert "Traceback" not in shown
    assert "still here" in shown


def test_a_message_larger_than_the_window_is_refused_with_both_numbers(talk: Talk) -> None:
    backend = ScriptedBackend(window=100)
    shown = talk(backend, "x" * 200, "short")
    assert "204 tokens; 84 fit" in shown
    assert said(backend) == ["short"]


# -- the window ---------------------------------------------------------------------------------------------------


def test_what_no_longer_fits_is_named_as_it_goes(talk: Talk) -> None:
    backend = ScriptedBackend(*[["a" * 20]] * 6, window=200)
    shown = talk(backend, *[f"question {n} ----------" for n in range(6)], "/history")
    assert "Left out of the prompt: turn" in shown
    assert "── the model no longer sees what is above ──" in shown
    assert "question 0 ----------" not in said(backend)
    assert said(backend)[-1] == "question 5 ----------"
    assert "question 0 ----------" in shown.rpartition("tokens · TTFT")[2]


def test_a_cut_leaves_room_and_stays_until_the_window_is_full_again(talk: Talk) -> None:
    """One turn less at every turn would lose the prefix cache at every turn."""
    backend = ScriptedBackend(*[["a" * 20]] * 12, window=400)
    talk(backend, *[f"question {n:02} ----------" for n in range(12)])
    starts = [said(backend, index)[0] for index in range(12)]
    assert 1 < len(set(starts)) <= 4
    assert starts == sorted(starts)


def test_a_pinned_turn_stays(talk: Talk) -> None:
    backend = ScriptedBackend(*[["a" * 20]] * 8, window=250)
    talk(backend, "my name is Ada", "/pin 1", *[f"question {n} ----------" for n in range(7)])
    assert said(backend)[0] == "my name is Ada"
    assert "question 0 ----------" not in said(backend)


def test_nothing_is_left_out_without_leave(talk: Talk) -> None:
    backend = ScriptedBackend(*[["a" * 20]] * 9, window=200)
    lines = [f"question {n} ----------" for n in range(5)]
    shown = talk(backend, "/context error", *lines)
    assert "not sent" in shown
    assert len(backend.requests) < 5
    asked = talk(ScriptedBackend(*[["a" * 20]] * 9, window=200), "/context ask", *lines[:4], "y", *lines[4:])
    assert "Send? (y/n)" in asked


def test_tokens_adds_up_to_the_window(talk: Talk) -> None:
    backend = ScriptedBackend(["12345"])
    shown = talk(backend, "hello", "/tokens", settings=Settings(system="Be brief."))
    rows = re.findall(r"^(.+?) +([\d,]+) +\d+%$", shown, re.MULTILINE)
    numbers = {name: int(value.replace(",", "")) for name, value in rows}
    assert numbers["system message"] == 13
    assert numbers["1. hello"] == 18
    assert sum(value for name, value in numbers.items() if name != "window") == numbers["window"] == 4096


# -- conversations ------------------------------------------------------------------------------------------------


def test_new_keeps_the_old_conversation(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["a"], ["b"], ["c"])
    shown = talk(backend, "first talk", "/new", "second talk", "/sessions", "/sessions first", "/resume", "more")
    assert "first talk is kept" in shown
    assert said(backend) == ["first talk", "a", "more"]
    assert len(store.recent()) == 2


def test_an_unused_conversation_leaves_no_trace(talk: Talk, store: ConversationStore) -> None:
    talk(ScriptedBackend(), "/new", "/new", "/title x")
    assert store.recent() == []


def test_resume_by_id_goes_on(talk: Talk, store: ConversationStore) -> None:
    talk(ScriptedBackend(["a"]), "first talk")
    backend = ScriptedBackend(["b"])
    shown = talk(backend, "more", resume=store.recent()[0].id[:8])
    assert "first talk · 1 turn" in shown
    assert said(backend) == ["first talk", "a", "more"]
    assert "there is no conversation" in talk(ScriptedBackend(), resume="ffffffff")


def test_delete_asks_first(talk: Talk, store: ConversationStore) -> None:
    talk(ScriptedBackend(["a"]), "first talk", "/delete", "n")
    assert len(store.recent()) == 1
    talk(ScriptedBackend(["a"]), "/resume", "/delete", "y")
    assert store.recent() == []


def test_a_private_conversation_is_not_kept(talk: Talk, store: ConversationStore, tmp_path: Path) -> None:
    talk(ScriptedBackend(["a"]), "/private", "my secret word is xyzzy")
    assert store.recent() == []
    assert b"xyzzy" not in b"".join(file.read_bytes() for file in tmp_path.glob("conversations*"))


def test_saving_goes_on_when_the_disk_has_room_again(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["a"], ["b"], ["c"])
    save, failures = store.save, [True] * 3

    def failing(conversation: Conversation) -> None:
        if failures and failures.pop():
            raise StoreError("disk is full", hint="Free some space.")
        save(conversation)

    store.save = failing  # type: ignore[method-assign]
    shown = talk(backend, "one", "two", "three")
    assert shown.count("cannot be saved: disk is full") == 1
    kept = store.load(store.recent()[0].id)
    assert [message.content for message in kept.path()] == ["one", "a", "two", "b", "three", "c"]


# -- the model ----------------------------------------------------------------------------------------------------


def test_another_model_goes_on_with_the_conversation(talk: Talk) -> None:
    """ollama wiped the chat when the model was changed."""
    backend, other = ScriptedBackend(["a"]), ScriptedBackend(["b"], name="other", stage="load")
    threading.Timer(0.3, lambda: setattr(other, "stage", "ready")).start()
    shown = talk(backend, "one", "/model other", "two", "/model", open_backend={"other": other}.__getitem__)
    assert "loading the weights\nother goes on with the conversation." in shown
    assert said(other) == ["one", "a", "two"]
    assert re.search(r"^model +other$", shown, re.MULTILINE)
    assert backend.is_closed
    assert other.is_closed


def test_a_model_that_cannot_be_loaded_leaves_the_old_one_in_use(talk: Talk) -> None:
    backend, broken = ScriptedBackend(["a"], ["b"]), ScriptedBackend()
    broken.fail(ModelNotFoundError("there is no model nonsense"))
    shown = talk(backend, "one", "/model nonsense", "two", open_backend=lambda name: broken)
    assert "error: there is no model nonsense\n" in shown
    assert "scripted stays in use." in shown
    assert said(backend) == ["one", "a", "two"]
    assert broken.is_closed


def test_a_larger_window_shows_the_model_again_what_was_left_out(talk: Talk) -> None:
    small, large = ScriptedBackend(*[["a" * 20]] * 6, window=200), ScriptedBackend(window=4000)
    lines = [f"question {n} ----------" for n in range(6)]
    talk(small, *lines, "/model large", "and now?", open_backend=lambda name: large)
    assert "question 0 ----------" not in said(small)
    assert "question 0 ----------" in said(large)


def test_model_lists_what_can_be_used_at_once(talk: Talk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    opened = {name: ScriptedBackend(name=name) for name in ("first", "second")}
    talk(opened["first"], "one", "/model second", "two", open_backend=opened.__getitem__)
    shown = talk(ScriptedBackend(), "/model", "/model scripted", open_backend=opened.__getitem__)
    assert re.search(r"^loaded +other\nused before +second\nused before +first\nembedded +demo$", shown, re.MULTILINE)
    assert "scripted is in use." in shown
    assert (tmp_path / "vllm-deploy" / "recent_models.json").stat().st_mode & 0o777 == 0o600


def test_without_others_the_model_cannot_be_changed(talk: Talk) -> None:
    assert "scripted is the only model here" in talk(ScriptedBackend(), "/model other")


# -- files --------------------------------------------------------------------------------------------------------


def test_save_with_a_name_works(talk: Talk, tmp_path: Path) -> None:
    """transformers' "!save NAME" was refused."""
    file = tmp_path / "new folder" / "my talk.json"
    talk(ScriptedBackend(["好的"]), "你好", f"/save {file}")
    assert "你好" in file.read_text("utf-8")
    assert "\\u" not in file.read_text("utf-8")


def test_saved_conversations_come_back(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    talk(ScriptedBackend(["a"], ["b"]), "one", "/retry", f"/save {file}")
    backend = ScriptedBackend(["c"])
    talk(backend, f"/load {file}", "two")
    assert said(backend) == ["one", "b", "two"]


@pytest.mark.parametrize("name", ["talk.md", "talk.json", "talk.jsonl"])
def test_export_never_overwrites_without_asking(talk: Talk, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("mine")
    shown = talk(ScriptedBackend(["a"]), "one", f"/export {file}", "n")
    assert "Overwrite" in shown
    assert file.read_text() == "mine"
    talk(ScriptedBackend(["a"]), "one", f"/export {file}", "y")
    assert "one" in file.read_text()


def test_export_to_openai_is_one_line_of_messages(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    talk(ScriptedBackend(["嗯"]), "你好", f"/export openai {file}")
    assert json.loads(file.read_text("utf-8"))["messages"] == [
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "嗯"},
    ]


def test_a_file_is_attached_behind_the_message(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "my notes.md"
    file.write_text("```py\nx\n```\n")
    backend = ScriptedBackend()
    shown = talk(backend, f'/file "{file}"', "what is this?", "and now?")
    assert "attached: my notes.md, 12 bytes, " in shown
    assert said(backend, 0) == ["what is this?\n\nmy notes.md:\n````md\n```py\nx\n```\n````"]
    assert said(backend, 1)[-1] == "and now?"


def test_an_at_sign_attaches_a_file_that_exists_and_nothing_else(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("inside")
    backend = ScriptedBackend()
    talk(backend, f"look at @{file}, please", "mail me@example.com or @nobody")
    assert said(backend, 0)[0].endswith("a.txt:\n```txt\ninside\n```")
    assert said(backend, 1)[-1] == "mail me@example.com or @nobody"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\x00\x01\x02", "is not text"), (b"\xff\xff\xff\xff", "is not text")]
)
def test_a_binary_file_is_refused(talk: Talk, tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    assert reason in talk(ScriptedBackend(), f"/file {file}")


def test_a_block_of_code_is_saved_by_its_number(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    answer = "One:\n\n```py\nx = 1\n```\n\nTwo:\n\n```py\ny = '/'\n```\n"
    talk(ScriptedBackend([answer]), "code", f"/save code 2 {file}")
    assert file.read_text() == "y = '/'\n"
    assert "the last answer has 2" in talk(ScriptedBackend([answer]), "code", f"/save code 3 {file}")


# -- the rest -----------------------------------------------------------------------------------------------------


def test_help_has_a_line_for_every_command(talk: Talk) -> None:
    shown = talk(ScriptedBackend(), "/help", "/help keys", "/help regen")
    for command in COMMANDS:
        assert f"\n/{command.name}" in shown
    assert "Ctrl-X Ctrl-E" in shown
    assert "/retry [NAME=VALUE ...]" in shown


def test_texts_are_chinese_where_the_locale_is(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    shown = talk(ScriptedBackend(), "/帮助", "/hlep", "/language en", "/hlep")
    assert "列出命令" in shown
    assert "您是指 /help 吗" in shown
    assert "Did you mean /help?" in shown


def test_errors_are_chinese_with_the_cause_as_it_was_said(talk: Talk) -> None:
    backend = ScriptedBackend([EngineError("out of memory")])
    shown = talk(backend, "一", settings=Settings(system="", language="zh"))
    assert "错误：引擎出错：out of memory\n提示：对话已保存。" in shown


def test_config_tells_where_each_value_comes_from(talk: Talk) -> None:
    settings = Settings(system="", origins={"system": "command line"})
    shown = talk(ScriptedBackend(), "/config", settings=settings)
    assert "command line" in shown
    assert "thinking_view" in shown


def test_stats_adds_up(talk: Talk) -> None:
    shown = talk(ScriptedBackend(["abcd"], ["ab"]), "/stats", "one", "two", "/stats", "/stats off", "three")
    assert "No answer yet." in shown
    assert "tokens written     6" in shown
    assert shown.count("TTFT 0.01 s") == 2


def test_a_command_without_arguments_refuses_some(talk: Talk) -> None:
    with pytest.raises(CommandError):
        parse("/raw on")


def test_an_empty_answer_is_said_to_be_one(talk: Talk) -> None:
    shown = talk(ScriptedBackend([]), "one")
    assert "without a word" in shown
