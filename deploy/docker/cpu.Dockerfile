# The server with vLLM for CPU: for machines without a GPU, and to try things out. From the repository's root:
#
#   docker build -f deploy/docker/cpu.Dockerfile -t vllm-deploy:cpu .
#   docker run --shm-size 1g -p 9999:9999 vllm-deploy:cpu
ARG BASE_URL=docker.io
FROM ${BASE_URL}/library/python:3.11-slim-bookworm AS builder

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /opt/vllm-deploy
COPY . .
# The same installation as everywhere, in the place where it will be used; the image runs no tests.
RUN : >requirements-dev.txt \
    && deploy/install.sh /opt/venv cpu python3 "stack web" \
    && rm -rf ~/.cache

FROM ${BASE_URL}/library/python:3.11-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl g++ libnuma1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --shell /usr/sbin/nologin vllm \
    && install -d -o 1000 -g 1000 /workspace /workspace/models /workspace/data /workspace/logs

COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/vllm-deploy /opt/vllm-deploy
WORKDIR /opt/vllm-deploy

USER 1000
ENV PATH=/opt/venv/bin:$PATH USER=vllm PORT=9999 VLLM_NO_USAGE_STATS=1 PYTHONUNBUFFERED=1
VOLUME ["/workspace/models", "/workspace/data", "/workspace/logs"]
EXPOSE 9999
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=30m --start-interval=5s --interval=15s --timeout=10s --retries=4 \
    CMD ["bash", "-c", "curl --fail --silent --output /dev/null http://127.0.0.1:$PORT/health"]
ENTRYPOINT ["tini", "--", "/opt/vllm-deploy/deploy/docker/entrypoint.sh"]
