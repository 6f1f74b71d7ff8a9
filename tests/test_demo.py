"""The demo as a newcomer runs it, whole, and its report in a real browser. Minutes long.

Where a fresh `make demo` has just been run (`.ci/run`), SYNTHREC_DEMO_LOG names what it said, and it is not run again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CALLED_WITH, TEST_KEY
from grep_run import grep
from PIL import Image

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
LOG = os.environ.get("SYNTHREC_DEMO_LOG")
NOISE = re.compile(r"warning|deprecat|\(pid=|raylet|INFO|Traceback|it/s\]|HF_|Loading weights", re.IGNORECASE)


def demo(folder: Path) -> str:
    # What an earlier demo made is its key's: another key would be another shop's.
    environment = CALLED_WITH if LOG else CALLED_WITH | {"SYNTHREC_PRIVACY_KEY": TEST_KEY}
    environment = {k: v for k, v in environment.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "synthrec.cli", "demo", "--run-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return ROOT / "runs" / "store" if LOG else tmp_path_factory.mktemp("demo") / "run"


@pytest.fixture(scope="module")
def first(run_dir):
    return Path(LOG).read_text(encoding="utf-8") if LOG else demo(run_dir)


def test_it_shows_progress_a_table_and_hits_and_no_framework_noise(first, run_dir):
    for words in (
        "queries: 780 rows in",
        "ETA",
        "% accepted",
        "tokens/s",
        "steps",
        "BM25 + fine-tuned",
        "against BM25:",
    ):
        assert words in first
    assert not [line for line in first.splitlines() if NOISE.search(line)]
    for query in ("keep soup hot on a long hike", "猫咪喝水的机器"):
        assert len(re.findall(r"^    \d\. ", first.split(query)[1].split("\n\n")[0], re.MULTILINE)) >= 5
    (report,) = re.findall(r"^report: (.+)$", first, re.MULTILINE)
    assert ROOT / report == run_dir / "report.html"
    assert "curl -s http://127.0.0.1:8000/v1/search" in first


def test_what_it_learnt_beats_keyword_search(first, run_dir):
    test = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))["evaluation"]["test"]
    mean = {name: found["ndcg@10"]["mean"] for name, found in test["systems"].items()}
    assert test["queries"] == 80
    assert mean["fine-tuned encoder"] > mean["zero-shot encoder"]
    assert mean["BM25 + fine-tuned"] > mean["BM25"]


def test_no_planted_item_stands_in_any_file(first, run_dir):
    key = (ROOT / "examples" / "store" / "pii_key.jsonl").read_text(encoding="utf-8").splitlines()
    stand_ins = {"<ADDRESS_", "<PHONE_", "<ORDER_NO_"}
    assert grep(run_dir, stand_ins).keys() == stand_ins
    assert grep(run_dir, [json.loads(line)["value"] for line in key]) == {}


def test_the_second_time_nothing_is_redone(first, run_dir):
    again = demo(run_dir)
    for stage in ("prepare", "synthesize", "curate", "train", "evaluate", "package"):
        assert f"{stage} is up to date" in again
    assert "rows in" not in again


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
@pytest.mark.parametrize("width", [1000, 420])
def test_a_browser_shows_the_report(first, run_dir, tmp_path, width):
    page, shot = run_dir / "report.html", tmp_path / "report.png"
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=5000"
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path}/profile", f"--window-size={width},2400"]
    # The page's own width, told by a script put into a copy: a page wider than its window is one to scroll sideways.
    measured = tmp_path / "measured.html"
    script = "<script>document.title = 'width ' + document.documentElement.scrollWidth</script></body>"
    measured.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    dom = subprocess.run(
        [*command, "--dump-dom", measured.as_uri()], capture_output=True, text=True, timeout=120
    ).stdout
    subprocess.run([*command, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True, timeout=120)
    assert "BM25 + fine-tuned" in dom
    found = re.search(r"<title>width (\d+)</title>", dom)
    assert found
    assert int(found[1]) <= max(width, 500)  # Chromium's windows are 500 wide at least
    with Image.open(shot) as image:
        assert image.width >= width
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 200  # text, tables and pictures, not a blank page
