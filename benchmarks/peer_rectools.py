"""RecTools' SASRec on our sequences: run by `benchmarks.ml100k`, in RecTools' own environment.

    python peer_rectools.py FOLDER SEED EPOCHS

FOLDER holds `sequences.json`: each user's items, oldest first, without the one to be found. Settings are RecTools' own
defaults but for the epochs. Writes `rectools.json`: seconds of the training and the best 20 unseen items of each user.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd
from lightning_fabric import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main(folder: Path, seed: int, epochs: int) -> None:
    sequences = json.loads((folder / "sequences.json").read_text())
    rows = [(user, item, 1.0, place) for user, items in enumerate(sequences) for place, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Weight, Columns.Datetime])
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    dataset = Dataset.construct(frame)
    seed_everything(seed, workers=True)
    model = SASRecModel(epochs=epochs, deterministic=True)
    start, cpu_start = time.monotonic(), time.process_time()
    model.fit(dataset)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    users = list(range(len(sequences)))
    best = model.recommend(users=users, dataset=dataset, k=20, filter_viewed=True)
    lists = best.sort_values([Columns.User, Columns.Rank]).groupby(Columns.User)[Columns.Item].apply(list)
    found = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "users": users,
        "ranking": [[int(i) for i in lists[user]] for user in users],
    }
    (folder / "rectools.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
