"""Run every benchmark of this folder, one after the other; the figures of each are kept in results/, as JSON.

make bench                            all of them
make bench ARGS="bench_store"         those whose name begins so
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
sys.path.insert(0, str(ROOT))

from benchmarks.report import keep, record  # noqa: E402


def main(names: list[str]) -> int:
    scripts = sorted(path for path in FOLDER.glob("bench_*.py") if not names or path.stem.startswith(tuple(names)))
    failed = []
    for script in scripts:
        print(f"\n== {script.stem}", flush=True)
        process = subprocess.run([sys.executable, script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        print(process.stdout, flush=True)
        try:
            figures = json.loads(process.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            failed.append(script.stem)
            continue
        if "benchmark" not in figures:  # the script leaves it to us to keep them
            keep(record(script.stem, figures))
    print(f"\n{len(scripts) - len(failed)} done, {len(failed)} failed {' '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
