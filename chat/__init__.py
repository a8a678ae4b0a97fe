"""Conversations, and the programs that hold them."""
