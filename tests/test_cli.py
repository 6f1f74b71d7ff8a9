"""The command line: a user's mistake ends in words, with what is wrong, where, and how to mend it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

import synthrec
from synthrec import cli
from synthrec.config import Config
from synthrec.synthesis import trial


@pytest.fixture
def run(monkeypatch, capfd):
    """`run("train", "-c", ...)` -> (exit code, what was printed)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["synthrec", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.entry()
        told = capfd.readouterr()
        return stopped.value.code or 0, told.out + told.err

    return call


def mistake(result, problem, hint):
    code, told = result
    assert code == 2
    assert "Traceback" not in told
    assert problem in told
    assert "hint:" in told
    assert hint in told


def test_version_and_help(run):
    assert run("--version") == (0, f"synthrec {synthrec.__version__}\n")
    code, told = run("--help")
    assert code == 0
    for verb in ("run", "serve", "demo", "doctor", "config", *cli.VERBS):
        assert re.search(rf"\b{verb}\b", told)
    assert run("train", "--help")[0] == 0


def test_printed_settings_are_a_config_that_means_the_same(run, small_shop):
    code, told = run("config", "-c", small_shop)
    assert code == 0
    read_back = Config.model_validate(yaml.safe_load(told))
    assert read_back == cli.load(small_shop)
    assert "# pairs per worker and step" in told


def test_doctor_says_what_is_here_and_what_engines_need(run):
    code, told = run("doctor")
    assert code == 0
    for words in (
        "cores",
        "memory",
        "GPU",
        "ray",
        "embedded LLM",
        "engine llamacpp: ready",
        "engine transformers: ready",
    ):
        assert words in told


def test_no_config(run):
    mistake(run("run", "-c", "nowhere.yaml"), "no config file nowhere.yaml", "configs/store.yaml")


def test_an_unknown_key(run, small_shop):
    mistake(run("run", "-c", small_shop, "-s", "train.epocs=3"), "unknown key 'train.epocs'", "did you mean 'epochs'?")


def test_a_stage_out_of_turn(run, small_shop, tmp_path):
    result = run("train", "-c", small_shop, "-s", f"run_dir={tmp_path}/none")
    mistake(result, "train needs prepare, which has not been run", "synthrec prepare")


def test_a_missing_gguf(run, small_run, small_shop):
    result = run("synthesize", "-c", small_shop, "-s", "synthesize.engine.model=/nowhere/model.gguf")
    mistake(result, "/nowhere/model.gguf", "'embedded'")


def test_a_missing_causal_model(run, small_run, small_shop):
    settings = ["-s", "synthesize.engine.kind=transformers", "-s", "synthesize.engine.model=./nowhere"]
    mistake(run("synthesize", "-c", small_shop, *settings), "./nowhere", "transformers")


@pytest.mark.parametrize("folder", ["./nowhere", "/etc"])
def test_an_encoder_that_is_none(run, small_run, small_shop, folder):
    mistake(run("train", "-c", small_shop, "-s", f"train.encoder={folder}"), folder, "folder")


def test_more_workers_than_the_machine_has(run, small_run, small_shop):
    mistake(
        run("train", "-c", small_shop, "-s", "train.workers=3"), "train needs 3 CPUs, this machine has 2", "workers"
    )


def test_more_gpus_than_the_machine_has(run, small_run, small_shop):
    result = run("train", "-c", small_shop, "-s", "train.use_gpu=true")
    mistake(result, "train needs 2 GPUs, this machine has 0", "use_gpu")


def test_a_batch_larger_than_the_data(run, small_run, small_shop):
    mistake(run("train", "-c", small_shop, "-s", "train.batch_size=5000"), "fewer than one step takes", "batch_size")


def test_judgments_that_are_none(run, small_run, small_shop, tmp_path):
    path = tmp_path / "judgments.jsonl"
    path.write_text("")
    mistake(run("evaluate", "-c", small_shop, "-s", f"evaluate.judgments={path}"), "holds no judged query", '"E"')
    path.write_text('{"query": "pan", "E": ["KIT01"]}\n{"query": "pan", "E": 7}\n')
    mistake(run("evaluate", "-c", small_shop, "-s", f"evaluate.judgments={path}"), f"{path}:2: not a judgment", '"E"')
    path.unlink()
    mistake(
        run("evaluate", "-c", small_shop, "-s", f"evaluate.judgments={path}"), f"no file at {path}", "check the path"
    )


def test_a_dry_run_shows_prompts_and_estimates_what_the_job_took(run, small_run, small_shop, monkeypatch):
    monkeypatch.setattr(trial, "WARM", 4)
    monkeypatch.setattr(trial, "SAMPLE", 10)  # answers take seconds
    prices = "synthesize.engine.prices={prompt: 1, completion: 2, currency: CNY}"
    code, told = run("synthesize", "-c", small_shop, "--dry-run", "-s", prices)
    assert code == 0
    assert "They type:" in told
    assert "顾客想要" in told
    figures = small_run.manifest("synthesize")["figures"]
    rows = dict(re.findall(r"│ (\w+) +│ +([\d,]+) │", told))
    assert rows["sentiment"] == str(figures["sentiment"]["requests"])
    assert int(rows["queries"]) == pytest.approx(figures["queries"]["requests"], rel=0.1)
    assert "CNY" in told
    assert "synthesize is up to date" not in told
    assert small_run.manifest("synthesize")["figures"] == figures


def test_a_few_rows_can_be_watched_without_ray(run, small_run, small_shop):
    code, told = run("synthesize", "-c", small_shop, "--local", 2)
    assert code == 0
    assert told.count("→ ") == 6  # two rows of each of three tasks, in both languages
    assert len(re.findall(r"→ positive 0\.\d+, negative 0\.\d+", told)) == 2


def test_curated_labels_are_exported_with_their_card(run, small_run, small_shop, tmp_path):
    code, told = run("export", "-c", small_shop, "--layout", "beir", "--to", tmp_path / "beir")
    assert code == 0
    kept = small_run.manifest("curate")["figures"]
    assert f"26 documents, {len((tmp_path / 'beir/queries.jsonl').read_text().splitlines())} queries" in told
    judged = (tmp_path / "beir/qrels/train.tsv").read_text().splitlines()[1:]
    # Each kept query with its product; and what relevance adds, of queries that were kept.
    assert kept["queries"]["kept"] < len(judged) <= kept["queries"]["kept"] + kept["relevance"]["kept"]
    assert (tmp_path / "beir/card.md").exists()


def test_no_bundle_to_serve(run, small_shop, tmp_path):
    result = run("serve", "-c", small_shop, "-s", f"run_dir={tmp_path}/none")
    mistake(result, "no bundle made with these settings", "synthrec run")


def test_a_folder_that_cannot_be_made(run, small_shop):
    mistake(run("prepare", "-c", small_shop, "-s", "run_dir=/proc/nowhere"), "cannot make the folder", "run_dir")


def test_a_run_that_another_process_holds(run, small_run, small_shop):
    code = "import sys; from synthrec.storage import Folder\n"
    code += "with Folder.open(sys.argv[1]).locked(): print(flush=True); input()"
    args = [sys.executable, "-c", code, small_run.config.run_dir]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        mistake(run("run", "-c", small_shop), "another synthrec is working on", "run_dir")
        other.communicate(b"\n")


def test_the_demo_outside_the_project(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mistake(run("demo"), "no configs/store.yaml here", "project's folder")
