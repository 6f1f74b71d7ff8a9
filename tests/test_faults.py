"""Processes killed while they work, in real runs of the command line with a Ray of their own: what is done is kept, and
the same command goes on to the result of a run that nobody disturbed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from benchmarks.marked import marked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MARK = "SYNTHREC_TEST_RUN"  # an environment variable: every process of a run inherits it, and is known by it
KEY = "a key for these runs, and for nothing else"
PATIENCE = 900  # seconds: these runs share few cores with whatever else goes on
TASKS = ("queries", "relevance", "sentiment")


class Run:
    """A run directory, and the commands that work on it."""

    def __init__(self, folder, config):
        self.folder, self.config = folder, config

    def start(self, verb):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST"))}
        env |= {"SYNTHREC_PRIVACY_KEY": KEY, MARK: str(self.folder)}
        command = [sys.executable, "-m", "synthrec.cli", verb, "-c", str(self.config), "-s", f"run_dir={self.folder}"]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)

    @property
    def log(self):
        return self.folder.with_suffix(".log")

    def said(self):
        return self.log.read_text(encoding="utf-8")

    def watch(self, process, look, until=None):
        """Call `look` again and again, till it gives what `until` wants, or else till the process ends well."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            over = process.poll() is not None
            seen = look()
            if until is not None and until(seen):
                return
            if over:
                assert until is None, f"ended before it could be killed\n{self.said()}"
                assert process.returncode == 0, self.said()
                return
            time.sleep(0.02)
        raise AssertionError(f"not done in {PATIENCE} s\n{self.said()}")

    def finish(self, verb):
        self.watch(self.start(verb), lambda: None)

    def processes(self):
        """All processes of this run, orphans too."""
        return marked(MARK, str(self.folder))

    def kill_everything(self):
        """As when the machine stops: the driver, its Ray and all workers at once."""
        while left := self.processes():
            for process in left:
                process.kill()
            psutil.wait_procs(left, 10)

    def manifest(self, stage):
        path = self.folder / stage / "manifest.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def published(self, stage):
        return self.folder / stage / self.manifest(stage)["fingerprint"]

    def answers(self):
        """Completed batches, each with what would change if it was written again."""
        files = (self.folder / "synthesize" / "completions").glob("*/*/[!.]*.parquet")
        return {str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}

    def checkpoints(self):
        """Names of the checkpoints that Ray Train can go on from."""
        for path in (self.folder / "train" / "work").glob("*/bi_encoder/checkpoint_manager_snapshot.json"):
            try:
                return [one["checkpoint_dir_name"] for one in json.loads(path.read_text())["checkpoint_results"]]
            except (ValueError, FileNotFoundError):  # it is being written, or deleted at the end
                continue
        return []

    def first_checkpoint(self):
        """When the checkpoint of the first epoch was written; None when it is not there."""
        for path in (self.folder / "train" / "work").glob("*/bi_encoder/epoch-0000/state.pt"):
            try:
                return path.stat().st_mtime_ns
            except FileNotFoundError:  # deleted meanwhile: later ones are enough
                continue
        return None


@pytest.fixture(scope="module")
def config(store, tmp_path_factory):
    """A dozen products, half of them Chinese, and a dozen reviews."""
    folder = tmp_path_factory.mktemp("shop")
    files = {"products": folder / "products.jsonl", "reviews": folder / "reviews.csv"}
    rows = (store / "products.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    by_language = [[row for row in rows if json.loads(row)["language"] == tongue][:6] for tongue in ("en", "zh")]
    files["products"].write_text("".join(row for some in by_language for row in some), encoding="utf-8")
    reviews = (store / "reviews.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    files["reviews"].write_text("".join(reviews[:13]), encoding="utf-8")
    settings = {
        "name": "faults",
        "run_dir": str(folder / "run"),
        "sources": {kind: {"path": str(path)} for kind, path in files.items()},
        "synthesize": {
            "engine": {"resources": {"actors": [2, 2], "cpus": 0.5, "batch_size": 8, "threads": 1}},
            "tasks": {"queries": {"per_product": 2}, "relevance": {"max_queries": 6}, "sentiment": {}},
        },
        "train": {"epochs": 3, "batch_size": 8, "workers": 2, "models": []},
    }
    path = folder / "faults.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The run that nobody disturbs."""
    run = Run(tmp_path_factory.mktemp("whole") / "run", config)
    try:
        for verb in ("prepare", "synthesize", "curate", "train"):
            run.finish(verb)
        yield run
    finally:
        run.kill_everything()


@pytest.fixture
def begun(whole, tmp_path):
    """`begun("prepare", ...)`: a run that has come so far, as `of` has. What is left of it at the end is killed."""
    run = Run(tmp_path / "run", whole.config)

    def copy(*stages, of=whole):
        for stage in stages:
            shutil.copytree(of.folder / stage, run.folder / stage)
        return run

    yield copy
    run.kill_everything()


def rows(folder, pattern):
    return [row for path in sorted(folder.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def ids(files):
    return [one for path in files for one in pq.read_table(path, columns=["id"])["id"].to_pylist()]


def answered(run):
    """task -> how often each request is answered among the published labels and rejects."""
    out = run.published("synthesize")
    labels = {task: rows(out, f"labels/{task}-*.parquet") for task in TASKS}
    rejects = {task: rows(out, f"rejects/{task}-*.parquet") for task in TASKS}
    return {
        task: Counter([r["request_id"] for r in labels[task]] + [r["where"] for r in rejects[task]]) for task in TASKS
    }


def test_a_killed_synthesis_goes_on_and_asks_nothing_twice(whole, begun):
    run = begun("prepare")
    # First the driver alone is killed, amid the first task; then, amid the second, the whole Ray with it.
    process = run.start("synthesize")
    run.watch(process, run.answers, until=lambda files: len(files) >= 2)
    process.kill()
    first = run.answers()
    process.wait()
    process = run.start("synthesize")
    run.watch(process, run.answers, until=lambda files: sum("/relevance/" in name for name in files) >= 1)
    run.kill_everything()
    second = run.answers()
    assert first.items() <= second.items()
    assert run.manifest("synthesize") is None
    # A kill amid a write leaves a file whose name begins with a dot. It is nobody's answer.
    whole_file = Path(next(iter(second)))
    half = whole_file.read_bytes()[:-100]
    planted = [whole_file.with_name(".0123.parquet.0badf00d")]
    planted += [next(run.folder.glob("synthesize/*/labels")) / ".queries-00000.parquet.0badf00d"]
    for path in planted:
        path.write_bytes(half)

    run.finish("synthesize")
    last = run.answers()
    assert second.items() <= last.items(), "finished batches stay as they were"
    assert len(first) < len(second) < len(last)
    asked = Counter(ids(last))
    assert set(asked.values()) == {1}, "no request was answered in two batches"

    manifest = run.manifest("synthesize")
    there, out = Counter(Path(name).parts[-3] for name in second for _ in ids([name])), run.published("synthesize")
    found = answered(run)
    for task in TASKS:
        wanted = Counter(row["id"] for row in rows(out, f"requests/{task}/*.parquet"))
        assert found[task] == wanted, "every request is answered, once"
        assert set(wanted.values()) == {1}
        assert manifest["figures"][task]["now"]["rows"] == len(wanted) - there[task]
    labels = [row["id"] for row in rows(out, "labels/[!.]*.parquet")]
    assert len(set(labels)) == len(labels) > 30
    listed = [entry["name"] for entry in manifest["files"]]
    assert not [name for name in listed if Path(name).name.startswith(".")]
    # What relevance asks depends on the queries' words, and those on which prompts the LLM computed together.
    undisturbed = answered(whole)
    for task in ("queries", "sentiment"):
        assert found[task] == undisturbed[task]


def same_training(run, whole):
    losses = run.manifest("train")["figures"]["loss"]
    assert len(losses) == 3
    assert losses == pytest.approx(whole.manifest("train")["figures"]["loss"], abs=1e-4)
    weights, wanted = (load_file(one.published("train") / "model" / "model.safetensors") for one in (run, whole))
    assert weights.keys() == wanted.keys()
    assert max(abs(weights[name] - wanted[name]).max() for name in wanted) < 1e-4


@pytest.fixture(scope="module")
def stopped(whole, tmp_path_factory):
    """A training whose driver was killed after the first epoch, and what was left of it, too."""
    run = Run(tmp_path_factory.mktemp("stopped") / "run", whole.config)
    for stage in ("prepare", "synthesize", "curate"):
        shutil.copytree(whole.folder / stage, run.folder / stage)
    process = run.start("train")
    try:
        run.watch(process, run.checkpoints, until=lambda names: "epoch-0000" in names)
    finally:
        process.kill()
        process.wait()
        run.kill_everything()
    return run


def test_training_goes_on_from_its_checkpoint_though_its_driver_was_killed_and_then_a_worker(stopped, whole, begun):
    run = begun("prepare", "synthesize", "curate", "train", of=stopped)
    assert run.manifest("train") is None
    written, seen, killed = {run.first_checkpoint()}, set(), []
    process, looked = run.start("train"), [time.monotonic()]

    def look():
        written.add(run.first_checkpoint())
        if time.monotonic() - looked[-1] > 0.5:  # to look at every process takes a while
            looked.append(time.monotonic())
            workers = training_workers(run)
            seen.update(worker.pid for worker in workers)
            if not killed and len(workers) == 2 and "epoch-0001" in run.checkpoints():
                killed.append(workers[0].pid)
                workers[0].kill()

    run.watch(process, look)
    assert killed
    assert len(seen) > 2, "another worker took over"
    assert len(written - {None}) == 1, "the first epoch was not trained again"
    same_training(run, whole)
    assert not list((run.folder / "train" / "work").glob("*")), "checkpoints go when the model is published"
    deadline = time.monotonic() + 60
    while (left := run.processes()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left, "it leaves no Ray behind"


def training_workers(run):
    found = []
    for process in run.processes():
        try:
            if process.cmdline()[0].startswith("ray::RayTrainWorker"):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def test_training_starts_anew_where_the_list_of_checkpoints_is_broken(stopped, whole, begun):
    run = begun("prepare", "synthesize", "curate", "train", of=stopped)
    (snapshot,) = (run.folder / "train" / "work").glob("*/bi_encoder/checkpoint_manager_snapshot.json")
    snapshot.write_bytes(snapshot.read_bytes()[:100])  # Ray writes over the old list, so a kill can halve it

    run.finish("train")
    assert "training starts anew" in run.said()
    same_training(run, whole)
