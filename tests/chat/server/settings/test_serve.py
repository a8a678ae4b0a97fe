"""Where the settings of the server come from, and what is said when they are wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chat.server.settings import environment
from chat.server.settings.serve import ENVIRONMENT, ServeSettings, load_settings
from chatcore.errors import ConfigError
from chatcore.prompts.builder import DEFAULT_CACHE_BYTES
from tests.program import ROOT

YAML = """\
model: Qwen/Qwen3-8B
port: 9000
max_n: 4
conversations:
  max_turns: 7
vllm:
  max_model_len: 8192
  enforce_eager: true
  enable_prefix_caching: false
  hf_overrides: {rope: 1}
  lora_modules: [a=b, c=d]
"""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text(YAML)
    return file


def test_options_hold_against_the_environment_and_it_against_the_file(file):
    environment = {"PORT": "9001", "MODEL_DIR": "demo", "API_KEY_FILE": "/keys", "VLLM_ARGUMENTS": "--seed '1 2'"}
    settings = load_settings({"config": str(file), "port": 9002, "max_n": None}, environment)
    assert (settings.port, settings.model, settings.max_n, settings.api_key_file) == (9002, "demo", 4, "/keys")
    assert load_settings({"config": file}, environment).port == 9001
    assert load_settings({}, {"SERVE_CONFIG": str(file)}).port == 9000
    assert settings.conversations.max_turns == 7
    assert settings.guard(file).max_n == 4


def test_options_of_vllm_stand_in_the_file_and_the_environment(file):
    settings = load_settings({"config": file}, {"VLLM_ARGUMENTS": "--seed '1 2'"})
    assert settings.options_for_vllm() == [
        *("--max-model-len", "8192", "--enforce-eager", "--no-enable-prefix-caching"),
        *("--hf-overrides", '{"rope": 1}', "--lora-modules", "a=b", "c=d", "--seed", "1 2"),
    ]


def test_nothing_said_is_this_machine_alone():
    settings = load_settings({}, {})
    assert (settings.host, settings.port, settings.allow_unauthenticated) == ("127.0.0.1", 8000, False)
    assert settings == ServeSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: a\nprot: 8000\n", "serve.yaml, line 2: unknown setting 'prot'"),
        ("model: a\n\nport: many\n", "serve.yaml, line 3: port: input should be a valid integer"),
        ("port: 70000\n", "serve.yaml, line 1: port: input should be less than or equal to 65535"),
        ("conversations:\n  max_turnz: 1\n", "serve.yaml, line 2: unknown setting 'conversations.max_turnz'"),
        ("conversations:\n  max_turns: -1\n", "serve.yaml, line 2: conversations.max_turns: input should be greater"),
        ("port: 1\nmodel: a\nport: 2\n", "serve.yaml, line 3: port is set above as well"),
        ("model: [a\nport: 1\n", "serve.yaml, line 2: this is not YAML"),
        ("- model\n", "holds no settings"),
        ("just text\n", "holds no settings"),
        ("max_n: yes please\n", "serve.yaml, line 1: max_n"),
        ("model: !!python/object:os.system x\n", "this is not YAML"),
    ],
)
def test_an_error_in_the_file_names_the_line(tmp_path, text, said):
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_settings({"config": file}, {})
    assert said in str(raised.value)


def test_a_misspelled_name_is_told_its_neighbour(tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text("tensor_paralel_size: 2\n")
    with pytest.raises(ConfigError) as raised:
        load_settings({"config": file}, {})
    assert raised.value.hint == "Did you mean tensor_parallel_size?"


def test_an_error_says_which_variable_or_option_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match="^environment PORT: port: "):
        load_settings({}, {"PORT": "http"})
    with pytest.raises(ConfigError, match="^--max-n: max_n: "):
        load_settings({"max_n": 0}, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings({"config": tmp_path / "missing"}, {})
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings({"config": binary}, {})


def test_no_keys_on_an_open_address_needs_a_second_word():
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigError, match="everybody who reaches"):
            load_settings({"host": host, "allow_unauthenticated": True}, {})
        assert load_settings({"host": host, "allow_unauthenticated": True, "open_to_anyone": True}, {}).host == host
    assert load_settings({"allow_unauthenticated": True}, {}).allow_unauthenticated


def test_every_variable_sets_something_that_there_is():
    assert set(ENVIRONMENT.values()) <= set(ServeSettings.model_fields)


def test_the_prompt_cache_is_sized_by_option_and_variable(monkeypatch):
    variable = environment.PROMPT_CACHE_VARIABLE
    assert load_settings({}, {}).prompt_cache_mb == 64
    assert load_settings({}, {variable: "7"}).prompt_cache_mb == 7
    assert load_settings({"prompt_cache_mb": 9}, {variable: "7"}).prompt_cache_mb == 9
    with pytest.raises(ConfigError, match=f"{variable}: prompt_cache_mb: input should be greater"):
        load_settings({}, {variable: "0"})
    monkeypatch.delenv(variable, raising=False)
    assert environment.prompt_cache_bytes() == DEFAULT_CACHE_BYTES
    monkeypatch.setenv(variable, "7")
    assert environment.prompt_cache_bytes() == 7 << 20
    for text in ("0", "-1", "much", "1.5"):  # set by hand, for a vLLM that `serve` has not started
        monkeypatch.setenv(variable, text)
        with pytest.raises(ConfigError, match=f"{variable} is "):
            environment.prompt_cache_bytes()


def test_the_options_are_told_without_importing_anything_heavy():
    code = (
        "import sys, vllm_deploy\n"
        "try:\n    vllm_deploy.main(['serve', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'transformers', 'vllm', 'sqlalchemy', 'pydantic', 'yaml'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told.splitlines()[-1] == "[]"
    for name in ("--api-key-file", "--allow-unauthenticated", "--open-to-anyone", "--config", "--max-n"):
        assert name in told
