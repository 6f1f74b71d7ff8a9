"""RecTools' SASRec on our sequences, in RecTools' own environment.

    PYTHON rectools_sasrec.py FOLDER SEED

FOLDER holds `sequences.json`: each user's items, oldest first, without the one to be found. Settings are RecTools' own
defaults, but 50 epochs for three. Writes `found.json`: seconds of the training, and the best 20 unseen items of each
user.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main(folder: Path, seed: int) -> None:
    sequences = json.loads((folder / "sequences.json").read_text())
    rows = [(user, item, 1, place) for user, items in enumerate(sequences) for place, item in enumerate(items)]
    table = pd.DataFrame(rows, columns=Columns.Interactions)
    table[Columns.Datetime] = pd.to_datetime(table[Columns.Datetime], unit="s")
    dataset = Dataset.construct(table)
    seed_everything(seed)
    model = SASRecModel(epochs=50)
    start, cpu_start = time.monotonic(), time.process_time()
    model.fit(dataset)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    users = list(range(len(sequences)))
    best = model.recommend(users, dataset, k=20, filter_viewed=True).sort_values([Columns.User, Columns.Rank])
    lists = best.groupby(Columns.User)[Columns.Item].apply(list)
    found = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "users": users,
        "ranking": [[int(item) for item in lists[user]] for user in users],
    }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
