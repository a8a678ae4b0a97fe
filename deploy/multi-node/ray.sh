#!/usr/bin/env bash
# One model over several machines, by Ray: for clusters that have Ray already. The same vLLM and the same model in the
# same place on all of them, and Ray beside vLLM (pip install "ray[cgraph]").
#
#   HEAD_ADDR=10.0.0.1 NNODES=2 deploy/multi-node/ray.sh head --model Qwen/Qwen3-235B-A22B
#   HEAD_ADDR=10.0.0.1 deploy/multi-node/ray.sh worker                      (on each of the others)
#
# The head waits for the others, then answers requests on HOST and PORT.
set -euo pipefail
: "${HEAD_ADDR:?the address of the head, as the others reach it}" "${RAY_PORT:=6379}" "${GPUS_PER_NODE:=8}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
role=${1:?head or worker}
shift
case $role in
worker)
    exec ray start --block --address "$HEAD_ADDR:$RAY_PORT" --num-gpus "$GPUS_PER_NODE"
    ;;
head)
    : "${NNODES:?how many machines, this one included}"
    ray start --head --node-ip-address "$HEAD_ADDR" --port "$RAY_PORT" --num-gpus "$GPUS_PER_NODE" --include-dashboard false
    trap 'ray stop' EXIT
    until [ "$(ray list nodes --filter state=ALIVE --format json | "${PYTHON:-python3}" -c 'import json, sys; print(len(json.load(sys.stdin)))')" -ge "$NNODES" ]; do
        echo "waiting for $NNODES machines" >&2
        sleep 5
    done
    "${PYTHON:-python3}" vllm_deploy.py serve "$@" --distributed-executor-backend ray \
        --tensor-parallel-size "${TENSOR_PARALLEL_SIZE:-$GPUS_PER_NODE}" \
        --pipeline-parallel-size "${PIPELINE_PARALLEL_SIZE:-$NNODES}"
    ;;
*)
    echo "error: $role is neither head nor worker" >&2
    exit 2
    ;;
esac
