"""HTTP connections to servers: what our clients have in common."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2

from chat.net.api_keys import is_loopback
from chatcore.errors import ChatError

__all__ = [
    "GENERATED_IDS",
    "SESSION_HEADER",
    "api_url_of",
    "cause_of",
    "make_client",
    "root_of",
    "uses_proxies",
]

API_PATH = "/v1"
SESSION_HEADER = "X-Session-ID"  # by which vllm-router keeps a conversation on one engine
# Among the variables of the chat template, for our server's renderer: the ids that answers were generated as, by the
# message's place in the list.
GENERATED_IDS = "generated_token_ids"


def root_of(url: str) -> str:
    """Return a server's address without the path of its API.

    >>> root_of("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000'

    Raises:
        ChatError: it is no address.
    """
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.username is None:
            return url.removesuffix(API_PATH).rstrip("/")
    except ValueError:
        pass
    raise ChatError("the server's URL is none", hint="One looks so: http://127.0.0.1:8000/v1. Keys go into a file.")


def api_url_of(url: str) -> str:
    """Return the address of a server's API; ``/v1`` is added to an address without a path.

    >>> api_url_of("http://127.0.0.1:8000"), api_url_of("https://example.org/openai")
    ('http://127.0.0.1:8000/v1', 'https://example.org/openai')
    """
    root = root_of(url)
    return url.strip().rstrip("/") if urlsplit(url.strip()).path.strip("/") else root + API_PATH


def uses_proxies(url: str) -> bool:
    """Tell whether a server may be behind the proxies that the environment names: not if it is on this machine."""
    return not is_loopback(urlsplit(url).hostname or "")


def make_client(url: str, *, api_key: str = "", timeout: httpx2.Timeout) -> httpx2.Client:
    """Return a client for a server's root."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    root = root_of(url)
    return httpx2.Client(base_url=root, headers=headers, timeout=timeout, trust_env=uses_proxies(root))


def cause_of(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__
