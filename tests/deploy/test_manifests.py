"""Compose, Kubernetes, supervisor and systemd files: valid by their schemas, and of one mind with the stack's own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chat.stack.front import Upstreams, nginx_config
from chat.stack.plan import ROUTER_TUNING
from chat.stack.presets import PRESETS
from tests.program import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = [DEPLOY / "compose" / "compose.yaml", DEPLOY / "serverless" / "compose.yaml"]
KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = sorted(file for file in KUBERNETES.rglob("*.yaml") if file.name != "kustomization.yaml")
OVERLAYS = ["base", "overlays/cpu", "overlays/full"]
INSIDE = Path("/tmp")

FRONTS = {
    "compose/nginx.conf.template": Upstreams(
        llm=("llm:9999", "${LLM_2_ADDRESS}"),
        router="${ROUTER_ADDRESS}",
        router_health="${ROUTER_HEALTH}",
        embedding="embedding:9999",
        rerank="rerank:9999",
        web="${WEB_ADDRESS}",
    ),
    "kubernetes/base/nginx.conf": Upstreams(llm=("llm:9999",), router="router:9999"),
    "kubernetes/overlays/full/nginx.conf": Upstreams(
        llm=("llm:9999",), router="router:9999", embedding="embedding:9999", rerank="rerank:9999"
    ),
}


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def strings(value):
    """Yield every text in a document."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, str):
        yield value
    elif not isinstance(value, (int, float, bool, type(None))):
        for item in value:
            yield from strings(item)


@pytest.mark.parametrize("name", FRONTS)
def test_the_front_is_configured_as_the_stack_does_it(name):
    """After a change of chat/stack/front.py: write these files anew from ``nginx_config``."""
    assert (DEPLOY / name).read_text() == nginx_config(FRONTS[name], listen="8080", folder=INSIDE)


@pytest.mark.parametrize("file", [COMPOSE[0], KUBERNETES / "base" / "router.yaml"], ids=["compose", "kubernetes"])
def test_the_router_is_tuned_as_the_stack_does_it(file):
    assert set(ROUTER_TUNING) <= set(strings(documents(file.read_text())))


@pytest.mark.parametrize(
    "file", [COMPOSE[0], KUBERNETES / "overlays" / "full" / "rerank.yaml"], ids=["compose", "kubernetes"]
)
def test_the_reranker_is_told_what_its_preset_says(file):
    words = set(strings(documents(file.read_text())))
    preset = PRESETS["qwen3-reranker"].arguments
    (overrides,) = {
        word for word in words if word.startswith("--hf-overrides") and "Reranker" not in word and "no" in word
    }
    assert yaml.safe_load(overrides.removeprefix("--hf-overrides=")) == preset["hf-overrides"]
    assert f"--runner={preset['runner']}" in words
    (template,) = {word for word in words if word.startswith("--chat-template=")}
    inside = Path(template.removeprefix("--chat-template="))
    assert (ROOT / inside.relative_to("/opt/vllm-deploy")) == Path(preset["chat-template"])


# -- compose ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", COMPOSE, ids=["stack", "serverless"])
def test_compose_files_are_valid(file):
    pytest.importorskip("check_jsonschema", reason='make install EXTRAS="deploy"')
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout


def test_every_variable_of_the_compose_file_has_a_value_without_being_set():
    for file in COMPOSE[:1]:
        text = file.read_text()
        assert not re.findall(r"(?<!\$)\$\{\w+\}", text), "a variable without :- would become an empty text"


def test_the_example_of_settings_says_what_holds_without_it():
    text = COMPOSE[0].read_text()
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    rows = (DEPLOY / "compose" / "example.env").read_text().splitlines()
    example = dict(row.split("=", 1) for row in rows if row and not row.startswith("#"))
    assert example == {name: defaults[name] for name in example}


def test_only_the_front_can_be_reached_from_outside():
    services = yaml.safe_load(COMPOSE[0].read_text())["services"]
    assert [name for name, service in services.items() if service.get("ports")] == ["front"]


def test_all_images_of_others_are_pinned():
    images = [word for file in [*COMPOSE, *MANIFESTS] for word in re.findall(r"image: (.+)", file.read_text())]
    for image in images:
        if "vllm-deploy" not in image:
            assert re.search(r":\d+\.\d+\.\d+", image), image


# -- Kubernetes -------------------------------------------------------------------------------------------------------


def validate(document):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason='make install EXTRAS="deploy"')
    kubernetes_validate.validate(document, "1.34", strict=True)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: str(file.relative_to(KUBERNETES)))
def test_manifests_are_valid(file):
    for document in documents(file.read_text()):
        validate(document)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_can_be_put_together(overlay):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    result = subprocess.run(
        [kubectl, "kustomize", KUBERNETES / overlay], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    made = documents(result.stdout)
    for document in made:
        validate(document)
        assert document["metadata"].get("namespace") == "vllm-deploy"
    deployments = {document["metadata"]["name"] for document in made if document["kind"] == "Deployment"}
    assert deployments == {"llm", "router", "front"} | ({"embedding", "rerank"} if overlay.endswith("full") else set())
    if overlay.endswith("cpu"):
        assert "nvidia.com/gpu" not in result.stdout
        assert "HorizontalPodAutoscaler" not in result.stdout


def deployments():
    found = [document for file in MANIFESTS for document in documents(file.read_text())]
    return {document["metadata"]["name"]: document for document in found if document["kind"] == "Deployment"}


@pytest.mark.parametrize("name", ["llm", "embedding", "rerank"])
def test_a_server_has_time_for_its_running_answers(name):
    pod = deployments()[name]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    variables = {row["name"]: row.get("value") for row in server["env"]}
    before_s = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= before_s + int(variables["SHUTDOWN_TIMEOUT"]) + 15
    assert {server[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "/health"
    }


def test_nobody_runs_as_root():
    for name, deployment in deployments().items():
        assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"], name


def test_only_the_front_may_ask_the_router_and_only_these_two_the_servers():
    found = documents((KUBERNETES / "base" / "network.yaml").read_text())
    allowed = {
        policy["metadata"]["name"]: [
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
            for rule in policy["spec"]["ingress"]
            for peer in rule["from"]
            if "namespaceSelector" not in peer
        ]
        for policy in found
    }
    assert allowed == {"router": ["front"], "llm": ["front", "router"]}


# -- supervisor and systemd -------------------------------------------------------------------------------------------


def test_supervisor_reads_its_file(tmp_path):
    pytest.importorskip("supervisor")
    from supervisor.options import ServerOptions

    text = (DEPLOY / "supervisor" / "vllm-deploy.conf").read_text()
    text = text.replace("user=vllm\n", "").replace("/var/log/vllm-deploy", str(tmp_path))
    file = tmp_path / "supervisord.conf"
    file.write_text(f"[supervisord]\n{text.replace('directory=/opt/vllm-deploy', f'directory={tmp_path}')}")
    options = ServerOptions()
    options.realize(args=["-c", str(file)])
    (program,) = options.process_group_configs[0].process_configs
    assert program.environment["VERBOSE"] == "1"
    assert program.killasgroup
    assert not program.stopasgroup  # else running answers would be cut off


@pytest.mark.parametrize("name", ["vllm-deploy", "vllm-deploy-stack"])
def test_systemd_finds_no_fault(name, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    text = (DEPLOY / "systemd" / f"{name}.service").read_text()
    file = tmp_path / f"{name}.service"
    file.write_text(text.replace("/opt/vllm-deploy/.venv/bin/python", sys.executable))
    result = subprocess.run([analyze, "verify", file], capture_output=True, text=True, check=False, timeout=60)
    assert f"{name}.service:" not in result.stderr, result.stderr


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("*.sh")), ids=lambda file: str(file.relative_to(DEPLOY)))
def test_shell_scripts_can_be_read_and_run(file):
    assert file.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", file], check=True, timeout=30)
