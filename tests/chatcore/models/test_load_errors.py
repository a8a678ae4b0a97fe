"""Models that cannot be loaded: each cause is one sentence with its remedy.

What the files tell is tried here; what only vLLM knows, in one process that imports it once and fails many times.
"""

from __future__ import annotations

import json

import pytest

from chatcore.errors import ModelLoadError
from chatcore.models.fit import free_memory_bytes
from chatcore.models.hub import DEMO_MODEL_DIR
from chatcore.models.load_errors import check_cpu_memory, check_loadable, load_error
from tests.program import results_of

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
GIB = 1 << 30


@pytest.fixture(scope="module")
def model_like(tmp_path_factory):
    """Return a function that makes a folder like the demo model's, with other settings in its config.json."""

    def make(**changes):
        folder = tmp_path_factory.mktemp("model")
        for file in DEMO_MODEL_DIR.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "config.json").unlink()
        config = json.loads((DEMO_MODEL_DIR / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")
        return str(folder)

    return make


# -- from the files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "arguments", "message", "hint"),
    [
        ({"architectures": ["QWenLMHeadModel"]}, {}, "no longer runs the first Qwen generation", "Qwen/Qwen3-8B"),
        ({}, {"dtype": "float8"}, "there is no dtype 'float8'", "bfloat16"),
        ({}, {"quantization": "awq"}, "quantization is awq, but the weights are not quantized", "Leave quantization"),
        (
            {"quantization_config": GPTQ},
            {"quantization": "awq_marlin"},
            "quantization is awq_marlin, but the weights are stored as gptq",
            "Leave quantization out",
        ),
        (
            {"quantization_config": {"quant_method": "bitsandbytes"}},
            {},
            "bitsandbytes weights need a plugin that is not installed: vllm-bnb-plugin",
            "pip install vllm-bnb-plugin",
        ),
        ({}, {"quantization": "bitsandbytes"}, "vllm-bnb-plugin", "pip install"),
        ({}, {"quantization": "gguf"}, "vllm-gguf-plugin", "pip install"),
    ],
)
def test_what_the_files_tell_is_found_before_vllm_is_imported(model_like, changes, arguments, message, hint):
    with pytest.raises(ModelLoadError, match=message) as caught:
        check_loadable({"model": model_like(**changes), "dtype": "auto", "quantization": None} | arguments)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [(None, None), (GPTQ, None), (GPTQ, "gptq"), (GPTQ, "gptq_marlin"), (GPTQ, "moe_wna16"), (None, "fp8")],
)
def test_what_may_go_together_is_left_to_vllm(model_like, stored, asked):
    changes = {"quantization_config": stored} if stored else {}
    check_loadable({"model": model_like(**changes), "dtype": "bfloat16", "quantization": asked})


def test_too_little_memory_names_the_window_that_would_fit():
    arguments = {"model": str(DEMO_MODEL_DIR), "dtype": "auto", "gpu_memory_utilization": 0.9, "max_model_len": 8192}
    check_cpu_memory({**arguments, "kv_cache_memory_bytes": GIB})
    with pytest.raises(ModelLoadError, match=r"a window of 8192 tokens needs 16\.0 MiB .* and 1\.0 MiB") as caught:
        check_cpu_memory({**arguments, "kv_cache_memory_bytes": 1 << 20})
    assert "max_model_len=512" in caught.value.hint
    check_cpu_memory({**arguments, "kv_cache_memory_bytes": 1 << 20, "max_model_len": 512})


def test_weights_that_are_larger_than_the_memory_are_not_even_tried(monkeypatch):
    monkeypatch.setattr("chatcore.models.load_errors.free_memory_bytes", lambda: 1 << 20)
    with pytest.raises(ModelLoadError, match=r"too little memory: the weights take 5\.7 MiB") as caught:
        check_cpu_memory(
            {
                "model": str(DEMO_MODEL_DIR),
                "dtype": "auto",
                "gpu_memory_utilization": 0.9,
                "max_model_len": None,
                "kv_cache_memory_bytes": GIB,
            }
        )
    assert "smaller or quantized" in caught.value.hint
    assert free_memory_bytes() > 1 << 20


# -- from vLLM -------------------------------------------------------------------------------------------------------

# name -> (changes of config.json, arguments of the wrapper, what is said, the remedy)
FAILURES = {
    "unknown architecture": ({"architectures": ["FooForCausalLM"]}, {}, "architecture, FooForCausalLM", "update vLLM"),
    "past architecture": (
        {"architectures": ["XverseForCausalLM"]},
        {},
        "no longer runs XverseForCausalLM models; 0.23.0",
        "newer model",
    ),
    "unknown type": ({"model_type": "foo"}, {}, "models of the type foo", "Update transformers"),
    "code of its own": (
        {"model_type": "foo", "auto_map": {"AutoConfig": "own.Config"}},
        {},
        "wants to run code of its own",
        "trust_remote_code=True",
    ),
    "dtype": (
        {"model_type": "glm4"},
        {"dtype": "float16"},
        "cannot use dtype float16",
        "dtype='auto'",
    ),
    "unknown quantization": ({}, {"quantization": "foo"}, "quantization does not fit", "Leave quantization out"),
    "quantization of this machine": ({}, {"quantization": "fp8"}, "cannot run fp8 weights", "Leave quantization"),
    "window too long": ({}, {"max_model_len": 100_000}, "window is 8192 tokens; max_model_len is 100000", "8192"),
    "cache too small": (
        {},
        {"engine_args": {"kv_cache_memory_bytes": 1 << 20}, "max_model_len": 8192, "dtype": "bfloat16"},
        "a window of 8192 tokens needs",
        "max_model_len=512",
    ),
    "wrong shape": ({"hidden_size": 256}, {}, "do not fit its config.json", "of the same one"),
    "missing layers": ({"num_hidden_layers": 6}, {}, "do not fit its config.json", "of the same one"),
    "sleep": ({}, {"engine_args": {"enable_sleep_mode": True}}, "cannot sleep", "enable_sleep_mode"),
    "heads": ({}, {"tensor_parallel_size": 3}, "cannot be split over 3", "tensor_parallel_size"),
}

LOAD_THEM_ALL = """
import json, sys
from chatcore.errors import ChatError
from vllm_wrapper import VLLMWrapper

for name, (model, arguments) in json.load(sys.stdin).items():
    try:
        VLLMWrapper(model, **arguments).close()
        said = ["loaded", ""]
    except ChatError as error:
        said = [str(error), error.hint]
    print("result", json.dumps([name, said]), flush=True)
"""


@pytest.fixture(scope="module")
def failures(model_like):
    """What the wrapper says to each of FAILURES, on the real vLLM."""
    tasks = {name: [model_like(**changes), arguments] for name, (changes, arguments, *_) in FAILURES.items()}
    said = results_of(LOAD_THEM_ALL, said=json.dumps(tasks))
    assert len(said) == len(tasks)
    return dict(said)


@pytest.mark.parametrize("name", FAILURES)
def test_what_vllm_refuses_is_one_sentence_with_the_remedy(failures, name):
    said, hint = failures[name]
    _, _, message, remedy = FAILURES[name]
    assert message in said
    assert remedy in hint
    assert "\n" not in said
    assert len(said) < 400


# -- what this machine cannot provoke ---------------------------------------------------------------------------------


def test_too_little_memory_on_a_gpu_names_the_window_that_would_fit():
    """The sentence is made by vLLM's own function, with a memory that this machine does not have."""
    from vllm.v1.core.kv_cache_utils import _check_enough_kv_cache_memory

    with pytest.raises(ValueError, match="max seq len") as caught:
        _check_enough_kv_cache_memory(2 * GIB, lambda: 8 * GIB, 32768, lambda _: 8176)
    error = load_error(caught.value, {"model": "folder", "dtype": "auto"})
    assert "a window of 32768 tokens needs 8.0 GiB of key/value cache, and 2.0 GiB are left" in str(error)
    assert "max_model_len=8176" in error.hint
    with pytest.raises(ValueError, match="No available memory") as caught:
        _check_enough_kv_cache_memory(0, lambda: 8 * GIB, 32768, lambda _: 0)
    assert "nothing is left" in str(load_error(caught.value, {"model": "folder"}))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has", "too little memory: the weights"),
        (
            "Free memory on device cuda:0 (3.2/24.0 GiB) on startup is less than desired GPU memory utilization",
            "too little memory is free: 3.2/24.0 GiB",
        ),
        ("Bfloat16 is only supported on GPUs with compute capability of at least 8.0.", "cannot use dtype bfloat16"),
        ("something nobody foresaw\nwith a second line", "cannot load folder: something nobody foresaw"),
    ],
)
def test_what_a_gpu_refuses_is_one_sentence(said, message):
    arguments = {"model": "folder", "dtype": "bfloat16", "quantization": None}
    error = load_error(ValueError(said), arguments)
    assert message in str(error)
    assert "\n" not in str(error)
