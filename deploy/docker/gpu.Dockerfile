# The server with vLLM for NVIDIA GPUs. From the repository's root:
#
#   docker build -f deploy/docker/gpu.Dockerfile -t vllm-deploy:gpu .
#   docker run --gpus all --ipc=host -p 9999:9999 -v /models:/workspace/models:ro -e MODEL_DIR=Qwen3-8B vllm-deploy:gpu
ARG BASE_URL=docker.io
FROM ${BASE_URL}/vllm/vllm-openai:v0.32.0

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl tini \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/vllm-deploy
# vLLM and PyTorch are in the base image at these very versions; only what this project adds is fetched.
COPY requirements.txt requirements-stack.txt requirements-web.txt ./
RUN python3 -m pip install --no-cache-dir -r requirements.txt -r requirements-stack.txt \
    && python3 -m pip install --no-cache-dir --no-deps -r requirements-web.txt
COPY . .
RUN python3 -m pip install --no-cache-dir --no-deps . \
    && useradd --uid 1000 --non-unique --create-home --shell /usr/sbin/nologin vllm \
    && install -d -o 1000 -g 1000 /workspace /workspace/models /workspace/data /workspace/logs

USER 1000
ENV USER=vllm PORT=9999 VLLM_NO_USAGE_STATS=1 PYTHONUNBUFFERED=1
VOLUME ["/workspace/models", "/workspace/data", "/workspace/logs"]
EXPOSE 9999
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=30m --start-interval=5s --interval=15s --timeout=10s --retries=4 \
    CMD ["bash", "-c", "curl --fail --silent --output /dev/null http://127.0.0.1:$PORT/health"]
ENTRYPOINT ["tini", "--", "/opt/vllm-deploy/deploy/docker/entrypoint.sh"]
