"""Conversations, and the programs that hold them."""

__version__ = "0.1.0"
