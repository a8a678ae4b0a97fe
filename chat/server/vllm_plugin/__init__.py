"""Code that vLLM loads into its own processes."""
