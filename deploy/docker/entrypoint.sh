#!/usr/bin/env bash
# What a container does: looks at what it was given, then becomes the server of one model.
#
#   MODEL_DIR            demo, an id on a hub, or a folder: absolute, or below MODEL_ABSOLUTE_ROOT
#   MODEL_ABSOLUTE_ROOT  where the models are mounted (/workspace/models)
#   MODEL_NAME           under which clients ask for it (MODEL_DIR)
#   CUDA_VISIBLE_DEVICES which GPUs; as many as it names share the model (TENSOR_PARALLEL_SIZE holds against it)
#   HOST, PORT           where to listen (0.0.0.0, 9999)
#   API_KEY_FILE         keys, one "owner: key" a line; made in the data folder if there is none
#   HF_TOKEN_PATH        a file with the token for gated models on Hugging Face (a secret, not a variable)
#   DATA_DIR, LOG_DIR    /workspace/data, /workspace/logs
#
# Words behind the image's name are options of serve or of vLLM's server: docker run IMAGE --max-model-len 8192
set -euo pipefail

die() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

: "${MODEL_DIR:=demo}" "${MODEL_ABSOLUTE_ROOT:=/workspace/models}"
: "${HOST:=0.0.0.0}" "${PORT:=9999}" "${DATA_DIR:=/workspace/data}" "${LOG_DIR:=/workspace/logs}"
: "${LOG_BYTES:=52428800}" "${LOG_BACKUPS:=5}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

check_writable() {
    mkdir -p "$1" 2>/dev/null && [ -w "$1" ] ||
        die "$1 cannot be written by user $(id -u)" "Give the volume to that user (chown $(id -u) on the host), or start as its owner: docker run --user."
}

# A link inside the model's folder keeps its meaning only if what it points to is mounted as well. Folders in Hugging
# Face's cache are such links: snapshots/REVISION/model.safetensors -> ../../blobs/SUM.
check_links() {
    local folder=$1 link
    [ ! -L "$folder" ] || [ -e "$folder" ] ||
        die "$folder is a link to $(readlink "$folder"), which is not in this container" \
            "A link must not lead out of what is mounted: mount the folder that it points to, or one that holds both."
    link=$(find -L "$folder" -type l -print -quit 2>/dev/null || true)
    [ -z "$link" ] ||
        die "$link is a link to $(readlink "$link"), which is not in this container" \
            "A link must not lead out of what is mounted: mount a folder that holds both (of a hub's cache the models--OWNER--NAME folder), or copy the model with cp -rL."
}

case $MODEL_DIR in
/*) folder=$MODEL_DIR ;;
*) folder=$MODEL_ABSOLUTE_ROOT/$MODEL_DIR ;;
esac
if [ -e "$folder" ] || [ -L "$folder" ]; then
    check_links "$folder"
elif [ "$folder" = "$MODEL_DIR" ]; then
    die "there is no folder $MODEL_DIR in this container" "Mount it: -v /on/the/host:$MODEL_DIR:ro"
fi
check_writable "$DATA_DIR"
check_writable "$LOG_DIR"

export MODEL_DIR MODEL_ABSOLUTE_ROOT HOST PORT DATA_DIR
export MODEL_NAME=${MODEL_NAME:-$MODEL_DIR}
export VERBOSE=1 # vLLM's log comes out here
export HF_HOME=${HF_HOME:-$DATA_DIR/huggingface} MODELSCOPE_CACHE=${MODELSCOPE_CACHE:-$DATA_DIR/modelscope}
# What vLLM and PyTorch compile at the first start is found again at the next.
export VLLM_CACHE_ROOT=${VLLM_CACHE_ROOT:-$DATA_DIR/cache/vllm}
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$DATA_DIR/cache/inductor}
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$DATA_DIR/cache/triton}
export XDG_CONFIG_HOME=${XDG_CONFIG_HOME:-$DATA_DIR/config} # where the keys are made if none are given
if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
    commas=${CUDA_VISIBLE_DEVICES//[^,]/}
    export TENSOR_PARALLEL_SIZE=${TENSOR_PARALLEL_SIZE:-$((${#commas} + 1))}
fi

# The server's output goes to the container's log and, rotated, to a file; the server itself gets the signals.
exec > >(exec python3 "$here/rotate_log.py" "$LOG_DIR/server.log" "$LOG_BYTES" "$LOG_BACKUPS") 2>&1
exec python3 -m vllm_deploy serve "$@"
