"""What the LLM is asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from synthrec.config.base import Fraction, Positive, Settings, Values


class QueriesTask(Settings):
    """Shopper queries written for products, each asked for with another quality of the product."""

    per_product: Positive = Field(3, description="queries asked for a product")
    max_products: Positive | None = Field(None, description="of the catalogue, picked by a hash; null: all")
    temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="0: the likeliest query, always the same")
    top_p: Fraction = Field(0.95, description="nucleus of the sampling")
    max_tokens: Positive = Field(20, description="of one query")


class RelevanceTask(Settings):
    """How well does a product fit a query: E exact, S substitute, C complement, I irrelevant? Scored, not written."""

    candidates: Annotated[int, Field(ge=0)] = Field(
        1, description="rivals scored beside each query's own product, first those on which retrievers disagree"
    )
    pool: Positive = Field(10, description="the first so many of each retriever are compared")
    pool_encoder: str | None = Field(
        None, description="the second retriever beside BM25: 'embedded', a path, a hub name; null: BM25 alone"
    )
    max_queries: Positive | None = Field(None, description="picked by a hash; null: all")


class SentimentTask(Settings):
    """Is a review's writer satisfied, and with what? Scored, not written."""

    aspects: bool = Field(False, description="also: which of quality, price, delivery, service, fit it is about")
    max_reviews: Positive | None = Field(None, description="picked by a hash; null: all")


class IntentTask(Settings):
    """What does a search want: which category, which attribute, how near to buying is the shopper? Scored."""

    candidates: Annotated[int, Field(ge=2)] = Field(5, description="categories and attributes offered at most")
    history: Annotated[int, Field(ge=0)] = Field(3, description="the shopper's earlier searches shown with it")
    max_shoppers: Positive | None = Field(None, description="whose searches are asked about, picked by a hash")


class ProfileTask(Settings):
    """A shopper's profile from reviews, searches and purchases: preferences as fields, and a sentence."""

    events: Positive = Field(8, description="the latest so many of each kind are shown")
    temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="0: the likeliest answer, always the same")
    max_tokens: Positive = Field(64, description="of one answer")
    max_shoppers: Positive | None = Field(None, description="picked by a hash; null: all")


class BrandTask(Settings):
    """A brand's profile from its products: what it is known for, and a sentence."""

    products: Positive = Field(6, description="so many of its products are shown")
    temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="0: the likeliest answer, always the same")
    max_tokens: Positive = Field(64, description="of one answer")
    max_brands: Positive | None = Field(None, description="picked by a hash; null: all")


class ReplyTask(Settings):
    """Customer-service replies: candidates written for a dialogue, and which past reply fits it."""

    write: Annotated[int, Field(ge=0)] = Field(2, description="replies written for a turn of a shopper")
    candidates: Annotated[int, Field(ge=0)] = Field(
        4, description="past replies scored for it, the one really given among them; 0: none"
    )
    turns: Positive = Field(4, description="the last so many turns are shown")
    temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="0: the likeliest reply, always the same")
    max_tokens: Positive = Field(48, description="of one reply")
    max_dialogues: Positive | None = Field(None, description="picked by a hash; null: all")


class SessionTask(Settings):
    """What would a shopper of this product look at next? For cold products and shoppers; only from the catalogue."""

    candidates: Annotated[int, Field(ge=2)] = Field(5, description="products offered: near ones, and one from afar")
    length: Positive = Field(3, description="products of a session after the first")
    max_products: Positive | None = Field(None, description="picked by a hash; null: all")


class OwnTask(Settings):
    """A task of your own: of these settings alone, or of a Python file that holds a Task."""

    file: str | None = Field(None, description="a Python file with one subclass of synthrec.tasks.Task")
    settings: dict[str, Any] = Field({}, description="given to the class in that file")
    reads: str | None = Field(
        None, description="product, review, search, dialogue, shopper, brand, or another task's name"
    )
    prompt: dict[str, str] = Field(
        {}, description="language: template with {text} and other {blanks} of the record; null: asks for the label"
    )
    labels: dict[str, list[str]] | list[str] | None = Field(
        None, description="to choose among, the same for all languages or by language; null: the LLM writes"
    )
    fields: dict[str, Literal["string", "number", "integer", "boolean"] | Values] | None = Field(
        None, description="typed fields to write: name: type, or the values allowed; null: plain text"
    )
    temperature: Annotated[float, Field(ge=0)] = Field(0.0, description="0: the likeliest answer, always the same")
    top_p: Fraction = Field(1.0, description="nucleus of the sampling")
    max_tokens: Positive = Field(64, description="of one answer")
    stop: tuple[str, ...] = Field(("\n",), description="an answer ends before these")
    max_records: Positive | None = Field(None, description="picked by a hash; null: all")

    @model_validator(mode="after")
    def _one_kind(self) -> OwnTask:
        if (self.file is None) == (self.reads is None):
            raise ValueError("give either file, or reads with labels, fields or a prompt")
        if self.file is None and not (self.labels or self.prompt):
            raise ValueError("give labels to choose among, or a prompt that the LLM is to continue")
        if self.labels and self.fields:
            raise ValueError("labels are chosen and fields are written: give one of them")
        if isinstance(self.labels, dict) and len({len(words) for words in self.labels.values()}) > 1:
            raise ValueError("labels: each language needs a word for each label, in the same order")
        if isinstance(self.labels, dict) and (silent := set(self.prompt) - set(self.labels)):
            raise ValueError(f"labels: no words in {', '.join(sorted(silent))}, which has a prompt")
        return self


class Tasks(Settings):
    """What to ask the LLM. A task left out or null is not run."""

    queries: QueriesTask | None = Field(None, description=str(QueriesTask.__doc__))
    relevance: RelevanceTask | None = Field(None, description=str(RelevanceTask.__doc__))
    sentiment: SentimentTask | None = Field(None, description=str(SentimentTask.__doc__))
    intent: IntentTask | None = Field(None, description=str(IntentTask.__doc__))
    profile: ProfileTask | None = Field(None, description=str(ProfileTask.__doc__))
    brand: BrandTask | None = Field(None, description=str(BrandTask.__doc__))
    reply: ReplyTask | None = Field(None, description=str(ReplyTask.__doc__))
    session: SessionTask | None = Field(None, description=str(SessionTask.__doc__))
