"""The server: vLLM's own, and what is added to it."""
