"""The library behind ``vllm_wrapper`` and ``prompt_utils``: prompts, models, tools and the vLLM engine."""
