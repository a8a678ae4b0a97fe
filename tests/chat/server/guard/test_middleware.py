"""The guard, in this process: who gets in, with what, and what reaches the routes behind it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from chat.server.guard.middleware import Guard
from chat.server.limits.places import Places, num_seqs_of
from chat.server.settings.guard import GuardSettings
from chatcore.errors import ConfigError
from tests.chat.server.asgi import Routes, ask, guard_with

CHAT = {"messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture
def routes():
    return Routes()


@pytest.fixture
def guard(tmp_path, routes):
    return guard_with(tmp_path, routes)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_routes_see_whose_key_it_is(guard, routes):
    for key, owner in (("alice-secret", "alice"), ("bob-secret", "bob"), ("local-secret", "local")):
        assert ask(guard, body=CHAT, key=key).status == 200
        assert routes.scopes[-1]["state"]["owner"] == owner


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer wrong-secret")],
        [(b"authorization", b"Bearer alice-secret2")],
        [(b"authorization", b"Bearer alice-secre")],
        [(b"authorization", b"Bearer alice-secret bob-secret")],
        [(b"authorization", b"alice-secret")],
        [(b"authorization", b"Token alice-secret")],
        [(b"authorization", b"Basic " + base64.b64encode(b"alice:alice-secret"))],
        [(b"authorization", b"Bearer alice-secret"), (b"authorization", b"Bearer alice-secret")],
        [(b"x-api-key", b"alice-secret")],
        [(b"api-key", b"alice-secret")],
        [(b"cookie", b"authorization=alice-secret")],
        [(b"proxy-authorization", b"Bearer alice-secret")],
        [(b"authorization", b"Bearer \xff\xfe")],
    ],
)
def test_no_key_a_wrong_one_or_one_in_the_wrong_place_is_refused(guard, routes, headers):
    reply = ask(guard, body=CHAT, key="", headers=headers, query_string=b"api_key=alice-secret")
    assert reply.status == 401
    assert reply.error["code"] == "invalid_api_key"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert routes.scopes == []
    assert "secret" not in reply.body.decode()


def test_a_key_may_come_behind_the_id_of_a_platform(guard, routes):
    for value in (b"12345-alice-secret", b"a1b2-c3d4-alice-secret"):
        assert ask(guard, body=CHAT, key="", headers=[(b"authorization", value)]).status == 200
        assert routes.scopes[-1]["state"]["owner"] == "alice"
    assert ask(guard, body=CHAT, key="", headers=[(b"authorization", b"12345-alice-secre")]).status == 401
    assert ask(guard, body=CHAT, key="", headers=[(b"authorization", b"-" * 100_000)]).status == 401


def test_a_browser_gives_the_key_as_a_password_for_pages_alone(guard):
    basic = [(b"authorization", b"Basic " + base64.b64encode(b"anybody:alice-secret"))]
    assert ask(guard, "/docs", method="GET", key="", headers=basic).status == 200
    assert ask(guard, "/openapi.json", method="GET", key="", headers=basic).status == 200
    assert ask(guard, "/v1/models", method="GET", key="", headers=basic).status == 401
    assert ask(guard, "/docs", method="POST", key="", headers=basic).status == 401
    refused = ask(guard, "/docs", method="GET", key="")
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    broken = [(b"authorization", b"Basic %%%")]
    assert ask(guard, "/docs", method="GET", key="", headers=broken).status == 401


def test_anthropics_clients_send_their_key_in_a_header_of_their_own(guard):
    headers = [(b"x-api-key", b"alice-secret")]
    assert ask(guard, "/v1/messages", body=CHAT, key="", headers=headers).status == 200
    assert ask(guard, "/v1/messages", body=CHAT, key="bob-secret", headers=headers).status == 401


def test_only_health_and_preflight_answer_without_a_key(guard, routes):
    for path in ("/health", "/ping"):
        assert ask(guard, path, method="GET", key="").status == 200
    preflight = [(b"origin", b"https://page.example"), (b"access-control-request-method", b"POST")]
    assert ask(guard, method="OPTIONS", key="", headers=preflight).status == 200
    assert ask(guard, method="OPTIONS", key="").status == 401
    for path in ("/metrics", "/version", "/", "/docs", "/openapi.json", "/HEALTH", "/health/", "//health", "/health/x"):
        assert ask(guard, path, method="GET", key="").status == 401, path
    assert len(routes.scopes) == 3


def test_metrics_are_open_if_so_set(tmp_path):
    guard = guard_with(tmp_path, open_metrics=True)
    assert ask(guard, "/metrics", method="GET", key="").status == 200
    assert ask(guard, "/metrics/", method="GET", key="").status == 401


def test_keys_are_read_again_when_their_file_changes(tmp_path, guard, monkeypatch):
    monkeypatch.setattr("chat.server.guard.keys.CHECK_INTERVAL_S", 0.0)
    assert ask(guard, body=CHAT, key="carol-secret").status == 401
    (tmp_path / "keys").write_text("carol: carol-secret\n")
    assert ask(guard, body=CHAT, key="carol-secret").status == 200
    assert ask(guard, body=CHAT, key="alice-secret").status == 401


def test_a_broken_file_of_keys_changes_nothing_and_is_said(tmp_path, guard, monkeypatch, caplog):
    monkeypatch.setattr("chat.server.guard.keys.CHECK_INTERVAL_S", 0.0)
    (tmp_path / "keys").write_text("alice alice secret\n")
    assert ask(guard, body=CHAT).status == 200
    assert "the keys stay as they were" in caplog.text
    assert "secret" not in caplog.text
    (tmp_path / "keys").unlink()
    assert ask(guard, body=CHAT).status == 200
    (tmp_path / "keys").write_text("# nobody\n")
    assert ask(guard, body=CHAT).status == 401


def test_without_readable_keys_no_server_starts(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Guard(Routes(), GuardSettings(key_file=str(tmp_path / "missing")), own_paths=())


def test_without_authentication_everybody_is_local(tmp_path, routes):
    guard = guard_with(tmp_path, routes, unauthenticated=True)
    assert ask(guard, body=CHAT, key="").status == 200
    assert routes.scopes[-1]["state"]["owner"] == "local"
    assert "cache_salt" not in routes.json


def test_a_websocket_needs_a_key_as_well(guard, routes):
    async def connect(headers, path):
        sent = []
        scope = {"type": "websocket", "path": path, "root_path": "", "query_string": b"", "headers": headers}

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        await guard(scope, receive, send)
        return sent[0]["type"]

    key = [(b"authorization", b"Bearer bob-secret")]
    assert asyncio.run(connect([], "/v1/realtime")) == "websocket.close"
    assert asyncio.run(connect([(b"authorization", b"Bearer nonsense")], "/v1/realtime")) == "websocket.close"
    assert asyncio.run(connect(key, "/somewhere")) == "websocket.close"
    assert routes.scopes == []
    assert asyncio.run(connect(key, "/v1/realtime")) == "websocket.accept"
    assert routes.scopes[-1]["state"]["owner"] == "bob"


# -- paths and fields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/inference/v1/generate", "/v1/chat/completions/render", "/scale_elastic_ep", "/start_profile", "/collective_rpc"]
    + ["/v1/load_lora_adapter", "/abort_requests", "/generative_scoring", "/cohere/v2/chat", "/sleep", "/../v1/models"]
    + ["/v1/chat/completions/", "/V1/chat/completions", "//v1/chat/completions", "/v1/responses/a/b/c", "/nonsense\n"],
)
def test_paths_that_are_not_listed_are_closed_also_with_a_key(tmp_path, guard, routes, path):
    reply = ask(guard, path, body=CHAT)
    assert reply.status == 404
    assert reply.error["code"] == "path_off"
    assert routes.scopes == []
    assert ask(guard_with(tmp_path, allowed_paths=(path,)), path, body=CHAT).status == 200


def test_a_path_that_ends_with_a_star_opens_all_that_begin_so(tmp_path):
    guard = guard_with(tmp_path, allowed_paths=("/inference/*",))
    assert ask(guard, "/inference/v1/generate", body=CHAT).status == 200
    assert ask(guard, "/inference", body=CHAT).status == 404


def test_raw_prompts_have_a_switch(tmp_path, guard):
    raw = {"prompt": "Once upon"}
    assert ask(guard, "/v1/completions", body=raw).status == 200
    closed = guard_with(tmp_path, completions=False)
    assert ask(closed, "/v1/completions", body=raw).status == 403
    assert ask(closed, "/invocations", body=raw).status == 403
    assert ask(closed, "/invocations", body=CHAT).status == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_id", "mine"),
        ("priority", -1),
        ("kv_transfer_params", {"prompt_token_ids": [1, 2]}),
        ("ec_transfer_params", {}),
        ("vllm_xargs", {"kv_transfer_params": "x"}),
        ("prompt_embeds", "AAAA"),
        ("previous_input_messages", [{}]),
    ],
)
def test_fields_that_go_around_the_renderer_are_off_unless_asked_for(tmp_path, routes, guard, field, value):
    reply = ask(guard, body={**CHAT, field: value})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "field_off", field)
    assert routes.scopes == []
    assert ask(guard, body={**CHAT, field: None}).status == 200
    allowed = guard_with(tmp_path, routes, allowed_fields=(field,))
    assert ask(allowed, body={**CHAT, field: value}).status == 200
    assert routes.json[field] == value


def test_headers_that_say_the_same_as_a_closed_field_are_taken_off(tmp_path, routes, guard):
    headers = [(b"x-vllm-priority", b"-9"), (b"x-request-id", b"mine"), (b"x-session-id", b"kept")]
    reply = ask(guard, body=CHAT, headers=headers)
    seen = dict(routes.scopes[-1]["headers"])
    assert b"x-vllm-priority" not in seen
    assert seen[b"x-request-id"].decode() == reply.headers["x-request-id"] != "mine"
    assert seen[b"x-session-id"] == b"kept"
    ask(guard_with(tmp_path, routes, allowed_fields=("priority", "request_id")), body=CHAT, headers=headers)
    seen = dict(routes.scopes[-1]["headers"])
    assert (seen[b"x-vllm-priority"], seen[b"x-request-id"]) == (b"-9", b"mine")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "image_url", "image_url": "https://example.org/a.png"},
        {"type": "input_image", "image_url": "file:///etc/passwd"},
        {"type": "video_url", "video_url": {"url": " HTTP://example.org"}},
        {"type": "audio_url", "audio_url": {"url": "ftp://example.org"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    ],
)
def test_addresses_of_media_are_not_fetched_unless_allowed(tmp_path, guard, routes, part):
    body = {"messages": [{"role": "user", "content": [part]}]}
    reply = ask(guard, body=body)
    assert (reply.status, reply.error["code"]) == (400, "media_url_off")
    nested = {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [part]}]}]}
    assert ask(guard, "/v1/messages", body=nested).status == 400
    assert routes.scopes == []
    assert ask(guard_with(tmp_path, media_urls=True), body=body).status == 200


def test_media_in_the_request_itself_and_words_about_media_pass(guard):
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    tool = {
        "type": "function",
        "function": {"name": "show", "parameters": {"properties": {"image_url": {"type": "string"}}}},
    }
    said = {"role": "user", "content": "image_url: https://example.org"}
    body = {"messages": [said, {"role": "user", "content": [part]}], "tools": [tool]}
    assert ask(guard, body=body).status == 200


@pytest.mark.parametrize("kind", ["prompt_embeds", "image_embeds"])
def test_ready_embeddings_are_off(guard, kind):
    body = {"messages": [{"role": "user", "content": [{"type": kind, kind: "AAAA"}]}]}
    assert ask(guard, body=body).error["param"] == kind


def test_caps_hold_whatever_type_the_number_has(tmp_path):
    guard = guard_with(tmp_path, max_n=2, max_tokens=100, max_messages=3)
    for value in (3, "3", 3.0, True, 10**30):
        assert ask(guard, body={**CHAT, "n": value}).error["param"] == "n"
    for name in ("max_tokens", "max_completion_tokens"):
        assert ask(guard, body={**CHAT, name: 101}).error["param"] == name
    assert (
        ask(guard, "/v1/responses", body={"input": "x", "max_output_tokens": 101}).error["param"] == "max_output_tokens"
    )
    assert ask(guard, body={"messages": CHAT["messages"] * 4}).error["param"] == "messages"
    assert ask(guard, "/v1/chat/completions/batch", body={"messages": [CHAT["messages"] * 2] * 2}).status == 400
    assert ask(guard, "/v1/completions", body={"prompt": ["x"] * 4}).status == 400
    assert ask(guard, "/v1/completions", body={"prompt": [1, 2, 3, 4, 5]}).status == 200
    assert ask(guard, body={**CHAT, "n": 2, "max_tokens": 100}).status == 200


class Waiting(Routes):
    """Routes that answer when they are told to."""

    def __init__(self):
        super().__init__()
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["path"] != "/tokenize":
            await self.go_on.wait()
        await super().__call__(scope, receive, send)


async def send_to(guard, path="/v1/chat/completions", body=CHAT, *, key="alice-secret", **scope):
    """Send one request in this loop; return status and headers."""
    said = []
    text = json.dumps(body).encode()
    sent = [(b"authorization", f"Bearer {key}".encode()), (b"content-length", str(len(text)).encode())]
    request = {"type": "http", "method": "POST", "path": path, "root_path": "", "query_string": b"", "headers": sent}

    async def receive():
        return {"type": "http.request", "body": text, "more_body": False}

    async def send(message):
        said.append(message)

    await guard({**request, **scope}, receive, send)
    return said[0]["status"], dict(said[0]["headers"]), json.loads(said[1]["body"]) if said[0]["status"] > 400 else None


def test_there_are_so_many_places_for_all_and_fewer_for_one_owner(tmp_path):
    routes = Waiting()
    guard = guard_with(tmp_path, routes, max_requests=3, max_requests_per_owner=2)

    async def crowd():
        waiting = [asyncio.create_task(send_to(guard)) for _ in range(2)]
        await asyncio.sleep(0)
        status, headers, body = await send_to(guard)
        assert (status, headers[b"retry-after"], body["error"]["code"]) == (429, b"1", "rate_limit_exceeded")
        waiting.append(asyncio.create_task(send_to(guard, key="bob-secret")))
        await asyncio.sleep(0)
        status, headers, body = await send_to(guard, key="bob-secret")
        assert (status, headers[b"retry-after"], body["error"]["code"]) == (503, b"1", "server_busy")
        assert body["error"]["type"] == "server_error"
        assert (await send_to(guard, "/tokenize"))[0] == 200  # the engine has no work with it
        routes.go_on.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200, 200, 200]
        assert [(await send_to(guard, key="bob-secret"))[0] for _ in range(5)] == [200] * 5

    asyncio.run(crowd())
    assert REGISTRY.get_sample_value("vllm_deploy_requests_in_flight") == 0


def test_a_place_is_free_again_whatever_becomes_of_the_request(tmp_path):
    class Failing(Routes):
        async def __call__(self, scope, receive, send):
            raise RuntimeError("the route is broken")

    guard = guard_with(tmp_path, Failing(), max_requests=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            ask(guard, body=CHAT)
    assert ask(guard_with(tmp_path, max_requests=1), "/v1/completions", body=b"{").status == 400


def test_a_place_is_free_before_the_client_knows_the_end_of_its_answer(tmp_path):
    """A client that asks again as soon as it has its answer was refused, since its first request was still ending."""

    class Lingering(Routes):
        async def __call__(self, scope, receive, send):
            await super().__call__(scope, receive, send)
            await asyncio.sleep(3600)

    guard = guard_with(tmp_path, Lingering(), max_requests=1)

    async def ask_twice():
        first = asyncio.create_task(send_to(guard))
        await asyncio.sleep(0)
        second = asyncio.create_task(send_to(guard))
        await asyncio.sleep(0)
        assert not first.done()
        assert not second.done()  # not refused
        first.cancel()
        second.cancel()

    asyncio.run(ask_twice())


def test_an_answer_can_be_stopped_when_all_places_are_taken(tmp_path):
    routes = Waiting()
    guard = guard_with(tmp_path, routes, max_requests=1, allowed_paths=("/v1/chat/*",))

    async def crowd():
        waiting = asyncio.create_task(send_to(guard))
        await asyncio.sleep(0)
        asked = "/v1/chat/interactive", {"prompt": "Hi", "cancel": False}
        assert (await send_to(guard, *asked))[0] == 429
        stopping = asyncio.create_task(send_to(guard, "/v1/chat/interactive", {"prompt": "", "cancel": True}))
        await asyncio.sleep(0)
        routes.go_on.set()
        assert ((await stopping)[0], (await waiting)[0]) == (200, 200)

    asyncio.run(crowd())


def test_there_are_twice_as_many_places_as_the_engine_answers_at_once():
    config = SimpleNamespace(
        scheduler_config=SimpleNamespace(max_num_seqs=8),
        parallel_config=SimpleNamespace(data_parallel_size=2, _api_process_count=4),
    )
    assert num_seqs_of({"app": SimpleNamespace(state=SimpleNamespace(vllm_config=config))}) == 4
    assert num_seqs_of({"type": "http"}) == 256
    places = Places(GuardSettings(), 4)
    assert (places.max_requests, places.max_requests_per_owner) == (8, 6)
    assert Places(GuardSettings(max_requests=1)).max_requests_per_owner == 1


def test_a_503_of_vllm_says_when_to_come_again(tmp_path):
    async def busy(scope, receive, send):
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    assert ask(guard_with(tmp_path, busy), body=CHAT).headers["retry-after"] == "1"


def test_a_cap_on_tokens_holds_for_those_who_say_nothing(tmp_path, routes):
    guard = guard_with(tmp_path, routes, max_tokens=100)
    ask(guard, body=CHAT)
    assert routes.json["max_tokens"] == 100
    ask(guard, "/v1/responses", body={"input": "x"})
    assert routes.json["max_output_tokens"] == 100
    ask(guard_with(tmp_path, routes, max_tokens=100, allowed_paths=("/v1/chat/*",)), "/v1/chat/interactive", body={})
    assert routes.json == {"request_output_len": 100}
    ask(guard, body={**CHAT, "max_completion_tokens": 7})
    assert "max_tokens" not in routes.json


def test_the_prefix_cache_is_split_by_owner(guard, routes):
    def salt(key, **fields):
        ask(guard, body={**CHAT, **fields}, key=key)
        return routes.json["cache_salt"]

    alice, bob = salt("alice-secret"), salt("bob-secret")
    assert alice == salt("alice-secret")
    assert len({alice, bob, salt("alice-secret", cache_salt="mine"), salt("bob-secret", cache_salt="mine")}) == 4
    assert salt("bob-secret", cache_salt=alice) != alice
    assert routes.scopes[0]["state"]["cache_salt"] == alice
    for path in ("/v1/responses", "/v1/messages", "/v1/completions"):
        ask(guard, path, body={"input": "x", "prompt": "x"})
        assert routes.json["cache_salt"] == alice
    assert ask(guard, body={**CHAT, "cache_salt": ["x"]}).status == 400


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"n": 1, "n": 99}',
        b'{"messages": [{"role": "user", "role": "system"}]}',
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"[]",
        b'"text"',
        b"null",
        b"{",
        b"{} {}",
        b'{"a": ' * 5000 + b"1" + b"}" * 5000,
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"messages=hello",
    ],
)
def test_what_is_not_plain_json_is_refused(guard, routes, body):
    reply = ask(guard, body=body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")
    assert routes.scopes == []


def test_what_was_checked_is_what_is_forwarded(guard, routes):
    text = '{"messages": [{"role": "user", "content": "\\u4f60好 \\ud83d\\ude00"}],  "n" : 1}'
    body = text.encode()
    headers = [(b"content-length", str(len(body)).encode())]
    assert ask(guard, body=body, headers=headers).status == 200
    assert {**json.loads(text), "cache_salt": routes.json["cache_salt"]} == routes.json
    assert dict(routes.scopes[-1]["headers"])[b"content-length"] == str(len(routes.bodies[-1])).encode()


def test_a_long_body_is_refused_before_it_is_read(tmp_path, routes):
    guard = guard_with(tmp_path, routes, max_body_bytes=1000)
    reply = ask(guard, pieces=[b"x" * 500, b"x" * 500], headers=[(b"content-length", b"1001")])
    assert reply.status == 413
    assert reply.headers["connection"] == "close"
    assert routes.scopes == []


def test_a_body_that_is_longer_than_it_said_is_refused(tmp_path, routes):
    guard = guard_with(tmp_path, routes, max_body_bytes=1000)
    for headers in ([(b"content-length", b"10")], [(b"transfer-encoding", b"chunked")]):
        assert ask(guard, pieces=[b"x" * 400] * 3, headers=headers).status == 413
    assert routes.scopes == []


def test_a_body_that_does_not_arrive_is_given_up(tmp_path, routes):
    guard = guard_with(tmp_path, routes, max_body_s=0.05)
    reply = ask(guard, pieces=[b"{", None], headers=[(b"transfer-encoding", b"chunked")])
    assert (reply.status, routes.scopes) == (408, [])


def test_without_a_key_no_body_is_held(guard):
    reply = ask(guard, key="", pieces=[b"x" * 1000] * 5, headers=[(b"transfer-encoding", b"chunked")])
    assert reply.status == 401
    assert reply.headers["connection"] == "close"


def test_a_client_that_leaves_before_its_request_is_whole_costs_nothing(guard, routes):
    class Left(Exception):
        pass

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise Left

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "root_path": "", "query_string": b""}
    headers = [(b"authorization", b"Bearer alice-secret"), (b"content-length", b"10")]
    asyncio.run(guard({**scope, "headers": headers}, receive, send))
    assert routes.scopes == []


def test_a_length_that_is_said_twice_is_refused(guard, routes):
    for second in ((b"content-length", b"3"), (b"transfer-encoding", b"chunked")):
        reply = ask(guard, body=CHAT, headers=[(b"content-length", b"46"), second])
        assert (reply.status, reply.error["code"]) == (400, "bad_framing")
    assert routes.scopes == []


def test_news_that_the_client_has_left_reaches_the_routes(tmp_path):
    seen = []

    async def routes(scope, receive, send):
        seen.extend([(await receive())["type"], (await receive())["type"]])

    ask(guard_with(tmp_path, routes), body=CHAT)
    assert seen == ["http.request", "http.disconnect"]


def test_an_answer_is_passed_on_piece_by_piece(tmp_path):
    sent = []

    async def routes(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"1", b"2", b"3"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            assert sent[-1]["body"] == piece

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "root_path": "", "query_string": b""}
    guard = guard_with(tmp_path, routes)
    asyncio.run(guard({**scope, "headers": [(b"authorization", b"Bearer bob-secret")]}, receive, send))
    assert [message.get("body") for message in sent] == [None, b"1", b"2", b"3"]


# -- log, metrics, settings --------------------------------------------------------------------------------------------


def test_the_log_tells_who_asked_for_what_and_nothing_that_was_said(guard, caplog):
    caplog.set_level(logging.INFO)
    reply = ask(
        guard, body={"messages": [{"role": "user", "content": "a private word"}]}, query_string=b"key=alice-secret"
    )
    ask(guard, key="wrong-secret", path="/v1/models\nforged line", method="GET")
    ask(guard, "/health", method="GET", key="")
    lines = caplog.messages
    assert len(lines) == 2
    assert lines[0].startswith(f"{reply.headers['x-request-id']} POST /v1/chat/completions 200 owner=alice ")
    assert "\\n" in lines[1]
    assert "private" not in caplog.text
    assert "secret" not in caplog.text


def test_refusals_are_counted_by_reason(guard):
    def count(reason):
        return REGISTRY.get_sample_value("vllm_deploy_guard_rejections_total", {"reason": reason}) or 0

    before = {reason: count(reason) for reason in ("key", "path", "body_json")}
    ask(guard, key="wrong-secret")
    ask(guard, "/sleep")
    ask(guard, body=b"{")
    assert {reason: count(reason) - before[reason] for reason in before} == {"key": 1, "path": 1, "body_json": 1}


def test_settings_reach_the_processes_of_vllm_through_the_environment(monkeypatch):
    settings = GuardSettings(key_file="/keys", max_n=3, allowed_paths=("/sleep",), completions=False)
    monkeypatch.setenv(GuardSettings.variable, settings.to_json())
    assert GuardSettings.from_environment() == settings
    monkeypatch.setenv(GuardSettings.variable, '{"max_n": "many"}')
    with pytest.raises(ConfigError, match="max_n"):
        GuardSettings.from_environment()
    monkeypatch.delenv(GuardSettings.variable)
    assert GuardSettings.from_environment() == GuardSettings()


def test_the_paths_of_our_own_routes_are_open(tmp_path, routes):
    file = tmp_path / "keys"
    file.write_text("alice: alice-secret\n")
    guard = Guard(routes, GuardSettings(key_file=str(file)))
    assert ask(guard, "/v1/store/conversations", method="GET").status == 200
    assert ask(guard, "/v1/store/conversations/some-id", method="DELETE").status == 200
    assert ask(guard, "/v1/store/conversations", method="GET", key="").status == 401


def test_a_mounted_path_is_judged_as_the_router_sees_it(guard):
    assert ask(guard, "/api/v1/models", method="GET", root_path="/api").status == 200
    assert ask(guard, "/api/sleep", method="GET", root_path="/api").status == 404
    assert ask(guard, "/api/health", method="GET", root_path="/api", key="").status == 200
