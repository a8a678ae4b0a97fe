"""``/openapi.json``: a client that is generated from it compiles and works, and the routes keep what it promises."""

from __future__ import annotations

import compileall
import importlib
import json
import subprocess
import sys

import pytest

from tests.chat.server.clients import http_of

OURS = r"^/v1/(conversations|chat/interactive|encode|store|responses/)"
# What schemathesis holds against us without our being wrong: strings that look like ids and name nothing are 404;
# methods that a path has not are answered by the guard or by FastAPI itself.
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance"


@pytest.fixture(scope="module")
def description(server, tmp_path_factory):
    with http_of(server) as http:
        text = http.get("/openapi.json").text
    file = tmp_path_factory.mktemp("description") / "openapi.json"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def generated(description):
    """The generated package, and what the generator said."""
    folder = description.parent / "generated_client"
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    done = subprocess.run(
        [*command, "--path", str(description), "--output-path", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder.parent))
    yield folder, done.stdout + done.stderr
    sys.path.remove(str(folder.parent))


def test_a_generated_client_holds_every_route_and_compiles(generated, description):
    folder, said = generated
    assert "will not be generated" not in said, said
    assert "will be omitted" not in said, said
    assert compileall.compile_dir(folder, quiet=2, workers=1)
    names = {file.stem for file in folder.glob("api/*/*.py")}
    described = json.loads(description.read_text())["paths"]
    ours = [path for path in described if path.startswith(("/v1/conversations", "/v1/responses", "/v1/chat/inter"))]
    assert len(ours) >= 8
    assert {"create_response_v1_responses_post", "chat_interactive_v1_chat_interactive_post"} <= names


def test_a_generated_client_works(generated, server):
    def module(name):
        return importlib.import_module(f"generated_client.{name}")

    models = module("models")
    with module("client").AuthenticatedClient(base_url=server.url, token=server.keys["local"], timeout=60) as client:
        request = models.InteractiveRequest(prompt="My name is Zorvan.", interactive_mode=True, temperature=0.0)
        reply = module("api.interactive.chat_interactive_v1_chat_interactive_post").sync(client=client, body=request)
        assert reply.session_id > 0
        assert reply.text
        create = module("api.conversations.create_conversation_v1_conversations_post")
        made = create.sync(client=client, body=models.CreateConversationRequest())
        listed = module("api.conversations.list_conversations_v1_conversations_get").sync(client=client, limit=1)
        assert listed.data[0].id == made.id
        retrieve = module("api.conversations.retrieve_conversation_v1_conversations_conversation_id_get")
        missing = retrieve.sync(client=client, conversation_id="conv_" + "0" * 24)
        assert missing.error.type_ == "invalid_request_error"


def test_our_routes_keep_what_the_description_promises(description, server):
    """Made-up requests, good and bad ones: no reply but those that are described, and never a 5xx."""
    header = f"Authorization: Bearer {server.keys['bob']}"
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(description), "--url", server.url, "-H", header]
    command += ["--include-path-regex", OURS, "--checks", CHECKS, "--phases", "examples,coverage,fuzzing"]
    command += ["-n", "4", "--seed", "1", "--no-shrink", "--suppress-health-check", "all", "--warnings", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=description.parent)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
