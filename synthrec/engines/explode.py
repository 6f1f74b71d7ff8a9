"""One row -> the requests that an engine of continuations needs for it; their outcomes -> the row's answer.

Pure functions over tokens and Arrow tables: they know no vLLM and no Ray.

A row that is to be written is one request. A row with choices is one request for each place where its choices part: the
log-probabilities of the next tokens are asked there, and a choice's score is the sum along its tokens. Choices of one
token all part at the prompt's end, so that row is one request, however many choices it has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from synthrec.engines.base import Answer, Sampling, no_choice, normalised, with_tokens

ASKED = ("prompt", "choices", "blank", "sampling", "seed")  # columns that a row loses
ANSWERED = (  # columns that it gains
    pa.field("text", pa.string()),
    pa.field("logprobs", pa.list_(pa.float64())),
    pa.field("prior", pa.list_(pa.float64())),
    pa.field("prompt_tokens", pa.int32()),
    pa.field("completion_tokens", pa.int32()),
    pa.field("error", pa.string()),
)
REQUESTS = pa.schema(
    [
        pa.field("carry", pa.binary()),  # the rows themselves, on the first request of a batch alone
        pa.field("request", pa.int32()),
        pa.field("tokenized_prompt", pa.list_(pa.int32())),
        pa.field("params", pa.string()),  # JSON of what vLLM's SamplingParams take
        # Ray's name. A row in which it is not empty passes the engine by: so travels `carry`.
        pa.field("__inference_error__", pa.string()),
    ]
)
CAME_BACK = ("carry", "request", "outcome", "__inference_error__")
CARRIED = "carried"
PLAN, PRIOR = "__plan", "__prior"  # columns of the carried table
MOST_SCORED = 128  # tokens whose log-probabilities vLLM gives at once


class Reader(Protocol):
    """How text becomes a model's tokens."""

    def head(self, prompt: str) -> list[int]: ...

    def tail(self, choice: str) -> list[int]:
        """The tokens of a choice where it follows a prompt."""
        ...


@dataclass(frozen=True)
class Request:
    tokens: tuple[int, ...]
    params: str


@dataclass(frozen=True)
class Outcome:
    """What the engine said to one request."""

    text: str = ""
    completion_tokens: int = 0
    logprobs: Mapping[int, float] = field(default_factory=dict)  # of the tokens asked for
    error: str | None = None


@dataclass(frozen=True)
class Plan:
    """How one prompt's answer is made from outcomes, which it names by their requests' numbers."""

    error: str | None = None
    prompt_tokens: int = 0
    write: int | None = None
    choices: Sequence[Sequence[tuple[int, int]]] = ()  # for each choice: (request, token) along its tokens


class Planner:
    """Plans the prompts of one batch, and gathers their requests. What is scored twice is asked once."""

    def __init__(self, reader: Reader, context: int) -> None:
        self.requests: list[Request] = []
        self._reader, self._context = reader, context
        self._scored: dict[Request, int] = {}

    def write(self, prompt: str, sampling: Sampling, seed: int) -> Plan:
        head = self._reader.head(prompt)
        if wrong := self._misfit(len(head)):
            return Plan(error=wrong)
        self.requests.append(Request(tuple(head), json.dumps(_written(sampling, seed))))
        return Plan(prompt_tokens=len(head), write=len(self.requests) - 1)

    def choose(self, prompt: str, choices: Sequence[str]) -> Plan:
        head = self._reader.head(prompt)
        tails = [self._reader.tail(choice) for choice in choices]
        if not tails or not all(tails):
            return Plan(error=no_choice(choices))
        if wrong := self._misfit(len(head) and len(head) + max(map(len, tails)) - 1):
            return Plan(error=wrong)
        asked: dict[tuple[int, ...], dict[int, None]] = {}  # after these tokens: the tokens to score, in order
        for tail in tails:
            for place, token in enumerate(tail):
                asked.setdefault(tuple(tail[:place]), {})[token] = None
        numbers = {
            (after, token): number
            for after, tokens in asked.items()
            for number, part in self._score((*head, *after), list(tokens))
            for token in part
        }
        paths = [[(numbers[tuple(t[:place]), token], token) for place, token in enumerate(t)] for t in tails]
        return Plan(prompt_tokens=len(head), choices=paths)

    def _score(self, tokens: tuple[int, ...], wanted: list[int]) -> list[tuple[int, list[int]]]:
        """The requests that give the next-token scores of `wanted`, and what each of them gives."""
        found = []
        for start in range(0, len(wanted), MOST_SCORED):
            part = wanted[start : start + MOST_SCORED]
            request = Request(tokens, json.dumps(_scoring(part)))
            if request not in self._scored:
                self._scored[request] = len(self.requests)
                self.requests.append(request)
            found.append((self._scored[request], part))
        return found

    def _misfit(self, tokens: int) -> str | None:
        if 0 < tokens < self._context:
            return None
        return f"the prompt has {tokens} tokens, the context holds {self._context}"


def _written(sampling: Sampling, seed: int) -> dict[str, Any]:
    """What vLLM's SamplingParams take. Every kind of request has all keys: their rows share one Arrow type."""
    schema = sampling.schema
    return {
        "temperature": sampling.temperature,
        "top_p": max(sampling.top_p, 1e-6),  # vLLM wants it above zero
        "max_tokens": sampling.max_tokens,
        # Under a schema the grammar ends the answer. A stop string could cut it inside a text.
        "stop": [] if schema else list(sampling.stop),
        # Of every row, though a greedy one has no use for it: where some have none, Arrow makes all of them fractions.
        "seed": seed,
        "logprob_token_ids": None,
        "structured_outputs": {"json": schema} if schema else None,
    }


def _scoring(wanted: list[int]) -> dict[str, Any]:
    """One step, and of its log-probabilities, before any sampling, those of the tokens wanted."""
    return {**_written(Sampling(max_tokens=1, stop=()), 0), "logprob_token_ids": wanted}


def answer(plan: Plan, outcomes: Mapping[int, Outcome]) -> Answer:
    """The plan's answer. One request that failed, or whose outcome is lost, fails it."""
    if plan.error:
        return Answer(error=plan.error)
    numbers = [plan.write] if plan.write is not None else [n for path in plan.choices for n, _ in path]
    got = [outcomes.get(number, Outcome(error="the engine gave no answer")) for number in numbers]
    if wrong := next((one.error for one in got if one.error), None):
        return Answer(error=wrong[:500])
    if plan.write is not None:
        return Answer(got[0].text, prompt_tokens=plan.prompt_tokens, completion_tokens=got[0].completion_tokens)
    sums = [sum(outcomes[n].logprobs.get(token, -math.inf) for n, token in path) for path in plan.choices]
    if not all(map(math.isfinite, sums)):
        return Answer(error=f"the engine gave no score to some of the choices: {sums}"[:500])
    return Answer(logprobs=normalised(sums), prompt_tokens=plan.prompt_tokens)


def explode(batch: pa.Table, reader: Reader, context: int) -> pa.Table:
    """A batch of rows as REQUESTS, the first of which carries the rows. A row that cannot be asked is told when they
    come back.
    """
    if not batch.num_rows:
        return REQUESTS.empty_table()
    planner = Planner(reader, context)
    plans, priors = zip(*(_plan(row, planner) for row in batch.select(ASKED).to_pylist()), strict=True)
    carried = batch.drop_columns(list(ASKED))
    for name, column in ((PLAN, plans), (PRIOR, priors)):
        texts = [json.dumps(asdict(plan)) if plan else None for plan in column]
        carried = carried.append_column(name, pa.array(texts, pa.string()))
    rows: list[dict[str, Any]] = [{"carry": _packed(carried), "__inference_error__": CARRIED}]
    for number, request in enumerate(planner.requests):
        what = {"tokenized_prompt": list(request.tokens), "params": request.params, "__inference_error__": ""}
        rows.append({"request": number, **what})
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def _plan(row: dict[str, Any], planner: Planner) -> tuple[Plan, Plan | None]:
    """Of the row, and of its blank prompt."""
    try:
        if row["choices"] is None:
            given = json.loads(row["sampling"])
            return planner.write(row["prompt"], Sampling(**given | {"stop": tuple(given["stop"])}), row["seed"]), None
        prior = None if row["blank"] is None else planner.choose(row["blank"], row["choices"])
        return planner.choose(row["prompt"], row["choices"]), prior
    except Exception as error:  # one row's fault must not cost the job; it is kept with its row
        return Plan(error=f"{type(error).__name__}: {error}"[:500]), None


def regroup(table: pa.Table) -> pa.Table:
    """What came back of exploded batches -> their rows, answered: the columns of the input but ASKED, and ANSWERED.

    Args:
        table: rows with the columns CAME_BACK and others; `outcome` is the JSON of an Outcome, and absent where all
            failed. Those of a batch follow the row that carries it.
    """
    batches: list[tuple[bytes, dict[int, Outcome]]] = []
    for row in table.select([name for name in CAME_BACK if name in table.column_names]).to_pylist():
        if row.get("carry") is not None:
            batches.append((row["carry"], {}))
        elif batches:
            batches[-1][1][row["request"]] = _outcome(row)
    if not batches:
        return pa.table({})
    return pa.concat_tables([_answered(_unpacked(carry), outcomes) for carry, outcomes in batches])


def _outcome(row: dict[str, Any]) -> Outcome:
    if row["__inference_error__"]:
        return Outcome(error=row["__inference_error__"])
    given = json.loads(row["outcome"])
    return Outcome(**given | {"logprobs": {int(token): value for token, value in given["logprobs"].items()}})


def _answered(carried: pa.Table, outcomes: Mapping[int, Outcome]) -> pa.Table:
    def answers(column: str) -> list[Answer]:
        texts = carried[column].to_pylist()
        return [Answer() if text is None else answer(Plan(**json.loads(text)), outcomes) for text in texts]

    rows: list[dict[str, Any]] = []
    paid: set[str | None] = {None}
    for own, prior, plan in zip(answers(PLAN), answers(PRIOR), carried[PRIOR].to_pylist(), strict=True):
        whole = own if prior.error is None else Answer(error=own.error or prior.error)
        if plan not in paid:  # the first row that wanted it pays for it
            whole = with_tokens(whole, prior)
            paid.add(plan)
        rows.append(asdict(whole) | {"prior": None if whole.error else prior.logprobs})
    table = carried.drop_columns([PLAN, PRIOR])
    for column in ANSWERED:
        table = table.append_column(column, pa.array([row[column.name] for row in rows], column.type))
    return table


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpacked(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
