"""Run by a Python that has sentence-transformers[train]: samples by processor second of its trainer."""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

WARM = 2


class Clock(TrainerCallback):  # type: ignore[misc]
    """Both clocks at the end of each step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.times.append((time.perf_counter(), time.process_time()))


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (("encoder", str), ("pairs", str), ("batch", int), ("steps", int)):
        parser.add_argument(f"--{name}", type=kind)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = SentenceTransformer(given.encoder, device="cpu")
    model.max_seq_length = 96  # one limit for both sides; queries are shorter than ours, too
    rows = json.loads(Path(given.pairs).read_text(encoding="utf-8"))[: given.batch * (given.steps + WARM)]
    data = Dataset.from_list([{"anchor": row["query"], "positive": row["product"]} for row in rows])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = SentenceTransformerTrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=given.batch,
            learning_rate=5e-5,
            warmup_ratio=0.1,
            weight_decay=0.01,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=13,
        )
        loss = MultipleNegativesRankingLoss(model, scale=20.0)
        SentenceTransformerTrainer(model=model, args=settings, train_dataset=data, loss=loss, callbacks=[clock]).train()
    clock_s, processor = (clock.times[-1][i] - clock.times[WARM - 1][i] for i in range(2))
    print(json.dumps({"samples": given.batch * given.steps, "clock_s": clock_s, "processor_s": processor}))


if __name__ == "__main__":
    main()
