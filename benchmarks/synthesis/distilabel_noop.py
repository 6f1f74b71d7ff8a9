"""Run by a Python that has distilabel: rows a second of its pipeline around a step that does nothing."""

import json
import sys
import tempfile
import time

from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step


@step(inputs=["prompt"], outputs=["text"])
def noop(inputs: StepInput):  # type: ignore[no-untyped-def]
    for row in inputs:
        row["text"] = row["prompt"]
    yield inputs


if __name__ == "__main__":
    count, batch = int(sys.argv[1]), int(sys.argv[2])
    start = time.monotonic()
    # A cache of its own: one that a killed run left half-written stops it, used or not.
    with tempfile.TemporaryDirectory() as cache, Pipeline(name="noop", cache_dir=cache) as pipeline:
        load = LoadDataFromDicts(data=[{"prompt": f"kettle {i}"} for i in range(count)], batch_size=batch)
        load >> noop(input_batch_size=batch)
        pipeline.run(use_cache=False)
        print(json.dumps({"rows_per_s": count / (time.monotonic() - start)}))
