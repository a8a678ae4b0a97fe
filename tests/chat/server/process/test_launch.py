"""What vLLM's server is told, and what people are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from chat.backends.engine_host import ROOT
from chat.server.process import launch
from chat.server.process.launch import server_arguments
from chat.server.settings.guard import GuardSettings
from chat.server.settings.serve import ServeSettings
from chatcore.models.fit import Machine
from chatcore.models.hub import resolve_model
from prompt_utils import PromptBuilder

DEMO = resolve_model("demo")


@pytest.fixture(scope="module")
def builder():
    return PromptBuilder.from_pretrained(DEMO)


def arguments(builder, *chosen, **settings):
    return server_arguments(ServeSettings(**settings), DEMO, ("demo",), builder, chosen)


def value(words, option):
    return words[words.index(option) + 1]


def test_the_guard_stands_in_front_of_every_other_middleware(builder):
    words = arguments(builder, "--middleware", "their.Middleware")
    assert words[-2:] == ["--middleware", "chat.server.guard.Guard"]
    assert words.index("their.Middleware") < len(words) - 1


def test_what_was_chosen_holds_against_ours(builder):
    words = arguments(
        builder, "--tool-call-parser=qwen3_coder", "--shutdown-timeout", "5", "--kv_cache_memory_bytes", "9"
    )
    assert "hermes" not in words
    assert words.count("--shutdown-timeout") == 1
    assert value(words, "--shutdown-timeout") == "5"
    assert "--kv-cache-memory-bytes" not in words


def test_parsers_follow_the_template_and_an_unknown_one_gets_none(builder):
    words = arguments(builder)
    assert (value(words, "--tool-call-parser"), value(words, "--reasoning-parser")) == ("hermes", "qwen3")
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>bot\n"
    unknown = PromptBuilder.from_pretrained(DEMO, chat_template=plain)
    words = arguments(unknown)
    assert {"--tool-call-parser", "--reasoning-parser", "--enable-auto-tool-choice"}.isdisjoint(words)
    assert "no family known here" in launch._describe_parsers(launch._Model(DEMO, ("x",), unknown), words)


def test_a_model_that_embeds_gets_no_renderer_and_no_parsers():
    words = arguments(None, "--runner", "pooling")
    assert {"--tokenizer-mode", "--tool-call-parser"}.isdisjoint(words)
    assert words[-1] == "chat.server.guard.Guard"


@pytest.mark.parametrize(("num_gpus", "size"), [(1, "1"), (2, "2"), (3, "2"), (4, "4"), (7, "4")])
def test_as_many_gpus_share_the_model_as_its_heads_can_be_divided_by(builder, monkeypatch, num_gpus, size):
    monkeypatch.setattr(launch, "_is_cpu_build", lambda: False)
    monkeypatch.setattr(launch, "find_machine", lambda: Machine("gpu", num_gpus, 80 << 30))
    assert value(arguments(builder), "--tensor-parallel-size") == size
    assert value(arguments(builder, tensor_parallel_size=1), "--tensor-parallel-size") == "1"
    assert "--tensor-parallel-size" not in arguments(builder, "--data-parallel-size", "2")


def test_plugins_that_vllm_would_load_are_loaded_with_ours(monkeypatch):
    ours = ["chatml", "conversations", "api_process"]
    everything = launch._plugins(None)
    assert everything[:3] == ours
    assert "lora_filesystem_resolver" in everything
    assert launch._plugins("theirs, chatml,") == [*ours, "theirs"]


def test_the_environment_tells_vllms_processes_the_rest_and_holds_no_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLLM_API_KEY", "a-secret-key")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    keys = tmp_path / "keys"
    keys.write_text("alice: alice-secret\n")
    settings = ServeSettings(data_dir=str(tmp_path), max_n=3, prompt_cache_mb=7)
    environment = launch._environment(settings, DEMO, keys)
    assert environment["VLLMDEPLOY_PROMPT_CACHE_MB"] == "7"
    assert environment["VLLMDEPLOY_STORE"] == str(tmp_path / "conversations.sqlite")
    assert json.loads(environment[GuardSettings.variable])["max_n"] == 3
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    assert int(environment["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > 60  # or a client asks over what is just being closed
    assert environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"  # or the memory grows with every length of prompts
    assert "secret" not in str(environment)
    assert "VLLM_API_KEY is not used here" in capsys.readouterr().err


def test_serve_does_not_import_a_chat_package_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "theirs")
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "__init__.py").write_text("raise RuntimeError('another chat')")
    environment = launch._environment(ServeSettings(data_dir=str(tmp_path)), DEMO, tmp_path / "keys")
    *command, serve = launch._command()
    assert serve == "serve"
    ended = subprocess.run([*command, "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "theirs"]


@pytest.mark.parametrize(("is_cpu", "chosen", "said"), [(True, None, "0"), (True, "1", "1"), (False, None, None)])
def test_a_small_model_on_cpu_shares_a_process_with_its_scheduler(tmp_path, monkeypatch, is_cpu, chosen, said):
    monkeypatch.setattr(launch, "_is_cpu_build", lambda: is_cpu)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    if chosen is not None:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", chosen)
    environment = launch._environment(ServeSettings(data_dir=str(tmp_path)), DEMO, tmp_path / "keys")
    assert environment.get("VLLM_ENABLE_V1_MULTIPROCESSING") == said


def test_a_relative_model_is_looked_for_below_the_root(tmp_path):
    shutil.copytree(DEMO, tmp_path / "mine")
    found = launch._find_model(ServeSettings(model="mine", model_root=str(tmp_path)), [])
    assert (found.folder, found.names) == (tmp_path / "mine", ("mine",))
    by_name = launch._find_model(ServeSettings(served_model_name="mine", model_root=str(tmp_path)), [])
    assert (by_name.folder, by_name.names) == (tmp_path / "mine", ("mine",))
    elsewhere = launch._find_model(ServeSettings(model="demo", model_root=str(tmp_path)), [])
    assert elsewhere.folder == DEMO


@pytest.mark.parametrize(
    ("host", "options", "url"),
    [
        ("127.0.0.1", [], "http://127.0.0.1:8000"),
        ("0.0.0.0", [], "http://127.0.0.1:8000"),
        ("::", [], "http://[::1]:8000"),
        ("192.0.2.1", ["--root-path", "/api/"], "http://192.0.2.1:8000/api"),
        ("localhost", ["--ssl-certfile", "cert"], "https://localhost:8000"),
    ],
)
def test_the_server_is_asked_where_it_listens(host, options, url):
    assert launch._own_url(ServeSettings(host=host), options) == url


def test_an_address_that_others_reach_and_missing_keys_are_said(tmp_path):
    model = launch._Model(DEMO, ("demo",), None)
    open_to_all = ServeSettings(host="0.0.0.0", port=9, allow_unauthenticated=True, open_to_anyone=True)
    said = "\n".join(launch._announce(open_to_all, "http://127.0.0.1:9", model, tmp_path, False))
    assert "listens  on 0.0.0.0:9, which other machines may reach" in said
    assert "whoever reaches this address may use it" in said
    assert "Authorization" not in said
