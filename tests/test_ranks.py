"""What ranks learn from each other: two real processes over gloo."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import distributed, nn

from synthrec.recommenders.bi_encoder import BiEncoder, Contrast, Objective
from synthrec.training import loop
from synthrec.training.distributed import gather


class Letters(BiEncoder):
    """A bi-encoder whose backbone is a small network over counts of letters, in double precision."""

    def __init__(self):
        nn.Module.__init__(self)
        torch.manual_seed(11)
        self.backbone = nn.Sequential(nn.Linear(26, 12), nn.Tanh(), nn.Linear(12, 8)).double()
        self.query_tokens = self.product_tokens = 8

    def forward(self, *sides):
        counts = [[text.count(chr(97 + i)) for i in range(26)] for texts, _ in sides for text in texts]
        return nn.functional.normalize(self.backbone(torch.tensor(counts, dtype=torch.float64)), dim=-1)


# Pairs of four products; "kit02" stands on both ranks, and twice on the second.
PAIRS = {
    "query": ["pan for eggs", "tea water", "light pan", "frying", "crate for the plane", "dog box"],
    "product": ["frying pan", "red kettle", "wok", "frying pan", "airline crate", "frying pan"],
    "group": ["kit02", "kit04", "kit03", "kit02", "pet22", "kit02"],
}
# Hard negatives, some of which are another row's product, and what a cross-encoder thinks of product and negatives.
HARD = {
    "negatives": [["red kettle", "ladle"], ["wok", "teapot"], ["sieve", "red kettle"]] * 2,
    "negative_groups": [["kit04", "kit09"], ["kit03", "kit08"], ["kit07", "kit04"]] * 2,
    "teacher": [[0.9, 0.1, 0.4], [0.8, 0.0, 0.5], [1.0, 0.2, 0.3], [0.7, 0.1, 0.1], [0.6, 0.6, 0.0], [0.5, 0.1, 0.2]],
}
LESSONS = {
    "in-batch negatives": (Contrast(), PAIRS),
    "hard negatives": (Contrast(), PAIRS | HARD),
    "all there is": (Contrast(0.1, false_negatives=0.9, matryoshka=(2, 4), distil=3.0), PAIRS | HARD),
}
SHARE = 3  # rows of a rank


def gradients(module, batch):
    module.zero_grad()
    loss = module(batch)
    loss.backward()
    return {"loss": loss.item()} | {n.removeprefix("module."): p.grad.clone() for n, p in module.named_parameters()}


def rank_work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {"gathered": gather(torch.tensor([[rank, 10.0], [rank, 20.0]]))}
    for lesson, (how, rows) in LESSONS.items():
        mine = {name: values[rank * SHARE : (rank + 1) * SHARE] for name, values in rows.items()}
        model = nn.parallel.DistributedDataParallel(Objective(Letters(), how, gather))
        found[lesson] = gradients(model, mine)
    found["columns"] = gather(torch.arange(6).view(2, 3).T[:2] + 10 * rank)
    found["values"] = validated(rank)
    torch.save(found, folder / f"{rank}.pt")
    while not (folder / f"{1 - rank}.pt").exists():  # who leaves early fails the other
        time.sleep(0.01)
    # Not by the way out: gloo's destructor holds the interpreter's lock while it waits for a thread that wants it.
    os._exit(0)


def validated(rank):
    """What a training says its validations came to, on ranks that find other values."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # asked for, and not used: they have met already
    accelerator, reports = Accelerator(cpu=True), []
    assert accelerator.num_processes == 2
    model = accelerator.prepare_model(nn.Linear(1, 1))
    own = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.2] if rank == 0 else [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    loop.train(
        lambda rows: model(torch.ones(len(rows), 1)).square().mean(),
        model,
        [{"params": list(model.parameters()), "lr": 0.01}],
        loop.Plan(rows=8, batch_size=2, epochs=6, warmup=0.0, seed=1, patience=2),
        accelerator,
        lambda metrics, save: reports.append(metrics),
        lambda step, loss: None,
        validate=lambda: next(own),
    )
    return reports[-1]["values"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks found; they take seconds to start."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(rank_work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("lesson", LESSONS)
def test_two_ranks_learn_what_one_process_learns_from_all_rows(ranks, lesson):
    how, rows = LESSONS[lesson]
    alone = gradients(Objective(Letters(), how, gather), rows)  # one process: gather has nothing to fetch
    mine = [one[lesson] for one in ranks]
    assert np.mean([one["loss"] for one in mine]) == pytest.approx(alone["loss"], abs=1e-5)
    assert abs(mine[0]["loss"] - mine[1]["loss"]) > 1e-3, "each rank has rows of its own"
    for name in (name for name in alone if name != "loss"):
        assert alone[name].abs().max() > 1e-2
        for one in mine:
            torch.testing.assert_close(one[name], alone[name], rtol=0, atol=1e-5)


def test_ranks_gather_in_their_order(ranks):
    for one in ranks:
        assert one["gathered"].tolist() == [[0, 10], [0, 20], [1, 10], [1, 20]]
        assert one["columns"].tolist() == [[0, 3], [1, 4], [10, 13], [11, 14]], "whatever the layout in memory"


def test_ranks_stop_together_by_what_the_first_one_finds(ranks):
    assert [one["values"] for one in ranks] == [[0.1, 0.3, 0.2, 0.2]] * 2
