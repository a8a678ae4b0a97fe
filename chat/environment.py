"""Environment variables of the program. They begin with ``VLLMDEPLOY_``.

They do not begin with ``VLLM_``: vLLM warns of unknown variables with that prefix, and refuses them with
``--fail-on-environ-validation``. Names from before, ``VLLM_DEPLOY_...``, are still read, with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import MutableMapping

__all__ = ["PREFIX", "read_variable", "rename_old_variables"]

PREFIX = "VLLMDEPLOY_"
OLD_PREFIX = "VLLM_DEPLOY_"


def read_variable(name: str) -> str:
    """Return the value of a variable, such as ``VLLMDEPLOY_STORE``; empty if it is not set."""
    old = OLD_PREFIX + name.removeprefix(PREFIX)
    if not os.environ.get(name) and os.environ.get(old):
        warnings.warn(_renamed(old, name), FutureWarning, stacklevel=2)
    return os.environ.get(name) or os.environ.get(old, "")


def rename_old_variables(environment: MutableMapping[str, str]) -> list[str]:
    """Give the old variables their new names, in place; return a warning for each.

    Programs do this once at their start, so that the processes they start inherit the new names alone.

    >>> environment = {"VLLM_DEPLOY_STORE": "a.sqlite"}
    >>> rename_old_variables(environment)
    ['VLLM_DEPLOY_STORE is now called VLLMDEPLOY_STORE']
    >>> environment
    {'VLLMDEPLOY_STORE': 'a.sqlite'}
    """
    said = []
    for old in [name for name in environment if name.startswith(OLD_PREFIX)]:
        new = PREFIX + old.removeprefix(OLD_PREFIX)
        value = environment.pop(old)
        environment.setdefault(new, value)
        said.append(_renamed(old, new))
    return said


def _renamed(old: str, new: str) -> str:
    return f"{old} is now called {new}"
