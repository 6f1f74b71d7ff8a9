"""Personal data."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from synthrec.config.base import Fraction, Positive, Settings

PiiKind = Literal[
    "email",
    "phone",
    "resident_id",
    "bank_card",
    "address",
    "order_no",
    "passport",
    "iban",
    "plate",
    "person",
    "chat_id",
    "ip",
    "private_link",
]


class Ner(Settings):
    """A model that finds names of people with nothing around them: a token classifier, one copy a worker, on CPUs."""

    model: str = Field(description="a folder, or a hub's name, that AutoModelForTokenClassification loads")
    labels: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("PER", "PERSON"), description="which count as people, without B- and I-"
    )
    threshold: Fraction = Field(0.5, description="how likely these must be; less finds more, and more that is no name")
    batch_size: Positive = Field(32, description="texts read at once")


class Privacy(Settings):
    """Personal data to replace by pseudonyms. The key: $SYNTHREC_PRIVACY_KEY, else ~/.config/synthrec/privacy.key."""

    kinds: tuple[PiiKind, ...] = Field(get_args(PiiKind), description="what to look for")
    products: bool = Field(True, description="also in product texts, where a seller may have written a phone number")
    reversible: bool = Field(
        False, description="keep what pseudonyms stand for, encrypted under the privacy key, for `synthrec reveal`"
    )
    allow_hosts: tuple[str, ...] = Field(
        (), description="servers that engine openai may send prepared text to, by name; loopback needs no leave"
    )
    ner: Ner | None = Field(None, description="find names with a model as well: {model: FOLDER}")
    k: Positive = Field(
        1,
        description="a search is kept if so many shoppers typed it; 1: all are, as in a small shop most are one's own",
    )

    @model_validator(mode="after")
    def _names_are_wanted(self) -> Privacy:
        if self.ner and "person" not in self.kinds:
            raise ValueError("ner finds people, and kinds leaves out person")
        return self
