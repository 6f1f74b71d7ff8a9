"""Which labels are worth training on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from synthrec.config.base import Fraction, Positive, Settings


class Curate(Settings):
    """Which labels are worth training on."""

    steps: tuple[str, ...] = Field(
        ("normalise", "well_formed", "usable", "copies", "duplicates", "round_trip", "relevance", "calibrate"),
        description="in this order; docs/curation.md says what each does and what it is worth",
    )
    min_words: Positive = Field(2, description="of a query; a Chinese character counts as one")
    max_chars: Positive = Field(120, description="of a query")
    max_copy: Fraction = Field(0.9, description="share of a query's words that stand, in order, in the title")
    near_similarity: Fraction = Field(
        0.8, description="Jaccard of character n-grams, from which on texts are near-copies"
    )
    near_scope: Literal["product", "task"] = Field(
        "product", description="near-copies of one product's texts, or of all texts of the task"
    )
    semantic_similarity: Fraction = Field(0.95, description="cosine, from which on a product's texts say the same")
    roundtrip_k: Positive = Field(10, description="a query must find its product among the first k")
    roundtrip_encoder: str = Field("embedded", description="'embedded', a path, or a hub name")
    min_relevance: Fraction = Field(
        0.0, description="by the LLM's score of E or S; 0: keep all (the embedded LLM scores too weakly)"
    )
    learn_from_review: bool = Field(
        False, description="calibrate by what reviewers said, too; new decisions then want a new curation"
    )
    forbidden: tuple[str, ...] = Field((), description="words that no written text may hold")
    variants: Positive = Field(1, description="step augment: of each query, with typing slips, word order, pinyin, ...")
    min_margin: Fraction = Field(0.1, description="step margin: of the best label's probability over the second's")
    second: dict[str, str] = Field(
        {}, description="step agreement: task: another task of this run, or folder-of-labels:task of another run"
    )
    noise_rows: Positive = Field(
        50_000, description="step noise: the classifier learns from at most so many rows of a question"
    )
    noise_least: Annotated[int, Field(ge=10)] = Field(
        50, description="step noise: labels of fewer rows are neither learnt nor refused"
    )
    noise_filter: Literal["prune_by_noise_rate", "confident_learning"] = Field(
        "prune_by_noise_rate", description="step noise: cleanlab's filter; the second refuses less, and less wrongly"
    )
    max_imbalance: Annotated[float, Field(ge=1)] = Field(
        5.0, description="step balance: the most frequent label's rows over the rarest's"
    )
    calibration: Literal["batch", "contextual", "none"] = Field(
        "batch", description="of label scores: by the batch's mean, by what an empty input scores, or as they are"
    )
    gold: str | None = Field(None, description="a JSONL file of labels that people gave: text, task, label")
