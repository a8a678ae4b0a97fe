"""Start vLLM's server, watch it and explain how it ended."""
