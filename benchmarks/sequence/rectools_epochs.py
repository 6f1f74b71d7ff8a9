"""Epochs of RecTools' SASRec, one for each line read; prints the seconds of each. Runs in an environment of its own.

    PYTHON rectools_epochs.py SEQUENCES.txt SETTINGS.json

Only the passes over the batches are timed: not the preparing of the data set, nor the set-up of the trainer.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Turns(Callback):
    """Waits for its turn before each epoch, and tells how long it took."""

    def on_train_epoch_start(self, *_: object) -> None:
        sys.stdin.readline()
        self.start = time.monotonic(), time.process_time()

    def on_train_epoch_end(self, *_: object) -> None:
        print(json.dumps([time.monotonic() - self.start[0], time.process_time() - self.start[1]]), flush=True)


def main(sequences: str, settings: dict[str, Any]) -> None:
    torch.set_num_threads(settings["threads"])
    lines = [line.split() for line in Path(sequences).read_text().splitlines()]
    rows = [(user, item, 1, place) for user, items in enumerate(lines) for place, item in enumerate(items)]
    table = pd.DataFrame(rows, columns=Columns.Interactions)
    table[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(table[Columns.Datetime], unit="D")

    def trainer() -> Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return Trainer(
            max_epochs=settings["epochs"],
            accelerator="cpu",
            enable_checkpointing=False,
            callbacks=[Turns()],
            **quiet,
        )

    SASRecModel(get_trainer_func=trainer, **settings["model"]).fit(Dataset.construct(table))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
