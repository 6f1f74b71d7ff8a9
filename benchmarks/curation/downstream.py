"""What curated labels are measured by: a bi-encoder trained on the queries, and the shoppers' own ratings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from synthrec import models, schema
from synthrec.config import Config
from synthrec.curation import Row
from synthrec.evaluation import judgments, systems
from synthrec.evaluation.judgments import Query
from synthrec.pipeline import Pipeline
from synthrec.retrieval.bm25 import BM25
from synthrec.storage import Folder
from synthrec.training.loop import Plan, train


@dataclass(frozen=True)
class Shop:
    """What training and evaluation know beside the pairs: the catalogue, the corpus's texts, the judged queries."""

    config: Config
    ids: list[str]
    texts: list[str]
    corpus: list[str]
    queries: list[Query]


def shop(pipeline: Pipeline) -> Shop:
    """All judged queries are a test here: an encoder alone has nothing that is tuned on judgments."""
    config, prepared = pipeline.config, pipeline.folder("prepare")
    catalogue = (prepared / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id")
    corpus = (prepared / "corpus").read_table(schema.CORPUS, ["text"])["text"].to_pylist()
    queries = judgments.load_graded(str(config.evaluate.judgments))
    return Shop(config, catalogue["product_id"].to_pylist(), catalogue["text"].to_pylist(), corpus, queries)


def shallow(name: str, layers: int, folder: Path) -> str:
    """The encoder's embeddings and first layers, saved in a folder that `train.encoder` may name.

    Without any layer it is a bag of token embeddings (as static embedding models are): a hundredth of the work.
    """
    from transformers import AutoModel, AutoTokenizer

    where = models.encoder(name)
    AutoModel.from_pretrained(where, num_hidden_layers=layers).save_pretrained(folder)
    AutoTokenizer.from_pretrained(where).save_pretrained(folder)
    return str(folder)


@dataclass(frozen=True)
class Even(Plan):
    """Epochs of as many steps as `like` rows make, whatever rows there are: more of them wait for another epoch's
    shuffle, fewer come again."""

    like: int = 0

    def steps(self, ranks: int) -> int:
        return max(1, self.like // (self.batch_size * self.accumulate * ranks))


def fine_tuned(shop: Shop, pairs: pa.Table, seed: int, like: int) -> dict[str, Any]:
    """NDCG@10 of each judged query by an encoder trained on these pairs: the train stage's model, loss and loop.

    One process and no Ray, since there are dozens of trainings. The seed decides the order of pairs and the dropout.

    Args:
        like: as many steps as so many pairs make.
    """
    import torch
    from accelerate import Accelerator

    from synthrec.recommenders.bi_encoder import BiEncoder, Contrast, Objective

    own, start = shop.config.train, time.monotonic()
    encoder = BiEncoder.load(own.encoder, own.max_query_tokens, own.max_product_tokens)
    added = encoder.extend_vocabulary(shop.corpus) if own.extend_vocabulary else 0
    rates = (own.learning_rate, own.new_token_learning_rate if added else own.learning_rate)
    objective = Objective(encoder, Contrast(own.temperature), lambda mine: mine, rates)
    fast = own.precision == "bfloat16" or (own.precision == "auto" and models.fast_dtype("cpu") == "bfloat16")
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if fast else "no")
    model: Any = accelerator.prepare_model(objective)
    losses: list[float] = []

    def loss(rows: list[int]) -> torch.Tensor:
        return model(pairs.take(rows).to_pydict())  # type: ignore[no-any-return]

    def report(metrics: dict[str, Any], save: Any) -> None:
        losses.append(metrics["loss"])

    plan = Even(pairs.num_rows, own.batch_size, own.epochs, own.warmup, seed, like=like)
    train(loss, model, objective.parameter_groups(), plan, accelerator, report, lambda done, value: None)
    return {"ndcg": ndcg(shop, encoder), "loss": losses, "seconds": time.monotonic() - start}


def zero_shot(shop: Shop) -> list[float]:
    """The encoder as it comes: what training is held against."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    own = shop.config.train
    return ndcg(shop, BiEncoder.load(own.encoder, own.max_query_tokens, own.max_product_tokens))


def ndcg(shop: Shop, encoder: Any) -> list[float]:
    """Of each judged query, the whole catalogue ranked."""
    products = encoder.encode(shop.texts)
    asked = encoder.encode([query.text for query in shop.queries], query=True)
    place = {product_id: row for row, product_id in enumerate(shop.ids)}
    found: list[float] = systems.rank(shop.queries, place, systems.semantic(products, asked)).ndcg().tolist()
    return found


def expanded(shop: Shop, pairs: pa.Table) -> list[float]:
    """NDCG@10 of each judged query by BM25 over products with the queries of these pairs added to their texts.

    Document expansion by query prediction (Nogueira et al. 2019). No training and no luck: what the queries themselves
    are worth to a retriever. k1 and b are the usual ones, untuned.
    """
    place = {product_id: row for row, product_id in enumerate(shop.ids)}
    texts = list(shop.texts)
    for pair in pairs.to_pylist():
        row = place[pair["group"]]
        if pair["product"] == shop.texts[row]:  # else a title's pair, with the rest of the text
            texts[row] += f" {pair['query']}"
    return bm25(shop, texts)


def bm25(shop: Shop, texts: list[str]) -> list[float]:
    """Of each judged query, by BM25 over these texts of the products."""
    place = {product_id: row for row, product_id in enumerate(shop.ids)}
    index = BM25.build(texts)
    found: list[float] = systems.rank(shop.queries, place, systems.lexical(index, shop.queries)).ndcg().tolist()
    return found


def rated(prepared: Folder, labels: list[Row]) -> dict[str, list[str]]:
    """Review -> [the shopper's verdict, the label's]: 4 and 5 stars are positive, 1 and 2 negative, 3 is left out."""
    corpus = (prepared / "corpus").read_table(schema.CORPUS, ["doc_id", "kind", "fields"])
    reviews = corpus.filter(pads.field("kind") == "review").to_pylist()
    rating = {one["doc_id"]: schema.strings(one["fields"]).get("rating") for one in reviews}
    found = {}
    for row in (one for one in labels if one["task"] == "sentiment" and not one["facet"]):
        stars = int(rating.get(row["sources"][0]) or 3)
        if stars != 3:
            found[row["sources"][0]] = ["positive" if stars > 3 else "negative", row["label"]]
    return found
