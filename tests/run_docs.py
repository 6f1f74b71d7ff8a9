"""Run every ```bash block of the documentation, in order, one shell a file: what the documents show must work.

Blocks of another kind (```console, ```yaml) are not run: they need an account, a GPU, or hours.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    ran = 0
    for file in files:
        blocks = BLOCK.findall(file.read_text(encoding="utf-8"))
        if not blocks:
            continue
        name = file.relative_to(ROOT)
        print(f"== {name}: {len(blocks)} blocks", flush=True)
        script = "set -euxo pipefail\n" + "\n".join(blocks)
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, stdin=subprocess.DEVNULL)
        if done.returncode:
            print(f"{name}: a command failed with {done.returncode}: the last one shown above", file=sys.stderr)
            return 1
        ran += len(blocks)
    print(f"{ran} passed, 0 failed" if ran else "0 passed, 1 failed: no block was found")
    return 0 if ran else 1


if __name__ == "__main__":
    sys.exit(main())
