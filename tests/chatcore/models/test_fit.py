"""What a model asks of memory and what fits: published configurations, folders, machines, and the engine's own word."""

from __future__ import annotations

import json
import math
import shutil
import struct
import subprocess

import pytest

from chatcore.errors import ModelLoadError
from chatcore.models import fit
from chatcore.models.fit import Machine, explain, find_machine, fit_model, plan
from chatcore.models.hub import DEMO_MODEL_DIR
from chatcore.models.memory import IN_FLIGHT_TOKENS, NUM_STATES, read_memory_needs

QWEN3_8B = {
    "model_type": "qwen3",
    "torch_dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "vocab_size": 151936,
    "sliding_window": None,
    "use_sliding_window": False,
}
QWEN3_NEXT = {
    "model_type": "qwen3_next",
    "torch_dtype": "bfloat16",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "max_position_embeddings": 262144,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840,
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072,
}
GPU_80 = Machine("gpu", 1, 80 << 30)
QWEN3_8B_FILES = 16_381_470_720  # bytes of weights on the hubs


@pytest.fixture
def needs_of(tmp_path):
    """Read what a configuration asks of memory."""

    def read(config, **options):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return read_memory_needs(tmp_path, **options)

    return read


@pytest.mark.parametrize(
    ("config", "bytes_per_token"),
    [
        (QWEN3_8B, 36 * 8 * 2 * 128 * 2),  # grouped-query attention: 8 of 32 heads have keys and values
        ({**QWEN3_8B, "num_key_value_heads": None}, 36 * 32 * 2 * 128 * 2),
        ({**QWEN3_8B, "head_dim": None}, 36 * 8 * 2 * (4096 // 32) * 2),
        (QWEN3_NEXT, 12 * 2 * 2 * 256 * 2),  # one layer of four grows with the conversation
        (DEEPSEEK_V3, 61 * (512 + 64) * 2),  # one latent vector instead of keys and values
        (GPT_OSS, 24 * 8 * 2 * 64 * 2),
        ({"model_type": "qwen3_vl", "text_config": QWEN3_8B}, 36 * 8 * 2 * 128 * 2),
        ({"thinker_config": {"text_config": QWEN3_8B}}, 36 * 8 * 2 * 128 * 2),
        ({**QWEN3_8B, "torch_dtype": "float32"}, 36 * 8 * 2 * 128 * 2),  # vLLM holds float32 models in 16 bits
    ],
)
def test_bytes_of_a_token_follow_the_configuration(needs_of, config, bytes_per_token):
    assert needs_of(config).kv_cache_bytes_per_token == bytes_per_token


def test_the_dtype_of_the_cache_counts(needs_of):
    usual = needs_of(QWEN3_8B).kv_cache_bytes_per_token
    assert needs_of(QWEN3_8B, kv_cache_dtype="fp8").kv_cache_bytes_per_token == usual / 2
    assert needs_of(QWEN3_8B, dtype="float32").kv_cache_bytes_per_token == usual * 2


def test_a_sliding_window_stops_growing(needs_of):
    needs = needs_of(GPT_OSS)
    full_layers = 12 * 8 * 2 * 64 * 2
    assert needs.cache_bytes(100_000) - needs.cache_bytes(90_000) == 10_000 * full_layers
    assert needs.cache_bytes(100) == 100 * 2 * full_layers


def test_linear_attention_takes_the_same_for_any_length(needs_of):
    needs = needs_of(QWEN3_NEXT)
    matrix = 32 * 128 * 128 * 4
    tail = (2 * 16 * 128 + 32 * 128) * 3 * 2
    assert needs.cache_bytes(0) == 36 * (matrix + tail) * 2
    assert needs.cache_bytes(10_000) - needs.cache_bytes(0) == 10_000 * needs.kv_cache_bytes_per_token


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_hidden_layers": None}, "does not tell num_hidden_layers"),
        ({"num_attention_heads": None, "num_key_value_heads": None}, "does not tell num_attention_heads"),
        ({"layer_types": ["mamba"] * 36}, "a kind that is not known here: mamba"),
        ({"num_kv_shared_layers": 10}, "has num_kv_shared_layers"),
        ({"kv_lora_rank": 512, "model_type": "minicpm3"}, "the cache of minicpm3"),
        ({"sliding_window": 4096, "use_sliding_window": True}, "does not tell in which layers"),
    ],
)
def test_what_a_configuration_does_not_tell_is_unknown_and_not_guessed(needs_of, change, reason):
    needs = needs_of({**QWEN3_8B, **change}, weights_file_bytes=QWEN3_8B_FILES)
    assert needs.kv_cache_bytes_per_token is None
    assert reason in needs.unknown
    fit = plan(needs, GPU_80)
    assert fit.fits
    assert (fit.max_model_len, fit.num_conversations, fit.conversations(100)) == (None, None, None)


def test_an_old_qwen_that_names_a_window_it_does_not_use_is_read_right(needs_of):
    needs = needs_of({**QWEN3_8B, "model_type": "qwen2", "sliding_window": 32768, "use_sliding_window": False})
    assert [group.kind for group in needs.layers] == ["full"]


def write_safetensors(file, tensors):
    """Write headers as a model has them; the values are not there, and nobody reads them."""
    header, offset = {}, 0
    for name, (dtype, shape, num_bytes) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + num_bytes]}
        offset += num_bytes
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)


def test_weights_are_counted_as_the_engine_holds_them(needs_of, tmp_path):
    write_safetensors(
        tmp_path / "model.safetensors",
        {"norm": ("F32", [10, 10], 400), "packed": ("I32", [10, 10], 400), "scale": ("F16", [10], 20)},
    )
    needs = needs_of({**QWEN3_8B, "quantization_config": {"quant_method": "awq", "bits": 4}})
    assert needs.weights_bytes == 200 + 400 + 20
    assert needs.weights_format == "awq 4 bit"


def test_weights_that_are_not_there_are_told_by_their_index(needs_of, tmp_path):
    index = {"metadata": {"total_size": QWEN3_8B_FILES}, "weight_map": {"a": "model-00001-of-00005.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert needs_of(QWEN3_8B).weights_bytes == QWEN3_8B_FILES


def test_weights_of_which_nothing_is_known_are_unknown(needs_of):
    needs = needs_of(QWEN3_8B)
    assert needs.weights_bytes is None
    with pytest.raises(ModelLoadError, match="the size of the weights is unknown"):
        plan(needs, GPU_80)


def test_a_folder_without_configuration_is_a_clear_error(tmp_path):
    with pytest.raises(ModelLoadError, match=r"config\.json cannot be read"):
        read_memory_needs(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelLoadError, match="holds no JSON object"):
        read_memory_needs(tmp_path)


def test_a_large_gpu_takes_the_whole_window(needs_of):
    fit = plan(needs_of(QWEN3_8B, weights_file_bytes=QWEN3_8B_FILES), GPU_80)
    assert fit.max_model_len == 40960
    assert fit.flags() == []
    assert 8 <= fit.num_conversations <= 10  # 5.6 GiB each, and about 54 GiB are left for them
    assert fit.conversations(4096) >= 90


def test_a_small_gpu_gets_the_largest_window_that_fits(needs_of):
    needs = needs_of(QWEN3_8B, weights_file_bytes=QWEN3_8B_FILES)
    fit = plan(needs, Machine("gpu", 1, 24 << 30))
    assert 0 < fit.max_model_len < 40960
    assert fit.flags() == ["--max-model-len", str(fit.max_model_len)]
    assert fit.num_conversations == 1
    assert needs.cache_bytes(fit.max_model_len) <= fit.cache_bytes < needs.cache_bytes(fit.max_model_len + 16)


def test_two_small_gpus_share_a_model_that_one_cannot_hold(needs_of):
    needs = needs_of(QWEN3_8B, weights_file_bytes=QWEN3_8B_FILES)
    assert not plan(needs, Machine("gpu", 1, 12 << 30)).fits
    fit = plan(needs, Machine("gpu", 4, 12 << 30))
    assert fit.fits
    assert fit.num_gpus == 4
    assert fit.flags()[:2] == ["--tensor-parallel-size", "4"]


def test_a_head_is_never_split_over_gpus(needs_of):
    needs = needs_of({**QWEN3_8B, "num_key_value_heads": 2}, weights_file_bytes=1 << 30)
    assert needs.cache_bytes(100, 8) == needs.cache_bytes(100, 2)
    assert needs_of(DEEPSEEK_V3).cache_bytes(100, 8) == needs_of(DEEPSEEK_V3).cache_bytes(100, 1)


def test_the_explanation_is_one_sentence_with_a_remedy(needs_of):
    needs = needs_of(QWEN3_8B, weights_file_bytes=QWEN3_8B_FILES)
    sentence, remedy = explain(plan(needs, Machine("gpu", 1, 24 << 30)))
    assert "the weights take 15.3 GiB of 21.6 GiB usable GPU memory" in sentence
    assert "a full window of 40,960 tokens 5.6 GiB" in sentence
    assert remedy.startswith("It fits with --max-model-len ")
    assert "smaller or quantized" in explain(plan(needs, Machine("cpu", 1, 8 << 30)))[1]


def test_a_wanted_window_is_the_upper_bound(needs_of):
    needs = needs_of(QWEN3_8B, weights_file_bytes=QWEN3_8B_FILES)
    assert fit_model(needs, GPU_80, max_model_len=8192).max_model_len == 8192
    assert fit_model(needs, GPU_80, max_model_len=1_000_000).max_model_len == 40960


@pytest.mark.parametrize(
    ("visible", "num_gpus", "memory_gib"), [(None, 2, 24), ("0", 1, 80), ("1", 1, 24), ("GPU-4f1a", 1, 80)]
)
def test_gpus_are_those_that_the_program_may_use(monkeypatch, visible, num_gpus, memory_gib):
    listing = f"NVIDIA H100, {80 << 10}\nNVIDIA L4, {24 << 10}\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=listing))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine = find_machine()
    assert (machine.kind, machine.num_devices, machine.memory_bytes) == ("gpu", num_gpus, memory_gib << 30)


def test_without_a_gpu_the_free_memory_counts(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine = find_machine()
    assert machine.kind == "cpu"
    assert machine.memory_bytes > 100 << 20


@pytest.mark.parametrize(
    ("flags", "free_bytes", "changes", "dtype"),
    [
        ("flags\t: fpu avx2 avx512f", 8 << 30, {}, "float32"),
        ("flags\t: fpu avx512f avx512_bf16", 8 << 30, {}, "auto"),
        ("Features\t: fp asimd bf16", 8 << 30, {}, "auto"),
        ("Features\t: fp asimd", 8 << 30, {}, "float32"),
        ("flags\t: fpu avx2", 8 << 20, {}, "auto"),  # twice the weights, 12 MB, are more than half of that
        ("flags\t: fpu avx2", 8 << 30, {"dtype": "float32"}, "auto"),  # vLLM's way with float32 weights stays
        ("flags\t: fpu avx2", 8 << 30, {"quantization_config": {"quant_method": "awq", "bits": 4}}, "auto"),
        ("", 8 << 30, {}, "auto"),  # nothing is known of it
    ],
)
def test_a_processor_slow_at_bfloat16_gets_float32(tmp_path, monkeypatch, flags, free_bytes, changes, dtype):
    shutil.copytree(DEMO_MODEL_DIR, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | changes))
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(fit, "_PROCESSOR_FILE", str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(fit, "free_memory_bytes", lambda: free_bytes)
    fit._has_bfloat16.cache_clear()
    try:
        assert fit.cpu_dtype(tmp_path / "model") == dtype
    finally:
        fit._has_bfloat16.cache_clear()


def test_the_engine_computes_in_the_dtype_that_is_chosen_here(llm):
    dtype = fit.cpu_dtype(DEMO_MODEL_DIR)
    expected = "bfloat16" if dtype == "auto" else dtype
    assert str(llm.model.llm_engine.model_config.dtype) == f"torch.{expected}"


def test_the_engine_hands_out_as_many_tokens_as_are_reckoned_here(llm):
    """vLLM's own count of blocks for the memory it was given, against ours for one token."""
    cache = llm.model.llm_engine.vllm_config.cache_config
    dtype = str(llm.model.llm_engine.model_config.dtype).removeprefix("torch.")
    needs = read_memory_needs(DEMO_MODEL_DIR, dtype=dtype)
    num_tokens = cache.num_gpu_blocks * cache.block_size
    assert needs.kv_cache_bytes_per_token * num_tokens == pytest.approx(cache.kv_cache_memory_bytes, rel=0.01)


def test_the_demo_model_is_read_from_its_headers(tmp_path):
    shutil.copytree(DEMO_MODEL_DIR, tmp_path / "model")
    needs = read_memory_needs(tmp_path / "model")
    size = (DEMO_MODEL_DIR / "model.safetensors").stat().st_size
    assert size * 0.9 < needs.weights_bytes <= size
    assert needs.weights_format == "bfloat16"


def test_layers_of_other_kinds_are_counted_as_vllm_counts_them(llm, needs_of):
    """vLLM's own shapes for linear attention and for a latent cache; the fixture has imported vLLM already."""
    import torch
    from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
    from vllm.v1.kv_cache_interface import MLAAttentionSpec, SlidingWindowSpec

    tail, matrix = MambaStateShapeCalculator.gated_delta_net_state_shape(1, 16, 32, 128, 128, 4)
    assert needs_of(QWEN3_NEXT).cache_bytes(0) == 36 * NUM_STATES * (math.prod(tail) * 2 + math.prod(matrix) * 4)
    latent = MLAAttentionSpec(block_size=16, num_kv_heads=1, head_size=512 + 64, dtype=torch.bfloat16)
    assert needs_of(DEEPSEEK_V3).cache_bytes(16) == 61 * latent.page_size_bytes
    window = SlidingWindowSpec(block_size=16, num_kv_heads=8, head_size=64, dtype=torch.bfloat16, sliding_window=128)
    num_blocks = window.max_admission_blocks_per_request(IN_FLIGHT_TOKENS, 131_072)
    sliding = next(group for group in needs_of(GPT_OSS).layers if group.kind == "sliding")
    ours, theirs = sliding.cache_bytes(131_072), 12 * num_blocks * window.page_size_bytes
    assert ours <= theirs <= ours * 1.01  # whole blocks
