"""Recommenders of the next product."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthrec.config.base import Fraction, Positive, Settings
from synthrec.config.search import Between, Searchable, Space


class NextModel(Searchable):
    """Training of a model of what shoppers take next; workers, precision and GPUs are those of `train`."""

    epochs: Positive = Field(100, description="at most; it stops earlier when the validation says so")
    patience: Positive = Field(10, description="epochs without a better validation before it stops")
    batch_size: Positive = Field(128, description="rows per worker and step")
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    width: Positive = Field(64, description="of vectors of shoppers and products")
    text: bool = Field(True, description="know products by their text too, as the fine-tuned encoder reads it")


class SequentialModel(NextModel):
    """A causal transformer over what a shopper took (SASRec)."""

    blocks: Positive = Field(1, description="layers of the transformer")
    heads: Positive = Field(1, description="of attention, a divisor of width")
    longest: Positive = Field(50, description="last steps of a history that are read")
    dropout: Fraction = Field(0.5, description="share of what the model sees that is hidden while it learns")
    ids: bool = Field(True, description="products that were taken also get an embedding of their own")
    negatives: Annotated[int, Field(ge=0)] = Field(0, description="products sampled a batch; 0: softmax over all")
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        0.07, description="scores are cosines over it; null: dot products, which did worse on every set tried"
    )
    gbce: Fraction | None = Field(
        None, description="with negatives, gBCE instead of softmax: how far, of 1, it is calibrated; null: softmax"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="of AdamW; embeddings have none")
    search: Space = Field(
        {
            "learning_rate": Between(low=3e-4, high=1e-2, log=True),
            "width": [32, 64, 128],
            "dropout": Between(low=0.1, high=0.7),
            "temperature": Between(low=0.03, high=0.2, log=True),
        },
        description="what `synthrec tune` tries: of each setting a list, or {low, high, log}",
    )

    @model_validator(mode="after")
    def _gbce_samples(self) -> SequentialModel:
        if self.gbce is not None and not self.negatives:
            raise ValueError("gbce is a loss over sampled products: set negatives")
        return self


class GraphModel(NextModel):
    """LightGCN over the graph of who took what. It cannot score what nobody took."""

    batch_size: Positive = Field(1024, description="interactions per worker and step")
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    layers: Positive = Field(3, description="steps of smoothing over the graph")
    draws: Positive = Field(8, description="products drawn for each negative; the highest-scored is taken")
    l2: Annotated[float, Field(ge=0)] = Field(1e-4, description="weight of the vectors' squared length")
    search: Space = Field(
        {
            "learning_rate": Between(low=1e-3, high=5e-2, log=True),
            "width": [32, 64, 128],
            "layers": Between(low=1, high=4),
            "draws": [1, 4, 8, 16],
            "l2": Between(low=1e-6, high=1e-3, log=True),
        },
        description="what `synthrec tune` tries: of each setting a list, or {low, high, log}",
    )


class Recommend(Settings):
    """Recommenders of the next product, learnt from the shop's interactions and judged on what shoppers took next."""

    models: tuple[Literal["sequential", "graph"], ...] = Field((), description="which to train; none: no such stages")
    events: tuple[Literal["view", "cart", "purchase"], ...] = Field(
        ("view", "cart", "purchase"), description="interactions that are steps of a sequence"
    )
    split: Literal["leave_one_out", "temporal"] = Field(
        "leave_one_out", description="test on each shopper's last step, or on all after one moment"
    )
    temporal_shares: tuple[Fraction, Fraction] = Field(
        (0.8, 0.9), description="of all interactions, before the validation and before the test"
    )
    filter_viewed: bool = Field(True, description="never recommend what the shopper has already taken")
    sessions: bool = Field(True, description="the sequential model also learns the LLM's sessions (task `session`)")
    sessions_weight: Annotated[float, Field(gt=0)] = Field(
        1.0, description="of all steps of these sessions together, at most, over that of all real ones"
    )
    sequential: SequentialModel = SequentialModel()
    graph: GraphModel = GraphModel()

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Recommend:
        """Of what is configured: a search may try what does not fit together, and says which trial failed."""
        own = self.sequential
        if own.width % own.heads:
            raise ValueError(f"sequential.heads: {own.heads} of them do not divide width {own.width}")
        return self

    @model_validator(mode="after")
    def _shares_ascend(self) -> Recommend:
        first, second = self.temporal_shares
        if not 0 < first < second < 1:
            raise ValueError("temporal_shares: the first is to be below the second, and both between 0 and 1")
        return self
