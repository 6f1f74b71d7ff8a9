"""RecBole's LightGCN on a split of ours: run by `benchmarks.ml100k`, in RecBole's own environment.

    python peer_recbole.py FOLDER SEED

FOLDER holds `ml.train.inter`, `ml.valid.inter` and `ml.test.inter` in a folder `ml`. Settings are RecBole's own defaults,
but for three layers: 300 epochs at most, stopped once ten have not bettered NDCG@10 of the validation. Writes
`recbole.json`: seconds of the training, RecBole's own figures, and the best 20 items of each user for our judge.
"""

from __future__ import annotations

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
    config = Config(
        model="LightGCN",
        dataset="ml",
        config_dict={
            "data_path": str(folder),
            "checkpoint_dir": str(folder / "saved"),
            "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "eval_args": {"group_by": "user", "order": "RO", "mode": "full"},
            "metrics": ["Recall", "NDCG"],
            "topk": [10],
            "valid_metric": "NDCG@10",
            "n_layers": 3,
            "seed": seed,
            "show_progress": False,
            "use_gpu": False,
        },
    )
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    trainer = Trainer(config, LightGCN(config, train.dataset).to(config["device"]))
    start, cpu_start = time.monotonic(), time.process_time()
    trainer.fit(train, valid, saved=True, show_progress=False, verbose=False)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    own = trainer.evaluate(test, load_best_model=True, show_progress=False)
    users = sorted(set(map(int, test.uid_list.tolist())), key=lambda u: int(dataset.id2token("user_id", u)))
    best = full_sort_topk(users, trainer.model, test, 20, device=config["device"])[1].cpu().numpy()
    found = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "own": {name: float(value) for name, value in own.items()},
        "epochs": len(trainer.train_loss_dict),
        "users": [int(dataset.id2token("user_id", u)) for u in users],
        "ranking": [[int(dataset.id2token("item_id", i)) for i in row] for row in best],
    }
    (folder / "recbole.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
