#!/usr/bin/env bash
# One model over several machines, by vLLM's own processes. The same line on every machine, with its own NODE_RANK; the
# model must lie in the same place on all of them.
#
#   MASTER_ADDR=10.0.0.1 NODE_RANK=0 NNODES=2 deploy/multi-node/mp.sh --model Qwen/Qwen3-235B-A22B
#   MASTER_ADDR=10.0.0.1 NODE_RANK=1 NNODES=2 deploy/multi-node/mp.sh --model Qwen/Qwen3-235B-A22B
#
#   GPUS_PER_NODE   8: each layer is split over the GPUs of one machine, the layers over the machines
#   INTERFACE       the network card between them; found by the system if left out
#
# Machine 0 answers requests, on HOST and PORT; the others only compute. If one ends, end all and start again.
set -euo pipefail
: "${MASTER_ADDR:?the address of machine 0, as the others reach it}" "${NODE_RANK:?0, 1, ...}" "${NNODES:?how many machines}"
: "${GPUS_PER_NODE:=8}" "${MASTER_PORT:=29501}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ -n "${INTERFACE:-}" ]; then
    export GLOO_SOCKET_IFNAME=$INTERFACE NCCL_SOCKET_IFNAME=$INTERFACE TP_SOCKET_IFNAME=$INTERFACE
fi
options=(--nnodes "$NNODES" --node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT"
    --tensor-parallel-size "${TENSOR_PARALLEL_SIZE:-$GPUS_PER_NODE}"
    --pipeline-parallel-size "${PIPELINE_PARALLEL_SIZE:-$NNODES}"
    --distributed-executor-backend mp)
[ "$NODE_RANK" = 0 ] || options+=(--headless)
exec "${PYTHON:-python3}" vllm_deploy.py serve "$@" "${options[@]}"
