"""Settings: file, environment, command line, in that order of strength, and where each came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.config import Settings, default_file, load_settings
from chatcore.errors import ConfigError, describe


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def load(file: Path, options: dict | None = None, **environment: str) -> Settings:
    variables = {f"VLLMDEPLOY_{name.upper()}": text for name, text in environment.items()}
    return load_settings(options, file=file, environment={"PATH": "/bin", **variables})


def row(settings: Settings, name: str) -> tuple[str, str, str]:
    return next(row for row in settings.rows() if row[0] == name)


def test_without_a_file_everything_is_as_it_comes(file):
    settings = load(file)
    assert settings == Settings()
    assert {origin for _, _, origin in settings.rows()} == {"default"}


def test_the_command_line_beats_the_environment_and_that_beats_the_file(file):
    file.write_text('model = "from-file"\nlanguage = "zh"\nstore = "file.sqlite"\n', "utf-8")
    settings = load(file, {"store": "option.sqlite"}, store="environment.sqlite", language="en")
    assert (settings.model, settings.language, settings.store) == ("from-file", "en", "option.sqlite")
    assert settings.origins == {"model": str(file), "language": "environment", "store": "command line"}


def test_what_the_command_line_does_not_say_leaves_the_rest_alone(file):
    file.write_text("plain = true\n", "utf-8")
    settings = load(file, {"plain": None, "model": None})
    assert settings.plain is True
    assert row(settings, "plain") == ("plain", "True", str(file))


def test_sampling_parameters_are_merged_and_all_their_origins_named(file):
    file.write_text("[sampling]\ntemperature = 0.1\ntop_p = 0.5\n", "utf-8")
    settings = load(file, {"sampling": {"top_p": 0.9}}, sampling='{"seed": 7}')
    assert settings.sampling == {"temperature": 0.1, "top_p": 0.9, "seed": 7}
    assert settings.origins["sampling"] == f"{file}, environment, command line"


def test_an_empty_table_changes_nothing(file):
    file.write_text("[sampling]\ntemperature = 0.1\n", "utf-8")
    settings = load(file, {"sampling": {}})
    assert settings.sampling == {"temperature": 0.1}
    assert settings.origins["sampling"] == str(file)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("plain", "yes", True),
        ("plain", "0", False),
        ("enable_thinking", "off", False),
        ("keep_alive_s", "1", 1.0),
        ("keep_alive_s", "0", 0.0),
        ("keep_alive_s", "-1", -1.0),
        ("model", "true", "true"),
        ("model", "7", "7"),
        ("system", "", ""),
        ("thinking_view", "hidden", "hidden"),
        ("engine", '{"max_model_len": 4096}', {"max_model_len": 4096}),
    ],
)
def test_a_variable_becomes_the_kind_that_its_setting_has(file, name, text, value):
    found = getattr(load(file, **{name: text}), name)
    assert found == value
    assert type(found) is type(value)


def test_an_unknown_name_is_refused_with_the_nearest_one(file):
    file.write_text('modell = "demo"\n', "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "modell" in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.hint == "Did you mean model?"


def test_an_unknown_name_without_a_near_one_gets_the_list(file):
    with pytest.raises(ConfigError, match="'zzzz' \\(environment\\)") as caught:
        load(file, zzzz="1")
    assert "keep_alive_s" in caught.value.hint


def test_folders_in_the_environment_are_no_settings(file):
    assert load(file, runtime_dir="/run", log_dir="/log", config="x.toml") == Settings()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plain = 1", "plain is 1"),
        ('plain = "maybe"', "switch: true or false"),
        ("model = 3", "it is a text"),
        ('keep_alive_s = "soon"', "it is a number"),
        ("keep_alive_s = true", "it is a number"),
        ("keep_alive_s = nan", "it is a number"),
        ('thinking_view = "loud"', "it is one of 'full', 'collapsed', 'hidden'"),
        ("language = []", "it is one of"),
        ("sampling = 1", "sampling is not a table"),
        ('enable_thinking = "auto"', "switch: true or false"),
        ('origins = "x"', "unknown setting 'origins'"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_with_its_place(file, line, said):
    file.write_text(line + "\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_variable_of_a_wrong_kind_is_refused(file):
    with pytest.raises(ConfigError, match="keep_alive_s is 'soon' \\(environment\\)"):
        load(file, keep_alive_s="soon")


def test_a_file_that_is_no_toml_says_where(file):
    file.write_text("model demo\n", "utf-8")
    with pytest.raises(ConfigError, match="line 1") as caught:
        load(file)
    assert "model =" in caught.value.hint


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, file):
    file.write_bytes(b"model = '\xff\xfe'\n")
    for unreadable in (file, tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(unreadable)


def test_a_file_that_notepad_wrote_is_read(file):
    file.write_bytes('\ufeffsystem = "你好"\n'.encode())
    assert load(file).system == "你好"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://…@host/db"),
        ("postgresql://me:p@hunter2@host:5432/db", "postgresql://…@host:5432/db"),
        ("postgresql://host/db?user=me&password=hunter2", "postgresql://host/db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("/data/conversations.sqlite", "/data/conversations.sqlite"),
    ],
)
def test_a_password_in_a_url_is_not_shown(file, url, shown):
    assert row(load(file, store=url), "store") == ("store", shown, "environment")


def test_keys_in_tables_are_not_shown(file):
    engine = {"hf_token": "hunter2", "max_model_len": 4096, "engine_args": {"api_key": "hunter2", "seed": 1}}
    settings = load(file, {"engine": engine})
    assert row(settings, "engine")[1] == (
        '{"hf_token": "…", "max_model_len": 4096, "engine_args": {"api_key": "…", "seed": 1}}'
    )
    assert settings.engine == engine  # only what is shown leaves them out


def test_max_tokens_is_no_secret(file):
    assert row(load(file, {"sampling": {"max_tokens": 9}}), "sampling")[1] == '{"max_tokens": 9}'


def test_a_broken_table_with_a_key_does_not_show_the_key(file):
    with pytest.raises(ConfigError) as caught:
        load(file, engine='{"hf_token": "hunter2"')
    assert "hunter2" not in describe(caught.value)


def test_every_setting_has_a_row(file):
    names = [name for name, _, _ in load(file).rows()]
    assert names == sorted(name for name in Settings.__dataclass_fields__ if name != "origins")


def test_the_file_can_be_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("VLLMDEPLOY_CONFIG", str(tmp_path / "mine.toml"))
    assert default_file() == tmp_path / "mine.toml"
    (tmp_path / "mine.toml").write_text('model = "mine"\n', "utf-8")
    assert load_settings(environment={}).model == "mine"


def test_the_file_is_in_the_users_folder_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("VLLMDEPLOY_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_file() == tmp_path / "vllm-deploy" / "config.toml"


@pytest.mark.parametrize("text", ["x = " + "[" * 3000, "keep_alive_s = " + "9" * 5000])
def test_a_file_that_is_beyond_all_bounds_is_refused_in_a_sentence(file, text):
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(file=file, environment={})
    assert len(describe(caught.value)) < 2000


@pytest.mark.parametrize("name", ["sampling", "keep_alive_s"])
def test_a_variable_that_is_beyond_all_bounds_is_refused(file, name):
    for text in ("[" * 3000, "9" * 400):
        with pytest.raises(ConfigError):
            load(file, **{name: text})
