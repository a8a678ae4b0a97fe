"""What vLLM's server said before it ended -> one sentence, and the remedy."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chatcore.errors import ChatError, ConfigError, ModelLoadError, ServerError
from chatcore.models.load_errors import load_error

__all__ = ["explain_end"]

# "ValueError: ..." behind whatever a log puts in front of it.
RAISED = re.compile(r"(?:^|[\s\]])(?:[\w.]+\.)?(?P<type>[A-Z]\w*(?:Error|Exception)): (?P<said>\S.*)")
# Below "1 validation error for ModelConfig": what is wrong.
INVALID = re.compile(r"Value error, (?P<said>.+?)(?: \[type=|$)", re.MULTILINE)
# What only says that something else has gone wrong before.
CONSEQUENCES = (
    "Engine core initialization failed",
    "Worker failed with error",
    "See root cause above",
    "EngineDeadError",
)
OUR_OWN = ("ConfigError", "StoreError", "StoreBusyError")

_SIGNS = (
    (
        r"unrecognized arguments?: (?P<said>.+)",
        "vLLM's server does not know {said}",
        "See: python -m chat.server.process.vllm_process serve --help=all",
    ),
    (r"error: argument (?P<said>.+)", "an option of vLLM's server is wrong: {said}", ""),
    (
        r"Address already in use|EADDRINUSE|error while attempting to bind",
        "the port is taken by another program",
        "Choose another one with --port, or end that program.",
    ),
    (
        r"Cannot assign requested address|Name or service not known",
        "this machine does not have the address that it is to listen on",
        "Use --host 127.0.0.1, an address of this machine, or 0.0.0.0 for all of them.",
    ),
    (
        r"No space left on device.*(shm|psm_)|/dev/shm|[Bb]us error|shared memory object",
        "there is too little shared memory (/dev/shm)",
        "In a container, start it with --shm-size=8g or --ipc=host.",
    ),
    (r"No space left on device", "the disk is full", "Make room; the log file says where."),
)


def explain_end(
    lines: Sequence[str], exit_code: int | None, facts: Mapping[str, Any], log_file: Path | None
) -> ChatError:
    """Return what to tell a person whose server has ended by itself.

    Args:
        lines: the last ones of its output.
        exit_code: negative: the signal that ended it; None if it had to be ended.
        facts: about the model, for :func:`chatcore.models.load_errors.load_error`.
        log_file: where all of the output is.
    """
    error = _explain(lines, exit_code, facts)
    if log_file is not None:
        error.hint = f"{error.hint} The whole log: {log_file}".strip()
    return error


def _explain(lines: Sequence[str], exit_code: int | None, facts: Mapping[str, Any]) -> ChatError:
    text = "\n".join(line for line in lines if "rror" in line)
    for sign, message, hint in _SIGNS:
        if found := re.search(sign, text):
            return ServerError(message.format(**found.groupdict()), hint=hint)
    if exit_code == -signal.SIGBUS:
        return ServerError(_SIGNS[4][1], hint=_SIGNS[4][2])
    raised = [(found["type"], found["said"].strip()) for line in lines if (found := RAISED.search(line))]
    causes = [(kind, said) for kind, said in raised if not any(sign in f"{kind} {said}" for sign in CONSEQUENCES)]
    if causes:
        kind, said = causes[-1]
        if kind == "ValidationError" and (found := INVALID.search("\n".join(lines))):
            said = found["said"]
        if kind in OUR_OWN:
            return ConfigError(said)
        error = load_error(RuntimeError(said), facts)
        return ModelLoadError(str(error), hint=_as_options(error.hint))
    if exit_code == -signal.SIGKILL:
        return ServerError(
            "the system ended vLLM's server, most likely for want of memory",
            hint="Use a smaller or quantized model, or lower --max-model-len.",
        )
    if raised:
        return ServerError("the engine has died", hint="Start the server again; no conversation is lost.")
    return ServerError(f"vLLM's server has ended with exit code {exit_code}")


def _as_options(hint: str) -> str:
    """Return a hint about Python's arguments as one about options.

    >>> _as_options("Pass max_model_len=512 or less, or raise gpu_memory_utilization.")
    'Pass --max-model-len 512 or less, or raise --gpu-memory-utilization.'
    """
    named = re.sub(
        r"\b([a-z]+(?:_[a-z]+)+|dtype|quantization)=(?:True\b)?", lambda found: f"{_option(found[1])} ", hint
    )
    return re.sub(r"(?<![-\w])[a-z]+(?:_[a-z]+)+\b", lambda found: _option(found[0]), named).replace(" .", ".")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
