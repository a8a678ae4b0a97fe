#!/usr/bin/env bash
# Print how many requests wait and how many run, for a platform that scales by a number:
#
#   OPENAI_API_KEY=... deploy/serverless/queue_depth.sh http://127.0.0.1:9999
#   {"waiting": 0, "running": 2}
set -euo pipefail
curl --fail --silent --show-error --max-time 10 \
    --config <(printf 'header = "Authorization: Bearer %s"\n' "${OPENAI_API_KEY:-}") "${1:?the server, such as http://127.0.0.1:9999}/metrics" |
    awk '/^vllm:num_requests_waiting\{/ {waiting += $NF} /^vllm:num_requests_running\{/ {running += $NF}
         END {printf "{\"waiting\": %d, \"running\": %d}\n", waiting, running}'
