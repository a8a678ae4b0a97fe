#!/usr/bin/env python3
"""The command line: ``python vllm_deploy.py`` opens a chat, ``python vllm_deploy.py --help`` lists the rest."""

from __future__ import annotations

import sys

from chat import __version__
from chat.cli.main import main

__all__ = ["__version__", "main"]

if __name__ == "__main__":
    sys.exit(main())
