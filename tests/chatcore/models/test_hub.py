"""Names of models -> folders: the demo model, folders of this machine, and what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from chatcore.errors import ModelError, ModelLoadError, ModelNotFoundError
from chatcore.models.hub import DEMO_MODEL_DIR, check_model_dir, is_demo, resolve_model


@pytest.fixture
def model_copy(tmp_path):
    """A copy of the demo model, to be damaged."""
    folder = tmp_path / "model"
    shutil.copytree(DEMO_MODEL_DIR, folder)
    return folder


def test_demo_is_the_embedded_model():
    assert resolve_model() == resolve_model("demo") == DEMO_MODEL_DIR
    assert is_demo(DEMO_MODEL_DIR)


def test_a_folder_is_taken_as_it_is(model_copy):
    assert resolve_model(model_copy) == model_copy
    assert resolve_model(str(model_copy)) == model_copy
    assert not is_demo(model_copy)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(ModelLoadError, match=r"is not a model folder: it has no config\.json"):
        resolve_model(tmp_path)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "two words", "a/b/c", ""])
def test_a_folder_that_is_not_there_is_an_error_before_any_hub_is_asked(name):
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model(name) if name else resolve_model("/no/such/folder")
    assert "demo" in caught.value.hint


def test_a_file_is_no_model(model_copy):
    with pytest.raises(ModelNotFoundError, match="is a file"):
        resolve_model(model_copy / "config.json")


def test_weights_that_were_cut_off_are_found_without_loading_them(model_copy):
    weights = model_copy / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1000)
    with pytest.raises(ModelLoadError, match=f"is cut off: {size - 1000} of {size} bytes"):
        check_model_dir(model_copy)


def test_weights_that_are_no_weights_are_found(model_copy):
    (model_copy / "model.safetensors").write_text("<html>404</html>")
    with pytest.raises(ModelLoadError, match="is no safetensors file"):
        check_model_dir(model_copy)


def test_a_missing_shard_is_named(model_copy):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelLoadError, match=r"lacks 1 of 2 weights files, first model-00002-of-00002\.safetensors"):
        check_model_dir(model_copy)


@pytest.mark.parametrize(
    ("file", "message"), [("model.safetensors", "has no weights"), ("tokenizer.json", "has no tokenizer")]
)
def test_what_is_missing_is_named(model_copy, file, message):
    (model_copy / file).unlink()
    with pytest.raises(ModelLoadError, match=message):
        check_model_dir(model_copy)


def test_a_broken_configuration_is_named(model_copy):
    (model_copy / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"config\.json cannot be read"):
        check_model_dir(model_copy)


def test_an_unknown_hub_is_refused():
    with pytest.raises(ModelError, match="unknown hub 'github'"):
        resolve_model("Qwen/Qwen3-0.6B", hub="github")
