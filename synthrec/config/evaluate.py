"""Real judgments."""

from __future__ import annotations

from pydantic import Field

from synthrec.config.base import Fraction, Positive, Settings


class NextItem(Settings):
    """Judgments from behaviour: the last product bought is the query, the next one bought is the answer."""

    path: str = Field(description="a Parquet file whose rows hold a history and a target")
    tune_path: str | None = Field(None, description="earlier behaviour to tune on; null: a share of path")
    history: str = Field("history", description="column of product ids, oldest first")
    target: str = Field("target", description="column of the next product's id")
    padding: str = Field("", description="an id that marks an empty place in a history")
    max_queries: Positive | None = Field(None, description="to test on; null: all")
    max_tune_queries: Positive | None = Field(1000, description="to tune on; null: all")


class Evaluate(Settings):
    """Real judgments. Synthetic rows are never a test."""

    judgments: str | None = Field(None, description="JSONL: query, language, E, S, C, I (lists of product ids)")
    next_item: NextItem | None = Field(None, description="judgments from what shoppers bought next")
    tune_share: Fraction = Field(0.33, description="of the judged queries, for BM25 and fusion; the rest are the test")
    bootstrap: Positive = Field(2000, description="resamples behind each interval")
    sentiment_from_ratings: bool = Field(True, description="hold the LLM's sentiment against the ratings")
