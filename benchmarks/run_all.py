"""Run every benchmark of this folder, one after the other, and keep their last lines (JSON) in build/benchmarks.json.

make bench                            all of them
make bench ARGS="bench_store"         those whose name begins so
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
RESULTS = ROOT / "build" / "benchmarks.json"


def main(names: list[str]) -> int:
    scripts = sorted(path for path in FOLDER.glob("bench_*.py") if not names or path.stem.startswith(tuple(names)))
    results = {}
    failed = []
    for script in scripts:
        print(f"\n== {script.stem}", flush=True)
        process = subprocess.run([sys.executable, script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        print(process.stdout, flush=True)
        try:
            results[script.stem] = json.loads(process.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            failed.append(script.stem)
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    record = {"date": time.strftime("%Y-%m-%d"), **machine, "results": results}
    RESULTS.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{len(results)} done, {len(failed)} failed {' '.join(failed)}; kept in {RESULTS.relative_to(ROOT)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
