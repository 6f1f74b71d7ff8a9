"""Rows to requests and back, on a made-up model of characters; and how text becomes tokens."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_transformers_engine import make_tokenizer

from synthrec.engines import Sampling, explode, reader
from synthrec.engines.base import Answer, normalised
from synthrec.errors import UserError

CONTEXT = 40
LETTERS = "ab c"
FIELDS = pa.map_(pa.string(), pa.string())
ROWS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("task", pa.string()),
        pa.field("fields", FIELDS),
        pa.field("tags", pa.list_(pa.int32())),
        pa.field("prompt", pa.string()),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("blank", pa.string()),
        pa.field("sampling", pa.string()),
        pa.field("seed", pa.int64()),
    ]
)
KEPT = ["id", "task", "fields", "tags"]
GAINED = ["text", "logprobs", "prior", "prompt_tokens", "completion_tokens", "error"]
words = st.text(LETTERS, min_size=1, max_size=5)
prompts = st.text(LETTERS, min_size=1, max_size=CONTEXT + 4)


class Characters:
    """A character a token."""

    def head(self, prompt):
        return [ord(one) for one in prompt]

    tail = head


def logprob(before, token):
    """Of a made-up model: any token may follow anything, as likely as a hash says."""
    weights = {ord(one): 1 + hashlib.blake2b(bytes([*before, ord(one)])).digest()[0] for one in LETTERS}
    return math.log(weights[token] / sum(weights.values()))


def row(number, **given):
    base = {"id": str(number), "task": "t" if number % 2 else None, "fields": [("k", str(number))], "tags": [number]}
    asked = {"prompt": "a b", "sampling": json.dumps(asdict(Sampling())), "seed": number}
    return {**base, "choices": None, "blank": None, **asked, **given}


def batch(rows):
    return pa.Table.from_pylist(rows, schema=ROWS)


def engine(requests, fail=(), lose=()):
    """What the engine's steps would give back: outcomes, and whole rows where it failed or was passed by."""
    rows = []
    for one in requests.to_pylist():
        if one["__inference_error__"]:
            rows.append(one)
        elif one["request"] in fail:
            rows.append({**one, "__inference_error__": "ValueError: no", "generated_text": ""})
        elif one["request"] not in lose:
            outcome = explode.Outcome(**run(one["tokenized_prompt"], json.loads(one["params"])))
            rows.append({"request": one["request"], "outcome": json.dumps(asdict(outcome)), "__inference_error__": ""})
    return pa.Table.from_pylist(
        rows, schema=pa.schema({name: TYPES.get(name, pa.string()) for one in rows for name in one})
    )


TYPES = {"carry": pa.binary(), "request": pa.int32(), "tokenized_prompt": pa.list_(pa.int32())}


def run(tokens, params):
    wanted = params["logprob_token_ids"]
    if wanted is None:
        return {"text": "".join(map(chr, tokens)).upper(), "completion_tokens": len(tokens)}
    assert params["max_tokens"] == 1
    return {"logprobs": {token: logprob(tokens, token) for token in wanted}}


def round_trip(rows, **faults):
    return explode.regroup(engine(explode.explode(batch(rows), Characters(), CONTEXT), **faults))


def scored_alone(prompt, choices):
    def total(choice):
        return sum(logprob([ord(c) for c in prompt + choice[:i]], ord(one)) for i, one in enumerate(choice))

    return normalised([total(choice) for choice in choices])


@given(prompts, st.lists(words, min_size=1, max_size=6), st.none() | prompts)
def test_a_choice_scores_what_its_tokens_score_one_after_the_other(prompt, choices, blank):
    got = round_trip([row(0, prompt=prompt, choices=choices, blank=blank)]).to_pylist()[0]
    longest = max(map(len, choices))
    if max(len(prompt), len(blank or "")) + longest - 1 >= CONTEXT:
        assert f"the context holds {CONTEXT}" in got["error"]
        return
    assert got["error"] is None
    assert got["logprobs"] == pytest.approx(scored_alone(prompt, choices))
    assert got["prompt_tokens"] == len(prompt) + len(blank or "")
    assert got["prior"] == (None if blank is None else pytest.approx(scored_alone(blank, choices)))


def test_choices_of_one_token_are_one_request():
    requests = explode.explode(batch([row(0, choices=["a", "b", "c"])]), Characters(), CONTEXT)
    assert requests.num_rows == 2  # the carried rows, and one request
    assert json.loads(requests["params"][1].as_py())["logprob_token_ids"] == [ord(one) for one in "abc"]


def test_requests_part_where_the_choices_do():
    planner = explode.Planner(Characters(), CONTEXT)
    planner.choose("a", ["ba", "bb", "c"])
    asked = {bytes(one.tokens): json.loads(one.params)["logprob_token_ids"] for one in planner.requests}
    assert asked == {b"a": [ord("b"), ord("c")], b"ab": [ord("a"), ord("b")]}


def test_more_choices_than_vllm_scores_at_once_are_asked_in_parts(monkeypatch):
    monkeypatch.setattr(explode, "MOST_SCORED", 2)
    got = round_trip([row(0, choices=["a", "b", "c"])]).to_pylist()[0]
    assert got["logprobs"] == pytest.approx(scored_alone("a b", ["a", "b", "c"]))


def test_the_same_blank_is_scored_once():
    rows = [row(n, prompt="a" * (n + 2), choices=["b", "c"], blank=" ") for n in range(5)]
    requests = explode.explode(batch(rows), Characters(), CONTEXT)
    assert requests.num_rows == 1 + 5 + 1


def test_other_columns_come_back_as_they_were():
    rows = [row(0), row(1, choices=["a", "bc"]), row(2, fields=None, tags=[]), row(3, prompt="a" * 99)]
    got = round_trip(rows)
    assert got.select(KEPT).equals(batch(rows).select(KEPT))
    assert got.column_names == KEPT + GAINED
    assert got["text"].to_pylist() == ["A B", None, "A B", None]
    assert [text is None for text in got["error"].to_pylist()] == [True, True, True, False]


@pytest.mark.parametrize(
    "rows",
    [
        [row(0)],
        [row(0, choices=["a"])],
        [row(0, prompt="a" * 99)],
        [row(0, sampling="{")],
        [row(0, prompt=None)],
        [row(0), row(1, choices=["a", "b"], blank="c")],
    ],
)
def test_the_columns_are_the_same_whatever_the_rows_were(rows):
    assert round_trip(rows).schema.equals(round_trip([row(0), row(1, choices=["a"])]).schema)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"prompt": ""}, "0 tokens"),
        ({"prompt": "", "choices": ["a", "bc"]}, "0 tokens"),
        ({"prompt": "a" * CONTEXT}, f"{CONTEXT} tokens"),
        ({"prompt": "a" * (CONTEXT - 1), "choices": ["a", "bc"]}, f"{CONTEXT} tokens"),
        ({"choices": []}, "must be choices"),
        ({"choices": ["a", ""]}, "must be choices"),
        ({"choices": ["a", None]}, "TypeError"),
        ({"prompt": None}, "TypeError"),
        ({"sampling": "{"}, "JSONDecodeError"),
        ({"sampling": '{"stop": [], "heat": 1}'}, "heat"),
        ({"choices": ["a"], "blank": ""}, "0 tokens"),
    ],
)
def test_a_row_that_cannot_be_asked_fails_alone(bad, told):
    got = round_trip([row(0), row(1, **bad), row(2, choices=["a", "b"])]).to_pylist()
    assert told in got[1]["error"]
    assert got[1]["text"] is got[1]["logprobs"] is got[1]["prior"] is None
    assert got[0]["text"] == "A B"
    assert got[2]["logprobs"] == pytest.approx(scored_alone("a b", ["a", "b"]))


def test_a_request_that_fails_or_is_lost_fails_its_row_alone():
    rows = [row(0), row(1, choices=["ab", "b"]), row(2), row(3)]
    got = round_trip(rows, fail={2}, lose={3}).to_pylist()
    assert [one["error"] for one in got] == [None, "ValueError: no", "the engine gave no answer", None]
    assert got[1]["logprobs"] is None
    assert round_trip(rows, fail={0, 1, 2, 3, 4}).num_rows == 4


def test_what_just_fits_is_asked():
    got = round_trip([row(0, prompt="a" * (CONTEXT - 1)), row(1, prompt="a" * (CONTEXT - 2), choices=["a", "bc"])])
    assert got["error"].to_pylist() == [None, None]


def test_several_batches_in_one_block_keep_their_own_requests():
    first, second = [row(0, prompt="a")], [row(1, prompt="b"), row(2, choices=["a", "c"])]
    blocks = [engine(explode.explode(batch(rows), Characters(), CONTEXT)) for rows in (first, second)]
    got = explode.regroup(pa.concat_tables(blocks, promote_options="default")).to_pylist()
    assert [one["id"] for one in got] == ["0", "1", "2"]
    assert [one["text"] for one in got] == ["A", "B", None]


def test_nothing_comes_of_nothing():
    assert explode.explode(batch([]), Characters(), CONTEXT).num_rows == 0
    assert explode.regroup(pa.table({})).num_rows == 0


def test_an_infinitely_unlikely_choice_is_an_error_and_no_number():
    plan = explode.Plan(prompt_tokens=1, choices=[[(0, 5)], [(0, 6)]])
    got = explode.answer(plan, {0: explode.Outcome(logprobs={5: -1.0, 6: -math.inf})})
    assert got.logprobs is None
    assert "no score" in got.error


def test_under_a_schema_no_stop_string_cuts_the_answer():
    planner = explode.Planner(Characters(), CONTEXT)
    planner.write("a", Sampling(schema="{}"), 7)
    planner.write("a", Sampling(temperature=0.5), 7)
    guided, free = (json.loads(one.params) for one in planner.requests)
    assert (guided["stop"], guided["structured_outputs"], guided["seed"]) == ([], {"json": "{}"}, 7)
    assert (free["stop"], free["structured_outputs"], free["seed"]) == (["\n"], None, 7)


def test_an_answer_is_an_answer():
    plan = explode.Plan(prompt_tokens=3, write=0)
    got = explode.answer(plan, {0: explode.Outcome("hello", 2)})
    assert got == Answer("hello", prompt_tokens=3, completion_tokens=2)


# Text and tokens.


@pytest.fixture
def folder(tmp_path):
    make_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_a_choice_is_what_follows_the_prompt(folder):
    tokenizer, read = make_tokenizer(), reader.load(str(folder), False)
    assert read.head("Judged:") == tokenizer("Judged:").input_ids
    for choice in (" good", " bad", "好", " not at all good"):
        assert read.head("Judged:") + read.tail(choice) == tokenizer("Judged:" + choice).input_ids
    assert read.tail(" good") == read.tail(" good") != read.tail("good")


def test_a_model_without_a_chat_template_is_told(folder):
    with pytest.raises(UserError) as told:
        reader.load(str(folder), True)
    assert "chat template" in told.value.problem


def test_a_chat_opens_the_answers_turn_and_drops_the_choices_space(folder):
    tokenizer = make_tokenizer()
    turns = "{% for turn in messages %}<s>{{ turn.content }}</s>{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}Judged:{% endif %}"
    tokenizer.save_pretrained(folder / "chat")
    read = reader.load(str(folder / "chat"), True)
    assert tokenizer.decode(read.head("it broke")) == "<s>it broke</s>Judged:"
    assert tokenizer.decode(read.tail(" good")) == "good"


def test_a_folder_without_a_tokenizer_is_told(tmp_path):
    with pytest.raises(UserError) as told:
        reader.load(str(tmp_path / "none"), False)
    assert "cannot load" in told.value.problem
