"""One YAML file -> frozen settings. Every default is written once, here, with its reason where it has one."""

from __future__ import annotations

import difflib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthrec.errors import UserError

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
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Values = Annotated[list[str], Field(min_length=1)]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Source(Settings):
    """Files of one kind of record."""

    path: str = Field(description="a file, a folder, or a glob, on any pyarrow filesystem")
    format: Literal["auto", "parquet", "csv", "jsonl"] = Field("auto", description="auto: by the file's name")
    encoding: str = Field("utf-8", description="of CSV and JSONL")
    columns: dict[str, str] = Field({}, description="our name: the column's name in your files")


class Sources(Settings):
    """The shop's files. Products are needed; the rest may be left out."""

    products: Source = Field(description="product_id, title, description, brand, category, attributes, price, language")
    reviews: Source | None = Field(
        None, description="review_id, product_id, text, rating, user_id, timestamp, language"
    )
    searches: Source | None = Field(None, description="search_id, query, clicks, user_id, timestamp, language")
    interactions: Source | None = Field(
        None, description="user_id, product_id, event (view, cart, purchase), timestamp"
    )
    dialogues: Source | None = Field(None, description="dialogue_id, turns (role, text), user_id, product_id, ...")

    def given(self) -> dict[str, Source]:
        return {name: source for name in type(self).model_fields if (source := getattr(self, name)) is not None}


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


class Prepare(Settings):
    """Reading and checking the shop's files."""

    max_field_chars: Positive = Field(20_000, description="a row with a longer text is refused")
    max_reject_rate: Fraction = Field(0.5, description="above it the files are not what this config says, and we stop")


class Resources(Settings):
    """How the LLM is laid out on the cluster. Changing these never redoes finished rows."""

    actors: tuple[Positive, Positive] = Field((1, 1), description="fewest and most copies of the LLM")
    cpus: Annotated[float, Field(gt=0)] = Field(
        1, description="set aside a copy; Ray Data needs some for its own tasks"
    )
    gpus: Annotated[float, Field(ge=0)] = Field(0, description="a copy; a half lets two share one")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads a copy; 0: all cores")
    batch_size: Positive = Field(64, description="rows handed over at once: the grain of progress and of resuming")
    slots: Positive = Field(8, description="llamacpp, vllm: sequences decoded together")
    tensor_parallel: Positive = Field(1, description="vllm: GPUs that hold one copy together")


class Server(Settings):
    """Engine openai: a server that speaks OpenAI's API. Text leaves this cluster for it, so it must be named here."""

    url: str = Field(description="up to and with /v1", pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="the environment variable that holds the key, where it runs"
    )
    style: Literal["completion", "chat"] = Field("completion", description="chat: for models that only chat")
    concurrency: Positive = Field(16, description="requests under way at once, a copy of the engine")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(120, description="of one request")
    retries: Annotated[int, Field(ge=0)] = Field(6, description="of a request that met a busy or lost server")


class Prices(Settings):
    """What a million tokens cost, for accounts and budgets of money."""

    prompt: Annotated[float, Field(ge=0)] = Field(description="a million tokens read")
    completion: Annotated[float, Field(ge=0)] = Field(description="a million tokens written")
    currency: str = Field("USD", description="of these prices, and of a budget of money")


class Engine(Settings):
    """The LLM."""

    kind: Literal["llamacpp", "transformers", "vllm", "openai", "fake"] = Field(
        "llamacpp", description="llamacpp: a GGUF file; transformers, vllm: a hub's model; openai: a server; fake: none"
    )
    model: str = Field(
        "embedded", description="'embedded', a path, a hub name (transformers), the server's name for it"
    )
    server: Server | None = Field(None, description="engine openai: where it is")
    prices: Prices | None = Field(None, description="what tokens cost; null: nothing is said of money")
    chat: bool = Field(False, description="instruct models: each prompt is a user's turn in the model's chat template")
    context: Positive = Field(768, description="tokens of prompt and answer together")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="transformers: auto takes the fastest here"
    )
    options: dict[str, Any] = Field({}, description="vllm: more engine arguments; fake: seconds, parallel")
    resources: Resources = Resources()


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


class Budget(Settings):
    """Limits of all tasks together. At a limit synthesis stops, and what is done is published; raise it to go on."""

    rows: Positive | None = Field(None, description="answers; null: no limit")
    tokens: Positive | None = Field(None, description="read and written; null: no limit")
    seconds: Annotated[float, Field(gt=0)] | None = Field(None, description="of one run; null: no limit")
    money: Annotated[float, Field(gt=0)] | None = Field(None, description="by engine.prices; null: no limit")


class Synthesize(Settings):
    """Labels from the LLM."""

    engine: Engine = Engine()
    tasks: Tasks = Tasks(queries=QueriesTask(), relevance=RelevanceTask(), sentiment=SentimentTask())
    own_tasks: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], OwnTask] = Field(
        {}, description="name: a task of your own, in YAML alone or with a Python file; see docs/tasks.md"
    )
    max_failure_rate: Fraction = Field(0.5, description="of answers of no use; above it the job stops and says why")
    failure_window: Positive = Field(200, description="the last so many answers are judged, once there are so many")
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _money_has_prices(self) -> Synthesize:
        if self.budget.money is not None and self.engine.prices is None:
            raise ValueError("budget.money needs engine.prices: what a million tokens cost")
        if taken := set(self.own_tasks) & set(Tasks.model_fields):
            raise ValueError(f"own_tasks: {', '.join(taken)} is a task of synthrec's; choose another name")
        return self


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
    workers: Positive | tuple[Positive, Positive] = Field(
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
    def _fewest_first(self) -> Train:
        if self.ranks[0] > self.ranks[1]:
            raise ValueError("workers: the fewest are more than the most")
        return self

    @model_validator(mode="after")
    def _distils_something(self) -> Train:
        if self.distil and not (self.hard_negatives and "cross_encoder" in self.models):
            raise ValueError("distil needs hard_negatives, and cross_encoder among models: margins are its, over these")
        return self


class NextModel(Settings):
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
    sequential: SequentialModel = SequentialModel()
    graph: GraphModel = GraphModel()


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


class Package(Settings):
    """What the bundle holds."""

    encoder: Literal["auto", "int8", "float32", "static"] = Field(
        "auto",
        description="auto: int8 if judgments show that it costs no more than max_loss, else float32; "
        "static: a vector a token, the fastest and the least exact",
    )
    max_loss: Fraction = Field(0.01, description="auto: share of NDCG@10 that int8 may cost on the queries to tune on")
    brands: bool = Field(True, description="also a search over brands, where products have some")
    max_replies: Annotated[int, Field(ge=0)] = Field(
        20_000, description="past replies to find answers among, the latest; 0: none, nor in an encrypted run"
    )


class Index(Settings):
    """The index that the endpoint searches."""

    exact: Annotated[int, Field(ge=0)] = Field(20_000, description="products up to which vectors are compared with all")
    delta: Positive = Field(2_000, description="live changes that start a new snapshot")
    vectors: Annotated[str, Field(pattern=r"^qdrants?://[^/?#@\s]+(/[A-Za-z0-9_-]+)?$")] | None = Field(
        None,
        description="who finds the bundle's nearest vectors; null: each replica; qdrant://host:6333/prefix: a Qdrant "
        "server (qdrants: TLS), whose collections have names with this prefix",
    )


class Serve(Settings):
    """The endpoint."""

    host: str = Field("127.0.0.1", description="a wider address than loopback needs `keys`")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="0: any free one")
    keys: str | None = Field(None, description="file of API keys (`synthrec keys add`); null: loopback only, open")
    store: str | None = Field(
        None, description="where events and live products are kept; null: SQLite in the run directory"
    )
    index: Index = Index()
    replicas: tuple[Positive, Positive] = Field((1, 2), description="fewest and most that answer requests")
    encoder: Literal["inside", "apart"] = Field(
        "inside", description="queries are encoded in the replicas that answer, or in replicas of their own, as on GPUs"
    )
    encoder_replicas: tuple[Positive, Positive] = Field((1, 2), description="apart: fewest and most")
    cpus: Annotated[float, Field(gt=0)] = Field(0.5, description="set aside for a replica")
    encoder_gpus: Annotated[float, Field(ge=0)] = Field(0, description="apart: of an encoder's replica")
    max_ongoing_requests: Positive = Field(16, description="worked on at once by a replica")
    max_queued_requests: Annotated[int, Field(ge=0)] = Field(
        8, description="waiting at a replica; who comes then gets 503 and Retry-After"
    )
    target_ongoing_requests: Annotated[float, Field(gt=0)] = Field(
        16, description="a replica; above it Ray starts more of them"
    )
    retry_after_seconds: Positive = Field(1, description="what a 503 asks to wait")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(10, description="a request; then 504")
    drain_seconds: Annotated[float, Field(ge=0)] = Field(20, description="for what a stopping replica has in hand")
    batch_size: Positive = Field(32, description="queries encoded together")
    batch_wait_seconds: Annotated[float, Field(ge=0)] = Field(0.005, description="apart: to wait for a batch to fill")
    rerank_depth: Positive = Field(20, description="hits that the cross-encoder reads, where a search asks for it")
    max_body_bytes: Positive = Field(1_000_000, description="of a request; more is 413")
    max_json_depth: Positive = Field(16, description="levels of a request's JSON; more is 400")
    rate: Annotated[float, Field(gt=0)] = Field(200, description="requests a second of a key, at each replica")
    burst_seconds: Annotated[float, Field(gt=0)] = Field(2, description="of unused rate that a key may save up")
    poll_seconds: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="between a replica's looks for changed products and bundles"
    )
    floor: Fraction | None = Field(None, description="NDCG@10 below which a bundle is refused; null: none")
    log_queries: bool = Field(False, description="log what was searched, personal data masked")


class Storage(Settings):
    """The run directory on the disk."""

    encrypt: bool = Field(
        False, description="seal every file but the bundle's and logs (AES-256-GCM); see docs/privacy.md"
    )
    key: Annotated[str, Field(pattern=r"^(env|file|hook):.+")] = Field(
        "env:SYNTHREC_STORAGE_KEY",
        description="env:NAME, file:PATH or hook:package.module:function; never the key itself",
    )

    @property
    def key_source(self) -> str | None:
        """Where the key is; None where nothing is encrypted."""
        return self.key if self.encrypt else None


class Config(Settings):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = Field(
        description="of the run, in its report"
    )
    run_dir: str = Field(description="where every stage publishes; a path or a URI")
    seed: int = Field(13, description="of every random choice")
    sources: Sources
    privacy: Privacy = Privacy()
    storage: Storage = Storage()
    prepare: Prepare = Prepare()
    synthesize: Synthesize = Synthesize()
    curate: Curate = Curate()
    train: Train = Train()
    recommend: Recommend = Recommend()
    evaluate: Evaluate = Evaluate()
    package: Package = Package()
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
    return _checked(str(path), data, overrides)


def _checked(path: str, data: dict[str, Any], overrides: list[str] | None) -> Config:
    for override in overrides or []:
        _set(data, override)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise UserError(*_explain(path, error)) from None
    check_egress(config)
    return config


def check_egress(config: Config) -> None:
    """Raise UserError if text would leave for a host that the config does not allow."""
    engine = config.synthesize.engine
    if engine.kind != "openai" or engine.server is None:
        return
    host = (urlsplit(engine.server.url).hostname or "").lower()
    if not _loopback(host) and host not in {one.lower() for one in config.privacy.allow_hosts}:
        raise UserError(
            f"synthesize.engine.server.url: text would go to {host}, which privacy.allow_hosts does not name",
            f"if it may, set privacy.allow_hosts: [{host}]",
        )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def defaults(overrides: list[str] | None = None) -> dict[str, Any]:
    """Every setting with its default, for a shop whose products are in products.jsonl."""
    given: dict[str, Any] = {
        "name": "shop",
        "run_dir": "runs/shop",
        "sources": {"products": {"path": "products.jsonl"}},
    }
    return _checked("the defaults", given, overrides).model_dump(mode="json")


def commented(values: dict[str, Any], model: type[BaseModel] = Config, indent: str = "") -> str:
    """Settings as YAML, each with its description beside it."""
    lines = []
    for key, value in values.items():
        field = model.model_fields[key]
        note = field.description or ""
        inner = _group(field.annotation)
        if inner is not None and value is not None:
            note = note or (inner.__doc__ or "").split("\n")[0]
            lines += [f"{indent}{key}:  # {note}", commented(value, inner, indent + "  ")]
        else:
            told = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=1000)
            lines.append(
                f"{indent}{key}: {told.removesuffix('...' + chr(10)).strip()}" + (f"  # {note}" if note else "")
            )
    return "\n".join(lines)


def _group(annotation: Any) -> type[BaseModel] | None:
    """The group of settings that a field holds, if it holds one."""
    options = (annotation, *(() if get_origin(annotation) is dict else get_args(annotation)))
    return next((one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), None)


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
    lines, hint = [], "`synthrec config` prints every key"
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
    annotation: Any = Config
    for part in loc:
        if get_origin(annotation) is dict:  # of groups that the user names
            annotation = get_args(annotation)[1]
            continue
        model = _group(annotation)
        if model is None or part not in model.model_fields:
            return []
        annotation = model.model_fields[part].annotation
    model = _group(annotation)
    return [] if model is None else list(model.model_fields)
