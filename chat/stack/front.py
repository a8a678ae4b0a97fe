"""nginx's configuration: the one address in front of all services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Upstreams", "nginx_config"]

# Which paths go to which service; whatever is not named here does not get in, least of all the router's own paths,
# with which servers are added and removed. The router gets only what it hands on as it is: of all other paths it drops
# the headers, the key among them, and the query (vllm-router 0.1.17, tried). Those go straight to a replica, the same
# one for the same conversation.
PATHS: Mapping[str, tuple[str, ...]] = {
    "embedding": ("/v1/embeddings", "/v2/embed"),
    "rerank": ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/score", "/score"),
    "router": ("/v1/chat/completions", "/v1/completions"),
    "llm": ("/version", "/invocations", "/tokenize", "/detokenize"),
}
MAX_BODY = "64m"  # the servers' guard has the exact limit; here it only keeps floods out
WHOLE_ANSWER = "7200s"  # the longest silence within an answer, and so the longest thinking of a request not streamed


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Where nginx finds the services: ``host:port`` each, empty if there is none.

    Attributes:
        llm: the replicas of the language model.
        router: in front of several replicas.
        router_health: the path on which the router says whether a replica works; its /health wants all of them.
        data_parallel_size: engines inside the language model's server; a conversation stays with one of them.
    """

    llm: tuple[str, ...] = ()
    router: str = ""
    router_health: str = "/readiness"
    embedding: str = ""
    rerank: str = ""
    web: str = ""
    data_parallel_size: int = 1

    @property
    def first(self) -> str:
        """The service that answers for the whole stack: the language model if there is one."""
        return next(name for name in ("llm", "embedding", "rerank") if getattr(self, name))

    @property
    def health(self) -> str:
        """Where it is told whether the stack can work."""
        return f"http://router{self.router_health}" if self.router else f"http://{self.first}/health"


def nginx_config(
    upstreams: Upstreams, *, listen: str, folder: Path, models: Path | None = None, as_root: bool = False
) -> str:
    """Return the configuration.

    Args:
        listen: such as ``127.0.0.1:8000``.
        folder: where nginx may write its own files.
        models: a file with the answer to ``/v1/models``; the language model answers if left out.
        as_root: nginx is started by root; its workers then stay root, since nobody else may read ``folder``.
    """
    lines = [
        *_main(folder, as_root=as_root),
        "http {",
        *_indent(_http(folder)),
        *_indent(_upstreams(upstreams)),
        *_indent(_session(upstreams)),
        "    server {",
        *_indent(_server(listen), 2),
        *_indent(_locations(upstreams, models), 2),
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _indent(lines: Iterator[str], depth: int = 1) -> Iterator[str]:
    for line in lines:
        yield f"{'    ' * depth}{line}" if line else ""


def _main(folder: Path, *, as_root: bool) -> Iterator[str]:
    yield "# Written by chat/stack/front.py: changes here are lost."
    yield "daemon off;"
    if as_root:
        yield "user root;"
    yield "worker_processes auto;"
    yield f"pid {folder}/nginx.pid;"
    yield "error_log stderr warn;"
    yield "worker_rlimit_nofile 16384;"
    yield "events { worker_connections 4096; }"


def _http(folder: Path) -> Iterator[str]:
    yield "access_log off;"
    yield "server_tokens off;"
    yield "default_type application/json;"
    yield f"client_max_body_size {MAX_BODY};"
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        yield f"{kind}_temp_path {folder}/nginx-{kind};"
    yield "proxy_http_version 1.1;"
    yield 'proxy_set_header Connection "";'
    yield "proxy_set_header Host $http_host;"
    yield "proxy_set_header X-Session-ID $session;"
    yield "proxy_set_header X-Data-Parallel-Rank $rank;"
    yield "# Answers stream: every piece goes on at once, and a client that leaves ends its answer."
    yield "proxy_buffering off;"
    yield "proxy_request_buffering off;"
    yield f"proxy_read_timeout {WHOLE_ANSWER};"
    yield f"proxy_send_timeout {WHOLE_ANSWER};"
    yield "proxy_connect_timeout 5s;"


def _upstreams(upstreams: Upstreams) -> Iterator[str]:
    if upstreams.llm:
        yield "# A replica that does not answer is passed over at once, and for 5 s."
        yield "upstream llm {"
        yield "    hash $session consistent;"
        for address in upstreams.llm:
            yield f"    server {address} max_fails=1 fail_timeout=5s;"
        yield "    keepalive 64;"
        yield "}"
    for name in ("router", "embedding", "rerank", "web"):
        if address := getattr(upstreams, name):
            yield f"upstream {name} {{ server {address} max_fails=0; keepalive 64; }}"


def _session(upstreams: Upstreams) -> Iterator[str]:
    """Say which conversation a request is of, so that it stays where its past is cached."""
    yield "# The client's own word, else the conversation in the path, else the request by itself: those spread."
    yield "map $uri $conversation {"
    yield '    default "";'
    yield "    ~^/v1/conversations/(?<id>[^/]+) $id;"
    yield "}"
    yield 'map $conversation $unnamed { "" $request_id; default $conversation; }'
    yield 'map $http_x_session_id $session { "" $unnamed; default $http_x_session_id; }'
    size = upstreams.data_parallel_size
    if size > 1:
        yield "# Each conversation also stays with one of the engines inside a server."
        yield "split_clients $session $rank {"
        for rank in range(size - 1):
            yield f"    {100 / size:.2f}% {rank};"
        yield f"    * {size - 1};"
        yield "}"
    else:
        yield 'map "" $rank { default ""; }'
    yield "# A path that reads differently once it is decoded could reach what no location below allows."
    yield "map $request_uri $crooked { default 0; ~*^[^?]*(\\.\\.|//|%2e|%2f|%5c|\\x5c) 1; }"


def _server(listen: str) -> Iterator[str]:
    yield f"listen {listen};"
    yield "if ($crooked) { return 400; }"


def _locations(upstreams: Upstreams, models: Path | None) -> Iterator[str]:
    first = upstreams.first
    for path in ("/health", "/ping"):
        yield f"location = {path} {{ proxy_pass {upstreams.health}; }}"
    for name, paths in PATHS.items():
        service = first if name == "llm" else name
        if getattr(upstreams, service):
            for path in paths:
                yield f"location = {path} {{ proxy_pass http://{service}; }}"
    if upstreams.llm:
        yield "location /v1/ { proxy_pass http://llm; }"
    if models:
        yield f"location = /v1/models {{ auth_request /internal/key; alias {models}; }}"
        yield "location = /internal/key {"
        yield "    internal;"
        yield f"    proxy_pass http://{first}/v1/models;"
        yield "    proxy_method GET;"
        yield "    proxy_pass_request_body off;"
        yield '    proxy_set_header Content-Length "";'
        yield '    proxy_set_header Connection "";'
        yield "    proxy_set_header X-Session-ID $request_id;"
        yield "}"
    elif not upstreams.llm:
        yield f"location = /v1/models {{ proxy_pass http://{first}; }}"
    if upstreams.web:
        yield "location / {"
        yield "    proxy_pass http://web;"
        yield "    # The page answers to this machine's names; the name that the browser asked for goes beside it."
        yield "    proxy_set_header Host 127.0.0.1;"
        yield "    proxy_set_header X-Forwarded-Host $http_host;"
        yield "    proxy_set_header X-Forwarded-Proto $scheme;"
        yield '    proxy_set_header Connection "";'
        yield "}"
    else:
        yield "location / { return 404; }"
