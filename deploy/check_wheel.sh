#!/usr/bin/env bash
# Build the wheel, install it into an empty environment, and try what a user of the package relies on: the command, the entry
# points by which vLLM finds us, the embedded model, and that nothing was left out.
#
#   deploy/check_wheel.sh [PYTHON]      PYTHON: of an environment with vLLM and build; .venv/bin/python if left out
#
# The new environment sees PYTHON's packages but not this folder. Prints what it checks; the first thing that fails ends it.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-.venv/bin/python}
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%s\n' "$*"; }

# Built from a copy of what git knows, so that files that lie about here cannot help.
mkdir "$work/source" "$work/dist"
git ls-files -z -- '*.py' '*.toml' '*.md' LICENSE chat chatcore |
    tar --create --null --files-from=- --ignore-failed-read 2>/dev/null | tar --extract --directory "$work/source"
"$python" -m build --wheel --no-isolation --outdir "$work/dist" "$work/source" >"$work/build.log" 2>&1 || {
    tail -n 20 "$work/build.log" >&2
    exit 1
}
wheel=$(echo "$work"/dist/*.whl)
say "built $(basename "$wheel"), $(du -h "$wheel" | cut -f1)"

"$python" -m zipfile --list "$wheel" | awk '{print $1}' | sort >"$work/in_wheel"
git ls-files -- chat chatcore '*.py' | grep -v '^\(tests\|benchmarks\|examples\|docs\|demo_model\|deploy\|conftest\.py\)' |
    sort | comm -23 - "$work/in_wheel" >"$work/left_out"
if [ -s "$work/left_out" ]; then
    say "left out of the wheel:" >&2
    cat "$work/left_out" >&2
    exit 1
fi
say "nothing is left out"

"$python" -m venv --without-pip "$work/env"
packages=$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$packages/borrowed.pth"
"$python" -m pip --disable-pip-version-check --python "$work/env/bin/python" \
    install --quiet --no-deps --no-index --ignore-installed "$wheel"
cd "$work/env"

version=$(bin/vllm-deploy --version)
say "command: $version"
bin/python - <<'PYTHON'
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

here = Path(sys.prefix).resolve()
found = {}
for group in ("vllm.general_plugins", "vllm.endpoint_plugins"):
    for point in importlib.metadata.entry_points(group=group):
        if point.dist is not None and point.dist.name == "vllm-deploy":
            spec = importlib.util.find_spec(point.value.partition(":")[0])
            assert spec is not None and spec.origin is not None, f"{point.value} is not in the wheel"
            assert Path(spec.origin).resolve().is_relative_to(here), f"{point.value} does not come from the wheel"
            found[point.name] = point.value
assert "chatml" in found, found
print(f"entry points: {found}")

from chatcore.models import hub

folder = hub.resolve_model("demo")
assert folder.is_relative_to(here), folder
print(f"embedded model: {sum(file.stat().st_size for file in folder.iterdir()) / 2**20:.1f} MiB, complete")
PYTHON
bin/vllm-deploy models | grep -q '^demo ' && say "models lists the embedded model"
bin/vllm-deploy completion bash | bash -n && say "completion prints a script that bash reads"
say "all is well"
