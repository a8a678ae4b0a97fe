"""A vLLM engine in this process: messages in, replies out."""
