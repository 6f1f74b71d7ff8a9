"""One YAML file -> frozen settings. Every default is written once, here, with its reason where it has one."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthrec.errors import UserError

PiiKind = Literal["email", "phone", "resident_id", "bank_card", "address", "order_no"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Source(Settings):
    """Files of one kind of record."""

    path: str = Field(description="a file, a folder, or a glob, on any pyarrow filesystem")
    format: Literal["auto", "parquet", "csv", "jsonl"] = "auto"
    encoding: str = "utf-8"
    columns: dict[str, str] = Field(default={}, description="our name -> the column's name in your files")


class Sources(Settings):
    products: Source
    reviews: Source | None = None
    searches: Source | None = None
    interactions: Source | None = None
    dialogues: Source | None = None

    def given(self) -> dict[str, Source]:
        return {name: source for name in type(self).model_fields if (source := getattr(self, name)) is not None}


class Privacy(Settings):
    kinds: tuple[PiiKind, ...] = get_args(PiiKind)


class Prepare(Settings):
    max_field_chars: Positive = 20_000
    max_reject_rate: Fraction = 0.5  # above it the files are probably not what the config says


class Resources(Settings):
    """How the LLM is laid out on the cluster. Changing these never redoes finished rows."""

    actors: tuple[Positive, Positive] = Field(default=(1, 1), description="fewest and most engine actors")
    cpus: Annotated[float, Field(gt=0)] = 1  # one of two cores: Ray Data needs the other for its own tasks
    gpus: Annotated[float, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=0)] = Field(default=0, description="CPU threads an actor; 0: all cores")
    batch_size: Positive = 64
    slots: Positive = 8


class Engine(Settings):
    kind: Literal["llamacpp", "transformers"] = "llamacpp"
    model: str = Field(default="embedded", description="'embedded', a path, or (transformers) a hub name")
    context: Positive = 768
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    resources: Resources = Resources()


class QueriesTask(Settings):
    per_product: Positive = 3
    max_products: Positive | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.7
    top_p: Fraction = 0.95
    max_tokens: Positive = 20


class RelevanceTask(Settings):
    candidates: Annotated[int, Field(ge=0)] = Field(
        default=1, description="rival products scored beside each query's own"
    )
    max_queries: Positive | None = None


class SentimentTask(Settings):
    max_reviews: Positive | None = None


class Tasks(Settings):
    """The tasks to run; a task left out or null is not run."""

    queries: QueriesTask | None = None
    relevance: RelevanceTask | None = None
    sentiment: SentimentTask | None = None


class Synthesize(Settings):
    engine: Engine = Engine()
    tasks: Tasks = Tasks(queries=QueriesTask(), relevance=RelevanceTask(), sentiment=SentimentTask())
    max_failure_rate: Fraction = 0.5  # over the last window of rows; above it the job stops and says why
    failure_window: Positive = 200


class Curate(Settings):
    min_words: Positive = 2
    max_chars: Positive = 120
    max_copy: Fraction = 0.9  # share of a query's words that stand, in order, in the title
    roundtrip_k: Positive = 10
    roundtrip_encoder: str = "embedded"
    min_relevance: Fraction = 0.0  # the embedded 270M model's relevance score is too weak to refuse rows by


class Train(Settings):
    encoder: str = Field(default="embedded", description="'embedded', a path, or a hub name")
    workers: Positive = 2
    use_gpu: bool = False
    epochs: Positive = 4
    batch_size: Positive = Field(default=32, description="pairs per worker and step")
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    new_token_learning_rate: Annotated[float, Field(gt=0)] = 1e-3  # embeddings of added characters start unlearnt
    warmup: Fraction = 0.1
    temperature: Annotated[float, Field(gt=0)] = 0.05
    max_query_tokens: Positive = 32
    max_product_tokens: Positive = 96
    text_pairs: bool = Field(default=True, description="also learn title -> rest of the product text")
    extend_vocabulary: bool = Field(
        default=True, description="add the corpus's characters that the encoder cannot read"
    )
    max_failures: Annotated[int, Field(ge=-1)] = 3


class NextItem(Settings):
    """Judgments from behaviour: the last product bought is the query, the next one bought is the answer."""

    path: str
    tune_path: str | None = Field(default=None, description="earlier behaviour to tune on; None: a share of path")
    history: str = "history"
    target: str = "target"
    padding: str = Field(default="", description="an id that marks an empty place in a history")
    max_queries: Positive | None = None
    max_tune_queries: Positive | None = 1000


class Evaluate(Settings):
    judgments: str | None = Field(default=None, description="JSONL: query, language, E, S, C, I (lists of product ids)")
    next_item: NextItem | None = None
    tune_share: Fraction = 0.33  # of the judged queries, to tune BM25 and fusion; the rest are the test
    bootstrap: Positive = 2000
    sentiment_from_ratings: bool = True


class Serve(Settings):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    replicas: tuple[Positive, Positive] = (1, 2)
    max_ongoing_requests: Positive = 64
    batch_size: Positive = 32
    batch_wait_seconds: Annotated[float, Field(ge=0)] = 0.005


class Config(Settings):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    run_dir: str
    seed: int = 13
    sources: Sources
    privacy: Privacy = Privacy()
    prepare: Prepare = Prepare()
    synthesize: Synthesize = Synthesize()
    curate: Curate = Curate()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()


def load(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a config file.

    Args:
        path: the YAML file. Relative paths inside it are relative to the working directory.
        overrides: `dotted.key=value` settings that win over the file; values are YAML.

    Raises:
        UserError: naming the file and the key, and what would be right.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no config file {path}", "start from configs/store.yaml") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "give a file such as configs/store.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}", "compare it with configs/store.yaml") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no settings", "start from configs/store.yaml")
    for override in overrides or []:
        _set(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise UserError(*_explain(str(path), error)) from None


def defaults() -> dict[str, Any]:
    """Every setting with its default, for a shop whose products are in products.jsonl."""
    given = {"name": "shop", "run_dir": "runs/shop", "sources": {"products": {"path": "products.jsonl"}}}
    return Config.model_validate(given).model_dump(mode="json")


def _set(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set {override}: no '='", "write it as --set train.epochs=3")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        if data.get(parent) is None:
            data[parent] = {}
        data = data[parent]
        if not isinstance(data, dict):
            raise UserError(f"--set {override}: {parent} is not a group of settings", "check the dotted key")
    try:
        data[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not YAML: {error}", "quote it, or mend its brackets") from None


def _explain(path: str, error: ValidationError) -> tuple[str, str]:
    lines, hint = [], "see docs/configuration.md or `synthrec config --defaults` for every key"
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key '{key}'")
            near = difflib.get_close_matches(str(one["loc"][-1]), _known(one["loc"][:-1]), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"keys here: {', '.join(_known(one['loc'][:-1]))}"
        elif one["type"] == "missing":
            lines.append(f"{path}: key '{key}' is required")
        else:
            lines.append(f"{path}: {key}: {one['msg']} (it is {one['input']!r:.80})")
    return "\n".join(lines), hint


def _known(loc: tuple[Any, ...]) -> list[str]:
    model: Any = Config
    for part in loc:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return []
        kind = fields[part].annotation
        options = [a for a in (kind, *get_args(kind)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not options:
            return []
        model = options[0]
    return list(model.model_fields)
