"""Settings of the server, and how they reach vLLM's processes."""
