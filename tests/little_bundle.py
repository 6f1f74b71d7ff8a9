"""A bundle of the fictional shop's kitchen, made in seconds without Ray or an LLM, and the service over real HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import uvicorn

from serve_app.local import Home, Lifespan
from synthrec import bundle, schema
from synthrec.config import Serve
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.recommenders.classifier import Classifier
from synthrec.recommenders.cross_encoder import CrossEncoder
from synthrec.recommenders.features import Features, ngrams
from synthrec.recommenders.graph import LightGCN
from synthrec.recommenders.replies import Replies
from synthrec.retrieval.bm25 import BM25
from synthrec.sources.documents import product_row
from synthrec.sources.records import Product

SHOP = Path(__file__).parents[1] / "examples" / "store"
VERDICTS = {"positive": ["love it", "great and sturdy", "best pan"], "negative": ["it leaks", "broke at once", "awful"]}
ASKED = ["for gas stoves", "iron pan", "cast iron skillet for steaks", "a gift for a cook"]
PAST = [
    ("dialogue:1#0", "Does the flask leak?", "No, its lid is sealed."),
    ("dialogue:2#0", "When will it arrive?", "In two days."),
]
KNOWN = {}  # vectors of texts, by the embedded encoder: several modules of tests want the same


def products(prefix="KIT"):
    lines = (SHOP / "products.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if f'"{prefix}' in line]
    return [product_row(Product.model_validate(row)) for row in rows]


def make(folder, encoder=None, rows=None, weights=None, whole=True, **manifest):
    """A bundle; `whole`: with every part that it may have."""
    encoder = encoder or BiEncoder.load("embedded")
    catalogue = schema.table(rows or products(), schema.CATALOGUE).sort_by("product_id")
    texts = catalogue["text"].to_pylist()
    KNOWN.update({text: encoder.encode([text])[0] for text in texts if text not in KNOWN})
    vectors = np.stack([KNOWN[text] for text in texts])
    (folder / "model").mkdir(parents=True)
    encoder.save(folder / "model")
    if whole:
        parts(folder, encoder, vectors)
        pq.write_table(pa.table({"product_id": ["KIT01"] * 4, "text": ASKED}), folder / bundle.QUERIES)
    told = {"name": "little", "made": "2026-11-25T00:00:00+00:00", "system": "hybrid", "lineage": {"train": "0123"}}
    told |= {"weights": weights or {"en": 0.5, "zh": 0.2}, "metrics": {"ndcg@10": {"mean": 0.6}}, "encoder": None}
    told |= {"recommender": {"system": "graph", "filter_viewed": True} if whole else None}
    bundle.write(folder, catalogue, vectors, BM25.build(texts), told | manifest)
    return folder


def parts(folder, encoder, vectors):
    for name in ("recommender", "classifier", "replies", "reranker"):
        (folder / name).mkdir()
    torch.manual_seed(0)
    # Shoppers who took a product and the next three; the last product was taken by nobody.
    taken = [np.arange(i, i + 4) for i in range(len(vectors) - 4)]
    graph = LightGCN.of(taken, len(vectors), width=16, layers=2)
    graph.start_from(vectors)
    graph.save(folder / "recommender")
    verdicts(folder / "classifier")
    Replies.build([i for i, _, _ in PAST], [q for _, q, _ in PAST], [a for _, _, a in PAST], encoder.encode).save(
        folder / "replies"
    )
    CrossEncoder.load("embedded").save(folder / "reranker")


def verdicts(folder):
    texts = [text for some in VERDICTS.values() for text in some]
    model = Classifier({"sentiment": list(VERDICTS)}, buckets=2**12)
    targets = [[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3
    rows = Features(ngrams=ngrams(texts, buckets=2**12)).batch(range(6)) | {"sentiment": targets}
    step = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(30):
        step.zero_grad()
        model.loss(rows).backward()
        step.step()
    model.save(folder)


def home(folder, version="one", run_dir=None, store=None):
    """Args:
    store: its URL; None: a file beside the bundles, which all that are served from there share.
    """
    return Home(str(folder), version, store or f"sqlite:///{folder}/store.sqlite", run_dir)


@contextmanager
def served(where, **settings):
    """A client of the service under bare uvicorn on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = Lifespan(where, Serve(**settings))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and thread.is_alive():
        assert time.monotonic() < until, "the service does not start"
        time.sleep(0.02)
    assert server.started, "the service could not start"
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
