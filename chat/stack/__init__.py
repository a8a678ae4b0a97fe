"""Several services on one machine, from one file: language model, embedding model, reranker, router, web page.

Nothing here schedules, proxies or checks health by itself: vLLM serves, vllm-router spreads conversations over
replicas, nginx is the one address in front, supervisor keeps the processes alive. This room writes their
configurations and starts them in order.
"""
