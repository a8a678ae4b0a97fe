"""Sources of replies: the engine host on this machine, or any OpenAI-compatible server."""
