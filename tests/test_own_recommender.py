"""A recommender of one's own, as docs/recommenders.md tells: one file, trained by Ray Train, judged, loaded."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from synthrec import recommenders
from synthrec.errors import UserError
from synthrec.recommenders.base import Cases
from synthrec.stages.train_next import table
from synthrec.storage import Folder
from synthrec.training import loop
from train_app.fit import Job, fit

HERE = Path(__file__).parent
ITEMS = 6


def test_the_file_is_the_one_that_the_documentation_shows():
    shown = re.findall(r"```python\n(.*?)```", (HERE.parent / "docs" / "recommenders.md").read_text("utf-8"), re.S)
    assert (HERE / "popular.py").read_text("utf-8") in shown


@pytest.mark.slow
def test_it_is_trained_validated_and_loaded_like_any_other(tmp_path, ray_session):
    from tests.popular import Popular  # workers find what lies under the working directory

    dice = np.random.default_rng(0)
    rows = [dice.choice(ITEMS, 4, p=[0.05, 0.4, 0.1, 0.2, 0.15, 0.1]).tolist() for _ in range(80)]
    place = Folder.open(str(tmp_path))
    start = tmp_path / "start"
    start.mkdir()
    Popular(ITEMS).save(start)
    taken = pa.table({"items": pa.array(rows, pa.list_(pa.int64()))})
    (place / "rows").write_table("rows.parquet", taken)
    cases = Cases(np.arange(3), [np.array([0])] * 3, [np.array([1])] * 3)
    (place / "validation").write_table("cases.parquet", table(cases))
    job = Job(
        recommender="tests.popular",
        settings={"learning_rate": 0.1},
        plan=loop.Plan(rows=len(rows), batch_size=20, epochs=10, warmup=0.0, seed=1),
        start=(place.fs, f"{place.path}/start"),
        rows=(place.fs, f"{place.path}/rows"),
        schema=taken.schema,
        use_gpu=False,
        precision="float32",
        validation=(place.fs, f"{place.path}/validation"),
    )
    told = {}

    def track(number, values):
        told.update({(name, number): value for name, value in values.items()})

    result = fit(job, (1, 1), max_failures=0, work=(place.fs, f"{place.path}/work"), track=track)
    losses = result.metrics["losses"]
    assert [told["epoch/loss", epoch] for epoch in range(10)] == losses
    assert [told["epoch/ndcg@10", epoch] for epoch in range(10)] == result.metrics["values"]
    assert losses[-1] < losses[0]
    assert result.metrics["values"][-1] == 1.0, "the best-liked product is what all of them take next"
    objective = recommenders.objective("tests.popular").start(start, job.settings, lambda mine: mine)
    with result.checkpoint.as_directory() as folder:
        objective.load_state_dict(loop.read(Path(folder))["model"])
    objective.save(start)
    order = np.argsort(-recommenders.scorer("tests.popular", start).scores(cases)[0])
    assert order[0] == Counter(item for row in rows for item in row).most_common(1)[0][0] == 1


def test_a_recommender_that_is_none_is_told():
    with pytest.raises(UserError, match="there is no recommender 'popularity'"):
        recommenders.objective("popularity")
