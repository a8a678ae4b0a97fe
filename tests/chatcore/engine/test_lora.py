"""LoRA adapters: what is refused before the engine sees it, and answers with and without one in the same batch."""

from __future__ import annotations

import json

import pytest

from chatcore.engine.lora import engine_arguments, read_adapter
from chatcore.errors import ModelLoadError
from chatcore.models.hub import DEMO_MODEL_DIR
from tests.program import results_of

HIDDEN, HEADS, HEAD_DIM, LAYERS = 192, 4, 64, 4  # of the demo model


def write_adapter(folder, *, rank=4, scale=1.0, hidden=HIDDEN, layers=LAYERS, module="self_attn.q_proj", **config):
    """Write an adapter of random weights as the peft library would."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(layers):
        name = f"base_model.model.model.layers.{layer}.{module}"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, hidden, generator=generator) * scale
        tensors[f"{name}.lora_B.weight"] = torch.randn(HEADS * HEAD_DIM, rank, generator=generator) * scale
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": [module.split(".")[-1]]}
    (folder / "adapter_config.json").write_text(json.dumps(settings | config), "utf-8")
    return folder


def test_an_adapter_that_fits_is_read(tmp_path):
    adapter = read_adapter("pirate", write_adapter(tmp_path / "a", rank=12), DEMO_MODEL_DIR)
    assert (adapter.name, adapter.rank, adapter.engine_rank) == ("pirate", 12, 16)
    assert engine_arguments([adapter, adapter])["max_loras"] == 2
    assert engine_arguments([]) == {
        "enable_lora": True,
        "max_lora_rank": 16,
        "max_loras": 1,
        "max_cpu_loras": 8,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 256}, "q_proj reads 192 values, and the adapter 256"),
        ({"layers": 6}, r"the model has no model\.layers\.4\.self_attn\.q_proj"),
        ({"module": "self_attn.k_proj"}, "k_proj gives 128 values, and the adapter 256"),
        ({"peft_type": "IA3"}, "is a IA3 adapter"),
        ({"r": "many"}, "names no rank: r is 'many'"),
        ({"r": 2000}, "has rank 2000; vLLM runs up to 512"),
    ],
)
def test_an_unsuitable_adapter_is_refused_before_loading(tmp_path, options, message):
    folder = write_adapter(tmp_path / "a", base_model_name_or_path="Qwen/Qwen3-0.6B", **options)
    with pytest.raises(ModelLoadError, match=message) as caught:
        read_adapter("pirate", folder, DEMO_MODEL_DIR)
    if "layers" in options or "hidden" in options:
        assert "Qwen/Qwen3-0.6B" in caught.value.hint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), r"has no adapter_config\.json"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), r"has no adapter_model\.safetensors"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "holds no JSON object"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 100), "is no safetensors file"),
    ],
)
def test_a_damaged_adapter_is_named(tmp_path, damage, message):
    folder = write_adapter(tmp_path / "a")
    damage(folder)
    with pytest.raises(ModelLoadError, match=message):
        read_adapter("pirate", folder, DEMO_MODEL_DIR)


def test_an_adapter_needs_a_name(tmp_path):
    with pytest.raises(ModelLoadError, match="needs a name"):
        read_adapter("", write_adapter(tmp_path / "a"), DEMO_MODEL_DIR)


# One process, one engine: prints what it finds as JSON.
ON_THE_ENGINE = """
import json, sys
from chatcore.errors import ChatError
from vllm_wrapper import VLLMWrapper

first, second, too_large, unknown_kind = sys.argv[1:]
hello = [{"role": "user", "content": "Hello!"}]
greedy = {"temperature": 0.0, "enable_thinking": False, "max_tokens": 8, "logprobs": 0}
found = {}

def likelihoods(reply):
    return [round(place.chosen.logprob, 3) for place in reply.logprobs]

def refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except ChatError as error:
        return [type(error).__name__, str(error), error.hint]

with VLLMWrapper("demo", lora_adapters={"first": first}) as llm:
    alone = {name: likelihoods(llm.reply(hello, lora=name, **greedy)) for name in (None, "first")}
    batches = []
    def step():
        outputs = real_step()
        running = llm.model.llm_engine.engine_core.engine_core.scheduler.running
        batches.append(sorted(str(r.lora_request and r.lora_request.lora_name) for r in running))
        return outputs
    real_step, llm.model.llm_engine.step = llm.model.llm_engine.step, step
    streams = [llm.stream(hello, lora=name, **greedy) for name in (None, "first")]
    together = [likelihoods(stream.reply) for stream in streams]
    llm.add_lora("second", second)
    found["loras"] = llm.loras
    found["alone"] = [alone[None], alone["first"]]
    found["together"] = together
    found["second"] = likelihoods(llm.reply(hello, lora="second", **greedy))
    found["without"] = likelihoods(llm.reply(hello, **greedy))
    found["shared"] = ["None", "first"] in batches
    found["unknown"] = refused(llm.reply, hello, lora="third")
    found["again"] = refused(llm.add_lora, "second", second)
    found["too large"] = refused(llm.add_lora, "large", too_large)
    found["of vLLM"] = refused(llm.add_lora, "dora", unknown_kind)
    for number in range(2, 8):
        llm.add_lora(str(number), second)
    found["too many"] = refused(llm.add_lora, "ninth", second)
    full = [llm.stream(hello, lora=name, **greedy) for name in (None, *llm.loras)]
    found["full"] = likelihoods(full[0].reply)
    found["alive"] = likelihoods(llm.reply(hello, lora="first", **greedy))
print("result", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    adapters = [
        write_adapter(folder / "first"),
        write_adapter(folder / "second", rank=8),
        write_adapter(folder / "large", rank=64),
        write_adapter(folder / "dora", use_dora=True),
    ]
    [everything] = results_of(ON_THE_ENGINE, *map(str, adapters))
    return everything


def test_an_adapter_changes_what_the_model_says(found):
    without, first = found["alone"]
    assert without != first
    assert found["second"] not in (without, first)
    assert found["loras"] == ["first", "second"]


def test_answers_with_and_without_an_adapter_share_the_batch(found):
    assert found["shared"]
    for together, alone in zip(found["together"], found["alone"], strict=True):
        assert together == pytest.approx(alone, abs=0.05)


def test_an_adapter_leaves_the_model_itself_as_it_was(found):
    assert found["without"] == pytest.approx(found["alone"][0], abs=0.05)


def test_a_batch_of_all_adapters_leaves_the_model_itself_as_it_was(found):
    """vLLM 0.32 for CPU takes the adapter in the last place for answers without one, unless that place is empty."""
    assert found["full"] == pytest.approx(found["alone"][0], abs=0.05)
    assert "holds 8 LoRA adapters; on CPU it takes no more" in found["too many"][1]


def test_what_cannot_be_is_refused_and_the_engine_lives_on(found):
    assert found["unknown"][:2] == ["SamplingError", "there is no LoRA adapter 'third'; there are: first, second"]
    assert "there is a LoRA adapter second already" in found["again"][1]
    assert "rank 64; the engine takes up to 8" in found["too large"][1]
    assert "max_lora_rank': 64" in found["too large"][2]
    assert "vLLM cannot load the LoRA adapter dora: vLLM does not yet support DoRA." in found["of vLLM"][1]
    assert found["alive"] == pytest.approx(found["alone"][1], abs=0.05)
