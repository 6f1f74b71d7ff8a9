"""Arrow schemas of every hand-over between stages, and the ids of rows.

prepare    -> CATALOGUE, CORPUS, INTERACTIONS; VAULT where pseudonyms can be turned back
synthesize -> REQUEST (what to ask), COMPLETION (what the LLM said, raw), LABEL (what it means)
curate     -> LABEL again, fewer of them
all        -> REJECT: each row refused anywhere, with its reason
"""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

# How well a product fits a query, and what that gains: exact, substitute, complement, irrelevant, as in the ESCI
# challenge (Reddy et al. 2022).
GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
GRADES = tuple(GAINS)

STRINGS = pa.map_(pa.string(), pa.string())

CATALOGUE = pa.schema(
    [
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("category", pa.string()),
        pa.field("attributes", STRINGS),
        pa.field("price", pa.float64()),
        pa.field("text", pa.string(), nullable=False),  # what encoders and BM25 read
    ]
)

CORPUS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # kind:source id
        pa.field("kind", pa.string(), nullable=False),  # product | review | search | dialogue | shopper | brand
        pa.field("language", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # clean and pseudonymised
        pa.field("product_id", pa.string()),
        pa.field("user_id", pa.string()),  # a pseudonym, never the shop's own id
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("fields", STRINGS),  # what a prompt may name: title, brand, rating, clicks, ...
    ]
)

INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),  # view | cart | purchase
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

VAULT = pa.schema(
    [
        pa.field("pseudonym", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),  # pseudonym of the shopper in whose record it stood, who may be forgotten
        pa.field("value", pa.binary(), nullable=False),  # sealed under the privacy key
    ]
)

REQUEST = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("facet", pa.string(), nullable=False),  # which of the task's questions; "" where it has one
        pa.field("language", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("fields", STRINGS),  # fills the prompt's blanks and travels on to the label
        pa.field("labels", pa.list_(pa.string())),  # to choose among; null where the LLM writes
        pa.field("choices", pa.list_(pa.string())),  # the words that stand for the labels in the prompt
        pa.field("sources", pa.list_(pa.string())),  # ids of the records that it is made of
        pa.field("prompt", pa.string(), nullable=False),  # hash of template, sampling, seed and the task's version
    ]
)

COMPLETION = pa.schema(
    [
        *REQUEST,
        pa.field("model", pa.string(), nullable=False),
        pa.field("text", pa.string()),  # generated text; null where the engine chose among labels
        pa.field("logprobs", pa.list_(pa.float64())),  # one per choice; null where it generated
        pa.field("prior", pa.list_(pa.float64())),  # the same for an empty input: the prompt's own lean
        pa.field("prompt_tokens", pa.int32()),
        pa.field("completion_tokens", pa.int32()),
        pa.field("error", pa.string()),
    ]
)

LABEL = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("facet", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # the query, the review, ...
        pa.field("product_id", pa.string()),
        pa.field("label", pa.string(), nullable=False),
        pa.field("score", pa.float64()),  # probability of the label; null where it was written, not scored
        pa.field("labels", pa.list_(pa.string())),  # what it was chosen among; null where it was written
        pa.field("scores", pa.list_(pa.float64())),  # one probability per label
        pa.field("prior", pa.list_(pa.float64())),  # log-probabilities of the labels for an empty input
        pa.field("fields", STRINGS),  # what else the answer says: preferences, right reply, next products, ...
        pa.field("model", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("sources", pa.list_(pa.string())),
    ]
)

REJECT = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("where", pa.string(), nullable=False),  # file:row, or the id of the row refused
        pa.field("reason", pa.string(), nullable=False),  # a class, countable
        pa.field("detail", pa.string()),  # this row's particulars
        pa.field("raw", pa.string()),  # the text refused, cut at RAW_LIMIT characters
    ]
)

RAW_LIMIT = 2000
FEW_LABELS = 24  # labels to choose among; more are texts of the shop's own, not classes


def row_id(*parts: Any) -> str:
    """A 32-digit hexadecimal id of what made a row. Parts are told apart, so ("ab", "c") is not ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table of exactly this schema; absent fields are null."""
    return pa.Table.from_pylist(rows, schema=schema)


def strings(value: Any) -> dict[str, str]:
    """A map column's value as a dict: Arrow gives a list of pairs, or None."""
    return dict(value or ())


def reject(stage: str, where: str, reason: str, detail: str = "", raw: str = "") -> dict[str, str]:
    """A row for the rejects table."""
    safe = raw[:RAW_LIMIT].encode("utf-8", "replace").decode()
    return {"stage": stage, "where": where, "reason": reason, "detail": detail, "raw": safe}
