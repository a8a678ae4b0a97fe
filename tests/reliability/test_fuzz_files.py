"""Files that people hand over: conversations to import, batches, configurations, stacks, keys."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from chat.backends.engine_host_client import encode_request
from chat.cli import conversations as conversations_command
from chat.cli.batch import run_batch
from chat.config import load_settings
from chat.conversations import files as conversation_files
from chat.conversations.conversation import Conversation, Message
from chat.environment import PREFIX
from chat.net.api_keys import parse_keys, read_key_file
from chat.server.guard.keys import KeyRing
from chat.stack.description import read_description
from chat.stack.files import files_of
from chat.stack.lifecycle import _configurations
from chat.stack.plan import make_plan
from chat.store.local import ConversationStore
from chatcore.engine.lora import LoadedAdapters
from chatcore.engine.requests import RequestMaker
from chatcore.errors import ChatError, ConfigError, StoreError
from prompt_utils import PromptBuilder
from tests.chat.terminal.scripted import ScriptedBackend, ScriptedStream
from tests.program import ROOT
from tests.reliability.cases import folder_in_memory, refused, run_cases
from tests.reliability.mutation import mutate_bytes, mutate_value, odd_text, to_bytes, to_json


@pytest.fixture
def file() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder / "input"


def spoiled(rng: random.Random, good: Sequence[bytes], pieces: Sequence[bytes] = ()) -> bytes:
    """Return one of several good files, changed in some places; now and then as it is."""
    data = rng.choice(good)
    return data if rng.random() < 0.02 else mutate_bytes(rng, data, pieces)


# -- conversations ----------------------------------------------------------------------------------------------------


def a_conversation() -> Conversation:
    conversation = Conversation(title="Letters", system="You are terse.", settings={"sampling": {"temperature": 0.5}})
    conversation.add(Message("user", "What is a 灯塔?"))
    conversation.add(
        Message("assistant", "A lighthouse 🙂", reasoning="Chinese.", token_ids=(5, 6), usage={"ttft_ms": 1.0})
    )
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    conversation.add(Message("user", "Measure it."))
    conversation.add(Message("assistant", "", tool_calls=(call,), finish_reason="tool_calls"))
    conversation.add(Message("tool", "42 m", tool_call_id="c1"))
    conversation.add(Message("assistant", "42 metres.", status="partial"))
    conversation.toggle_pin(1)
    conversation.undo()
    return conversation


def test_an_import_is_taken_as_a_whole_or_refused_in_a_sentence(file):
    """What was taken is kept, and can be written in every format and read again; what was refused left no trace."""
    good = a_conversation()
    value, messages = conversation_files.to_dict(good), good.as_dicts()
    documents: list[Any] = [value, {"messages": messages}, messages, [value, value], [{"messages": messages}]]
    texts = [
        conversation_files.to_json(good),
        conversation_files.to_jsonl([good, good]),
        conversation_files.to_markdown(good),
    ]
    files, pieces = [text.encode() for text in texts], [b'"messages"', b'"role"', b'"parent_id"']
    store, copy = ConversationStore.in_memory(), file.with_name("copy.json")

    def case(rng: random.Random) -> str:
        if rng.random() < 0.6:
            file.write_bytes(to_bytes(rng, to_json(rng, mutate_value(rng, rng.choice(documents)))))
        else:
            file.write_bytes(spoiled(rng, files, pieces))
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                conversations_command.import_file(store, file)
            except StoreError as error:
                assert store.recent(with_empty=True) == []
                return refused(error)
            conversations_command.list_conversations(store, limit=9)
            for summary in store.recent(with_empty=True):
                conversations_command.show(store, summary.id)
                loaded = store.load(summary.id)
                conversations_command.export(store, summary.id, copy, overwrite=True)
                assert conversation_files.read(copy)[0].as_dicts() == loaded.as_dicts()
                conversation_files.to_jsonl([loaded])
                store.delete(summary.id)
        return "taken"

    outcomes = run_cases("imported files", case, short=300)
    assert outcomes["taken"]
    assert outcomes["refused"]


# -- batches ----------------------------------------------------------------------------------------------------------


class Prompting(ScriptedBackend):
    """A backend that does with a request all that is done before the engine has it, and then says what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        folder = ROOT / "chatcore" / "models" / "demo"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = SimpleNamespace(max_model_len=512, get_diff_sampling_param=dict)
        cache = SimpleNamespace(block_size=16, enable_prefix_caching=False)
        engine = SimpleNamespace(cache_config=cache)
        model = SimpleNamespace(model_config=config, vllm_config=engine, get_tokenizer=lambda: tokenizer)
        adapters = LoadedAdapters(lambda function: None, folder)
        self._maker = RequestMaker(PromptBuilder.from_pretrained(folder), model, adapters)
        self.mistakes: list[Exception] = []

    def stream(self, messages: Any, *, session_id: str | None = None, **options: Any) -> Any:
        request = json.loads(encode_request({"op": "stream", "messages": messages, "options": options, "id": 1}))
        try:
            self._maker.make(request["messages"], "each", **request["options"])
        except ChatError:
            raise
        except Exception as error:  # the engine host tells these to its client: they count as defects all the same
            self.mistakes.append(error)
            raise ChatError(str(error)) from error
        stream = ScriptedStream(self, [json.dumps(request["messages"][-1])], 1)
        assert all(delta.text for delta in stream)
        return stream


LINES = 25  # of a batch file
BATCH: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi"}], "temperature": 0.5},
    {"id": "b", "messages": [{"role": "user", "content": "你好"}], "stop": ["."], "max_tokens": 5, "logprobs": 1},
    {
        "custom_id": "c",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "demo",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "response_format": {"type": "json_object"},
            "logprobs": True,
            "top_logprobs": 2,
            "max_completion_tokens": 7,
            "seed": 3,
        },
    },
    {"id": "d", "messages": [{"role": "user", "content": "x"}], "enable_thinking": True, "template_kwargs": {"a": 1}},
    {"id": "e", "messages": [{"role": "user", "content": "x"}], "extra_stop_words_ids": [1, [2, 3]], "top_k": 3},
]


@pytest.fixture(scope="module")
def backend() -> Prompting:
    return Prompting()


@pytest.mark.filterwarnings("ignore::chatcore.engine.requests.ContextWindowWarning")
def test_every_line_of_a_batch_has_its_answer_or_its_error(file, backend):
    """Whatever stands in the lines: each has a record of its own, and a second run finds nothing left to do."""
    target = file.with_name("replies")
    good = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in BATCH * (LINES // len(BATCH))).encode()

    def case(rng: random.Random) -> str:
        if rng.random() < 0.8:
            lines = [{**rng.choice(BATCH), "custom_id": f"line {number}"} for number in range(LINES)]
            text = "\n".join(to_json(rng, mutate_value(rng, line)).replace("\n", "") for line in lines)
            file.write_bytes(text.encode(errors="backslashreplace"))
        else:
            file.write_bytes(spoiled(rng, [good], [b'"messages"', b'"id": "b"', b'"body"']))
        target.unlink(missing_ok=True)
        backend.mistakes.clear()
        before = file.read_bytes()
        try:
            result = run_batch(backend, file, target, progress=False)
        except ChatError as error:
            assert not target.exists()
            return refused(error)
        finally:
            assert file.read_bytes() == before
        if backend.mistakes:
            raise backend.mistakes[0]
        records = [json.loads(line) for line in target.read_bytes().splitlines()]
        assert len(records) == result.num_done + result.num_failed
        again = run_batch(backend, file, target, progress=False)
        assert (again.num_done, again.num_failed, again.num_before) == (0, 0, len(records))
        return "answered" if result.num_done else "only errors"

    outcomes = run_cases("lines of batch files", case, short=300, batch=LINES)
    assert outcomes["answered"]


def test_replies_of_an_earlier_run_are_never_lost(file, backend):
    """The file of replies is what nobody expects there: it is gone on with, or refused and left as it is."""
    target = file.with_name("replies")
    file.write_text("".join(json.dumps(line) + "\n" for line in BATCH[:3]))
    run_batch(backend, file, target, progress=False)
    good = target.read_bytes()

    def case(rng: random.Random) -> str:
        data = spoiled(rng, [good], [b'"custom_id"', b'"id": "b"', b"\n"])
        target.write_bytes(data)
        try:
            run_batch(backend, file, target, progress=False)
        except ChatError as error:
            assert target.read_bytes() == data
            return refused(error)
        assert target.read_bytes().startswith(data[: data.rfind(b"\n") + 1])
        return "gone on with"

    assert set(run_cases("replies of a batch", case, short=100, full=10_000)) == {"gone on with", "refused"}


# -- settings ---------------------------------------------------------------------------------------------------------

CONFIG = """\
model = "Qwen/Qwen3-0.6B"
system = "You are terse."
enable_thinking = false
thinking_view = "hidden"
keep_alive_s = 60
store = "postgresql://user@127.0.0.1/chat"
language = "zh"
tool_approval = "ask"

[sampling]
temperature = 0.7
stop = ["."]

[engine]
max_model_len = 4096

[tools.notes]
command = ["npx", "server"]
env = { TOKEN = "${env:TOKEN}" }
timeout_s = 5

[tools.search]
url = "https://search.example/mcp"
headers = { Authorization = "Bearer ${file:key}" }

[tools.own]
python = "tools.py:add"
enabled = false
"""


def test_a_configuration_is_understood_or_refused_in_a_sentence(file):
    """The file, and the variables of the environment; what was understood can be shown."""
    names = [line.split(" = ")[0] for line in CONFIG.splitlines() if " = " in line]
    pieces = [f"{name} = ".encode() for name in names]
    pieces += [b"\n[tools.x]\n", b"[[tools]]\n", b'"""', b"'''", b"\n[engine]\n", b"a.b.c = "]

    def case(rng: random.Random) -> str:
        file.write_bytes(spoiled(rng, [CONFIG.encode()], pieces))
        variables = {}
        if rng.random() < 0.3:
            file.write_text("")
            variables = {f"{PREFIX}{rng.choice(names).upper()}": _settable(rng) for _ in range(2)}
        before = file.read_bytes()
        try:
            settings = load_settings(file=file, environment=variables)
        except ConfigError as error:
            return refused(error)
        finally:
            assert file.read_bytes() == before
        "\n".join(value for _, value, _ in settings.rows()).encode(errors="replace")
        return "understood"

    assert set(run_cases("configuration files", case, short=700)) == {"refused", "understood"}


def _settable(rng: random.Random) -> str:
    """Return what a variable of the environment can hold: any text but NUL."""
    values: list[Any] = [True, 1.5, {"temperature": 1}, {"x": {"python": "a.py"}}, "full", "demo"]
    text = to_json(rng, mutate_value(rng, rng.choice(values))) if rng.random() < 0.7 else odd_text(rng)
    return text.replace("\0", "")


STACK = """\
host: 127.0.0.1
port: 8000
api_key_file: keys
store: conversations.sqlite
start_timeout_s: 60
llm: &service
  model: demo
  name: chat
  port: 8101
  replicas: 2
  gpus: [0, 1]
  gpu_memory_utilization: 0.9
  max_model_len: 4096
  arguments: {max-num-seqs: 64, enforce-eager: true}
  environment: {OMP_NUM_THREADS: "1"}
embedding: {preset: bge-embedding}
rerank:
  preset: bge-reranker
web:
  port: 8200
"""


def test_a_stack_is_planned_or_refused_in_a_sentence(file):
    """What is planned can be told to supervisor and nginx, and says to supervisor what the file says and no more."""
    texts = [STACK.encode(), (ROOT / "examples" / "stack" / "stack.yaml").read_bytes()]
    pieces = [line.strip().split(":")[0].encode() + b": " for line in STACK.splitlines()]
    pieces += [b"*service", b"<<: *service", b"!!python/object:os.system", b"--- \n", b"? ", b"- [", b"0o17", b"|\n"]

    def case(rng: random.Random) -> str:
        data = spoiled(rng, texts, pieces)
        file.write_bytes(data)
        try:
            description = read_description(file)
            folders = dict.fromkeys(("llm", "embedding", "rerank"), Path("model"))
            plan = make_plan(description, files_of(file), folders, nginx="nginx")
            configurations = _configurations(plan)
        except ConfigError as error:
            return refused(error)
        finally:
            assert file.read_bytes() == data
        told = configurations[plan.files.supervisor_config]
        programs = [line for line in told.splitlines() if line.startswith("[program:")]
        assert programs == [f"[program:{process.name}]" for process in plan.processes]
        assert {line.partition("=")[0] for line in told.splitlines() if "=" in line} <= SUPERVISOR_WORDS
        return "planned"

    assert set(run_cases("stack files", case, short=250)) == {"planned", "refused"}


SUPERVISOR_WORDS = {"file", "chmod", "logfile", "logfile_maxbytes", "logfile_backups", "pidfile", "umask", "serverurl"}
SUPERVISOR_WORDS |= {"supervisor.rpcinterface_factory ", "command", "directory", "environment", "autostart"}
SUPERVISOR_WORDS |= {"autorestart", "startsecs", "startretries", "stopsignal", "stopwaitsecs", "killasgroup"}
SUPERVISOR_WORDS |= {"redirect_stderr", "stdout_logfile", "stdout_logfile_maxbytes", "stdout_logfile_backups"}
KEYS = b"# ours\nalice: a-long-secret\nbare-long-secret\n\nbob@host: another-secret\n"


def test_keys_are_read_or_refused_and_never_quoted(file):
    """A file that cannot be read leaves a running server the keys that it had."""
    file.write_bytes(KEYS)
    ring = KeyRing(file)

    def read(data: bytes) -> None:
        file.write_bytes(data)
        ring._checked_s, ring._stamp = 0.0, None  # as if a second had passed

    def case(rng: random.Random) -> str:
        read(spoiled(rng, [KEYS], [b"alice: ", b": ", b"#", b"\r", b"\xc2\x85", b"\xc2\xa0"]))
        try:
            owners = parse_keys(file)
        except ConfigError as error:
            assert ring.find(b"a-long-secret") is not None
            with pytest.raises(ConfigError):
                read_key_file(file)
            return refused(error, secret="secret")
        for key, owner in owners.items():
            caller = ring.find(key.encode())
            assert caller is not None
            assert caller.owner == owner
        read(KEYS)
        assert ring.find(b"bare-long-secret") is not None
        return "read"

    assert set(run_cases("key files", case, short=1000)) == {"read", "refused"}
