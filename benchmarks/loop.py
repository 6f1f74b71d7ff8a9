"""The whole loop: seconds a stage, rows in and accepted, and NDCG@10 of every system, on the store and on office data.

Each run is made anew in a folder of its own, so that every stage is timed; `--keep` continues an earlier one, whose
finished stages report the time that they took then.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from synthrec import console
from synthrec.cli import run_stages
from synthrec.config import load
from synthrec.pipeline import Pipeline


def main() -> None:
    arguments = _arguments()
    folder = Path(arguments.run_dir)
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = {"benchmark": "loop", "machine": machine()}
    result["store"] = _loop("configs/store.yaml", [f"run_dir={folder}/store"])
    if arguments.data and (Path(arguments.data) / "products.parquet").is_file():
        result["office"] = _loop("configs/office.yaml", [f"run_dir={folder}/office", *_office(arguments.data)])
    else:
        console.warn(f"no office data in {arguments.data}: that half is left out")
        result["office"] = None
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default="../shared/data/amazon_office", help="folder of the office set's Parquet files"
    )
    parser.add_argument("--run-dir", default="runs/benchmark-loop", help="where to work; emptied first")
    parser.add_argument("--keep", action="store_true", help="go on in --run-dir instead of emptying it")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def _office(data: str) -> list[str]:
    return [
        f"sources.products.path={data}/products.parquet",
        f"evaluate.next_item.path={data}/sequences_test.parquet",
        f"evaluate.next_item.tune_path={data}/sequences_train.parquet",
    ]


def _loop(config: str, overrides: list[str]) -> dict[str, Any]:
    return figures(run_stages(load(config, overrides)))


def figures(pipeline: Pipeline) -> dict[str, Any]:
    """The benchmark's figures of a finished run; the peers are the baselines of the same evaluation."""
    manifests = {name: found for name in pipeline.stages if (found := pipeline.manifest(name))}
    stage = {name: manifest["figures"] for name, manifest in manifests.items()}
    test = stage["evaluate"]["test"]
    ndcg = {name: one["ndcg@10"]["mean"] for name, one in test["systems"].items()}
    return {
        "seconds": {name: manifest["seconds"] for name, manifest in manifests.items()},
        "seconds_in_all": round(sum(manifest["seconds"] for manifest in manifests.values()), 1),
        "rows_in": {kind: counts["rows"] for kind, counts in stage["prepare"]["sources"].items()},
        "rows_rejected": {kind: counts["rejected"] for kind, counts in stage["prepare"]["sources"].items()},
        "asked": {task: one["requests"] for task, one in stage["synthesize"].items()},
        "accepted": {task: one["kept"] for task, one in stage["curate"].items()},
        "tokens": {task: one["prompt_tokens"] + one["completion_tokens"] for task, one in stage["synthesize"].items()},
        "test_queries": test["queries"],
        "ndcg_10": ndcg,
        "winner": stage["evaluate"]["winner"]["system"],
        "winner_over_bm25": ndcg[stage["evaluate"]["winner"]["system"]] / ndcg["BM25"],
        "fine_tuned_over_zero_shot": ndcg["fine-tuned encoder"] / ndcg["zero-shot encoder"],
        "comparisons": test["comparisons"],
    }


if __name__ == "__main__":
    main()
