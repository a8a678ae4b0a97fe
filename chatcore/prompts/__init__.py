"""Build prompt token ids from messages. Imports neither torch nor vllm."""
