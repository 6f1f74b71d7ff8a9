"""RecBole's LightGCN on a split of ours, in RecBole's own environment.

    PYTHON recbole_lightgcn.py FOLDER SEED

FOLDER holds `ml/ml.train.inter`, `ml.valid.inter` and `ml.test.inter`. Settings are RecBole's own defaults: at most 300
epochs, stopped once ten have not bettered MRR@10 of the validation. Writes `found.json`: seconds of the training,
RecBole's own figures, and the best 20 items of each user for our judge.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # RecBole's checkpoints are pickles

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import LightGCN
from recbole.trainer import Trainer
from recbole.utils import init_seed
from recbole.utils.case_study import full_sort_topk


def main(folder: Path, seed: int) -> None:
    settings = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "metrics": ["Recall", "NDCG", "MRR"],
        "topk": [10],
        "seed": seed,
        "use_gpu": False,
    }
    config = Config(model="LightGCN", dataset="ml", config_dict=settings)
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    trainer = Trainer(config, LightGCN(config, train.dataset).to(config["device"]))
    start, cpu_start = time.monotonic(), time.process_time()
    trainer.fit(train, valid, saved=True, show_progress=False, verbose=False)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    own = trainer.evaluate(test, load_best_model=True, show_progress=False)
    number = {int(dataset.id2token("user_id", inner)): int(inner) for inner in test.uid_list.tolist()}
    users = sorted(number)
    best = full_sort_topk([number[user] for user in users], trainer.model, test, 20, config["device"])[1]
    found = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "epochs": len(trainer.train_loss_dict),
        "own": {name: float(value) for name, value in own.items()},
        "users": users,
        "ranking": [[int(dataset.id2token("item_id", item)) for item in row] for row in best.tolist()],
    }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
