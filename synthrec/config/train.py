"""Fine-tuning on the curated labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthrec.config.base import Counts, Fraction, Positive, Settings


class CrossEncoderModel(Settings):
    """Query and product read together, graded as the LLM graded them: it reranks, and can teach the bi-encoder."""

    epochs: Positive = 3
    batch_size: Positive = Field(16, description="queries per worker and step, each with all its graded products")
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    rank_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="of RankNet over the products of a query, beside cross-entropy against the grades"
    )
    max_tokens: Positive = Field(128, description="of query and product together")


class ClassifierModel(Settings):
    """A head for each question over hashed character n-grams, learnt from the labels that the LLM chose."""

    tasks: tuple[str, ...] = Field(
        ("sentiment", "intent"), description="whose labels it learns, of all their questions; own tasks too"
    )
    epochs: Positive = 20
    batch_size: Positive = Field(16, description="texts per worker and step")
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    width: Annotated[int, Field(ge=0)] = Field(0, description="of a layer that all heads share; 0: linear heads")
    dropout: Fraction = Field(0.3, description="share of a text's n-grams that is hidden while it learns")
    buckets: Positive = Field(2**16, description="that n-grams are hashed to")


class Train(Settings):
    """Fine-tuning of the bi-encoder, and of what else learns from the curated labels."""

    encoder: str = Field("embedded", description="'embedded', a path, or a hub name")
    workers: Positive | Counts = Field(
        2, description="DDP ranks; [fewest, most]: as many as there is room for, changed from epoch to epoch"
    )
    use_gpu: bool = Field(False, description="a GPU a rank, and NCCL between them")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where it is fast")
    epochs: Positive = 4
    batch_size: Positive = Field(32, description="pairs per worker and step; negatives come from all workers")
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    new_token_learning_rate: Annotated[float, Field(gt=0)] = Field(
        1e-3, description="of embeddings with new characters"
    )
    warmup: Fraction = Field(0.1, description="share of the steps")
    temperature: Annotated[float, Field(gt=0)] = Field(0.05, description="of InfoNCE")
    hard_negatives: Annotated[int, Field(ge=0)] = Field(
        0, description="of each pair, mined from the whole catalogue and learnt beside the batch's; 0: none"
    )
    negative_margin: Fraction = Field(
        0.95, description="a mined negative scores below this share of what the pair's product scores"
    )
    false_negatives: Fraction | None = Field(
        None, description="a negative above this share of the product's score is left out of a step; null: none is"
    )
    distil: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the cross-encoder's margins over mined negatives; it is trained first"
    )
    matryoshka: tuple[Positive, ...] = Field(
        (), description="smaller widths that vectors may be cut to later; the whole width is always learnt"
    )
    chunk_tokens: Annotated[int, Field(ge=0)] = Field(
        0, description="for batches larger than memory: activations of so many tokens are held at once; 0: all"
    )
    max_query_tokens: Positive = 32
    max_product_tokens: Positive = 96
    text_pairs: bool = Field(True, description="also learn title -> rest of the product text")
    extend_vocabulary: bool = Field(True, description="add the corpus's characters that the encoder cannot read")
    max_failures: Annotated[int, Field(ge=-1)] = Field(3, description="lost workers to survive; -1: any number")
    track: Literal["none", "tensorboard", "mlflow"] = Field(
        "none", description="where losses and validations are told too; tensorboard: RUN_DIR/logs"
    )
    models: tuple[Literal["cross_encoder", "classifier"], ...] = Field(
        ("classifier",), description="trained beside the bi-encoder, each where the run has labels for it"
    )
    cross_encoder: CrossEncoderModel = CrossEncoderModel()
    classifier: ClassifierModel = ClassifierModel()

    @property
    def ranks(self) -> tuple[int, int]:
        """Fewest and most workers."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)

    @model_validator(mode="after")
    def _distils_something(self) -> Train:
        if self.distil and not (self.hard_negatives and "cross_encoder" in self.models):
            raise ValueError("distil needs hard_negatives, and cross_encoder among models: margins are its, over these")
        return self
