#!/usr/bin/env bash
# What a serverless container does: brings the caches of its last life back, starts the server, says when it is ready.
#
#   CACHE_VOLUME   a folder that outlives the container (compiled code of vLLM, PyTorch and Triton); none: compiled anew
#   READY_FILE     appears once requests are answered, for platforms that look at a file instead of /ping
#   API_KEYS       keys, one "owner: key" a line, where the platform has variables only; better: API_KEY_FILE
#
# Everything else is as in deploy/docker/entrypoint.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

export DATA_DIR=${DATA_DIR:-/workspace/data} PORT=${PORT:-9999}
if [ -n "${CACHE_VOLUME:-}" ]; then
    export VLLM_CACHE_ROOT=$CACHE_VOLUME/vllm TORCHINDUCTOR_CACHE_DIR=$CACHE_VOLUME/inductor TRITON_CACHE_DIR=$CACHE_VOLUME/triton
fi
if [ -n "${API_KEYS:-}" ] && [ -z "${API_KEY_FILE:-}" ]; then
    export API_KEY_FILE=/tmp/api-keys
    (umask 077 && printf '%s\n' "$API_KEYS" >"$API_KEY_FILE")
fi
unset API_KEYS # the server and its children need not know it

if [ -n "${READY_FILE:-}" ]; then
    rm -f "$READY_FILE"
    (
        until curl --fail --silent --output /dev/null --max-time 5 "http://127.0.0.1:$PORT/ping"; do
            kill -0 $$ 2>/dev/null || exit 0
            sleep 0.5
        done
        : >"$READY_FILE"
    ) &
fi
exec "$here/../docker/entrypoint.sh" "$@"
