"""What vLLM says when it cannot start, in one sentence with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.server.process.failures import explain_end
from chatcore.errors import ConfigError, ModelLoadError, ServerError

FACTS = {"model": "demo", "dtype": "auto", "quantization": "", "tensor_parallel_size": ""}


@pytest.mark.parametrize(
    ("line", "kind", "said", "hint"),
    [
        (
            "vllm serve: error: unrecognized arguments: --max-modle-len 5",
            ServerError,
            "not know --max-modle-len",
            "help",
        ),
        ("vllm serve: error: argument --dtype: invalid choice: 'x'", ServerError, "--dtype: invalid choice", ""),
        ("OSError: [Errno 98] Address already in use", ServerError, "the port is taken", "--port"),
        ("OSError: [Errno 99] Cannot assign requested address", ServerError, "does not have the address", "127.0.0.1"),
        ("OSError: [Errno 28] No space left on device: '/psm_1a2b'", ServerError, "shared memory", "--shm-size"),
        ("RuntimeError: unable to open shared memory object </torch_1>", ServerError, "shared memory", "--ipc=host"),
        ("OSError: [Errno 28] No space left on device: '/data/x'", ServerError, "the disk is full", "Make room"),
        (
            "(EngineCore pid=1) ERROR 11-21 [core.py:9] ValueError: No available memory for the cache blocks.",
            ModelLoadError,
            "nothing is left for the key/value cache",
            "--gpu-memory-utilization",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", ModelLoadError, "too little memory", "--max-model-len"),
        ("chatcore.errors.StoreError: /data/store cannot be written", ConfigError, "/data/store cannot be written", ""),
    ],
)
def test_what_went_wrong_is_said_with_the_remedy(line, kind, said, hint):
    lines = ["INFO starting", "Traceback (most recent call last):", line]
    lines += ["RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"]
    error = explain_end(lines, 1, FACTS, Path("/log"))
    assert type(error) is kind
    assert said in str(error)
    assert hint in error.hint
    assert error.hint.endswith("The whole log: /log")
    assert "\n" not in str(error)


def test_what_a_failed_check_says_stands_below_it():
    lines = [
        "(APIServer pid=7) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "(APIServer pid=7)   Value error, User-specified max_model_len (9999) is greater than the derived "
        "max_model_len (max_position_embeddings=4096 or model_max_length=None). [type=value_error, x]",
        "(APIServer pid=7)     For further information visit https://errors.pydantic.dev/2.14/v/value_error",
    ]
    error = explain_end(lines, 1, FACTS, None)
    assert str(error) == "the model's window is 4096 tokens; max_model_len is 9999"
    assert error.hint == "Pass --max-model-len 4096 or less."


def test_an_end_without_a_word_is_told_by_its_signal():
    assert "want of memory" in str(explain_end([], -9, FACTS, None))
    assert "shared memory" in str(explain_end([], -7, FACTS, None))
    assert "exit code 3" in str(explain_end(["INFO hello"], 3, FACTS, None))


def test_an_engine_that_died_while_serving_is_said():
    lines = ["vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace above"]
    assert str(explain_end(lines, 0, FACTS, None)) == "the engine has died"
