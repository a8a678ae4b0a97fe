"""Figures beside vLLM's own on ``/metrics``.

They are in the registry that vLLM shows, and work in several API server processes as its own do. Names must not begin
with ``vllm:``: vLLM takes such names off the registry when it makes its own.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["CONVERSATIONS_OPEN", "GUARD_SECONDS", "REJECTIONS", "REQUESTS_IN_FLIGHT", "REUSED_TOKENS", "TURNS"]

GUARD_SECONDS = Histogram(
    "vllm_deploy_guard_seconds",
    "Time that the guard takes for one request, without waiting for its body.",
    buckets=(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2),
)
REJECTIONS = Counter("vllm_deploy_guard_rejections", "Requests that the guard refused.", ["reason"])
REQUESTS_IN_FLIGHT = Gauge(
    "vllm_deploy_requests_in_flight", "Requests that are answered or wait for it.", multiprocess_mode="livesum"
)

CONVERSATIONS_OPEN = Gauge(
    "vllm_deploy_conversations_open", "Conversations with a running turn.", multiprocess_mode="livesum"
)
TURNS = Counter("vllm_deploy_turns", "Turns of conversations kept on the server.", ["outcome"])
REUSED_TOKENS = Counter("vllm_deploy_prompt_tokens_reused", "Prompt tokens that did not have to be encoded again.")
