"""train: curated pairs -> a fine-tuned bi-encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from synthrec import console, schema
from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.stages import fitting
from synthrec.training import pairs
from synthrec.training.pairs import Rows

if TYPE_CHECKING:
    from synthrec.recommenders.bi_encoder import BiEncoder

OTHERS = {"max_failures", "track", "models", "cross_encoder", "classifier"}  # settings that change no bi-encoder
OWN = ("temperature", "false_negatives", "matryoshka", "distil", "chunk_tokens", "learning_rate")


def settings(config: Config) -> Any:
    return [config.train.model_dump(exclude=OTHERS), config.seed]


def run(context: Context) -> dict[str, Any]:
    from synthrec.training.loop import Plan

    config = context.config.train
    workers = fitting.workers(context)
    labels = (context.inputs["curate"] / "labels").read_table(schema.LABEL).to_pylist()
    rows = pairs.training_pairs(config, context.inputs["prepare"], labels)
    if rows.num_rows < workers * config.batch_size:
        raise UserError(
            f"{rows.num_rows} training pairs are fewer than one step takes "
            f"({workers} workers x batch {config.batch_size})",
            "synthesise more queries, or lower train.batch_size or train.workers",
        )
    encoder, added = starting_encoder(context)
    if config.hard_negatives:
        rows = _with_negatives(context, rows, labels, encoder)
    rates = {"embedding_rate": config.new_token_learning_rate if added else config.learning_rate}
    plan = Plan(rows.num_rows, config.batch_size, config.epochs, config.warmup, context.config.seed)
    own = {name: getattr(config, name) for name in OWN} | rates
    metrics = fitting.fitted(context, "bi_encoder", own, plan, rows, encoder.save)
    return {
        "pairs": rows.num_rows,
        "added_characters": added,
        "workers": workers,
        "precision": metrics.get("precision"),
        # Not from Ray's table of metrics, which forgets an epoch with its checkpoint.
        "loss": [round(loss, 5) for loss in metrics.get("losses", [])],
    }


def starting_encoder(context: Context) -> tuple[BiEncoder, int]:
    """The encoder before training, and how many characters of the shop's were added to it."""
    from synthrec.recommenders.bi_encoder import BiEncoder

    config = context.config.train
    encoder = BiEncoder.load(config.encoder, config.max_query_tokens, config.max_product_tokens)
    if not config.extend_vocabulary:
        return encoder, 0
    texts = (context.inputs["prepare"] / "corpus").read_table(schema.CORPUS, ["text"])["text"].to_pylist()
    added = encoder.extend_vocabulary(texts)
    if added:
        console.say(f"    the encoder cannot read {added} characters of the corpus; they are added and learnt")
    return encoder, added


def _with_negatives(context: Context, rows: pa.Table, labels: Rows, encoder: BiEncoder) -> pa.Table:
    """The pairs with hard negatives and, to distil, with what the cross-encoder thinks of them."""
    config = context.config.train
    catalogue = (context.inputs["prepare"] / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id")
    texts = dict(zip(catalogue["product_id"].to_pylist(), catalogue["text"].to_pylist(), strict=True))
    count, margin = config.hard_negatives, config.negative_margin
    rows = pairs.with_negatives(rows, texts, labels, encoder, count, margin)
    if not config.distil:
        return rows
    teacher = context.inputs["train_cross_encoder"] / "model"
    if not teacher.exists():
        raise UserError(
            "there is no cross-encoder to learn from: the run has no relevance labels",
            "ask for some with synthesize.tasks.relevance, or set train.distil to 0",
        )
    from synthrec.recommenders.cross_encoder import CrossEncoder

    with teacher.fetched() as folder:
        return pairs.with_teacher(rows, CrossEncoder.load(str(folder)))


def stage(config: Config) -> Stage:
    teacher = ("train_cross_encoder",) if config.train.distil else ()
    needs = ("prepare", "curate", *teacher)
    return Stage("train", "fine-tunes the bi-encoder (Ray Train, DDP)", needs, settings, run, version=3)
