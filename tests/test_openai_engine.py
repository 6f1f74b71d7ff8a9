"""Engine openai against a real llama.cpp server, and against a busy one in front of it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import httpx
import jsonschema
import pytest

from synthrec import engines, models
from synthrec.config import Engine
from synthrec.engines import Sampling
from synthrec.errors import UserError

SHOTS = "Review: Broke on day two.\nJudged: bad\n\nReview: Love it.\nJudged: good\n\n"
PROMPTS = [f"{SHOTS}Review: {text}\nJudged:" for text in ("Money back please!", "My third one, perfect.")]
CHOICES = (" good", " bad")


@pytest.fixture(scope="module")
def llama():
    """The address of a llama.cpp server with the embedded model."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = models.gguf("embedded")
    params.n_parallel, params.n_ctx, params.port = 4, 4 * 512, 0
    params.swa_full, params.warmup, params.verbosity = True, False, -1
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


def engine(url: str, **server):
    return engines.load(
        Engine.model_validate({"kind": "openai", "model": "m", "server": {"url": f"{url}/v1", **server}})
    )


class Busy:
    """A proxy that answers the first requests as `trouble` says, and hands on the others."""

    def __init__(self, target: str, trouble: Callable[[int, BaseHTTPRequestHandler], bool]) -> None:
        numbers, times = count(), []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                times.append(time.monotonic())
                body = self.rfile.read(int(self.headers["content-length"]))
                if trouble(next(numbers), self):
                    return
                reply = httpx.post(target + self.path, content=body, timeout=60)
                self.send_response(reply.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

            def log_message(self, *_: object) -> None: ...

        self.times = times
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()


def refuse(handler, status, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", "0")
    handler.end_headers()
    return True


def test_it_writes_what_the_same_model_writes_in_process(llama):
    served, local = engine(llama), engines.load(Engine())
    prompt = "Three colours of the rainbow:\nred\norange\n"
    greedy = Sampling(temperature=0, max_tokens=6, stop=("\n",))
    ours, theirs = served.generate([prompt], greedy, [1])[0], local.generate([prompt], greedy, [1])[0]
    assert ours.text == theirs.text
    assert ours.text
    assert (ours.prompt_tokens, ours.completion_tokens) == (theirs.prompt_tokens, theirs.completion_tokens)
    local.close()
    served.close()


def test_choices_get_the_scores_that_the_same_model_gives_in_process(llama):
    served, local = engine(llama), engines.load(Engine())
    for ours, theirs in zip(*(one.choose(PROMPTS, [CHOICES] * 2) for one in (served, local)), strict=True):
        mine, other = ([math.exp(value) for value in one.logprobs] for one in (ours, theirs))
        assert sum(mine) == pytest.approx(1)
        assert mine == pytest.approx(other, abs=0.05)  # batched otherwise: not bit for bit
    local.close()


def test_a_chat_is_asked_as_one(llama):
    answer = engine(llama, style="chat").generate(["Say hello."], Sampling(max_tokens=4), [1])[0]
    assert answer.error is None
    assert answer.prompt_tokens > 4  # the template's tokens too


def test_labels_that_are_not_among_the_likeliest_are_an_error_with_what_was(llama):
    wrong, right = engine(llama).choose(["1 2 3 4 5 6", PROMPTS[0]], [[" zebra", " quartz"], CHOICES])
    assert wrong.logprobs is None
    assert "likeliest tokens" in wrong.error
    assert right.error is None
    assert right.logprobs


def test_a_choice_of_several_tokens_is_scored_by_its_first_and_choices_must_not_begin_alike(llama):
    served = engine(llama)
    long, short = served.choose([PROMPTS[0]] * 2, [(" good as new", " bad and broken"), CHOICES])
    assert long.logprobs == pytest.approx(short.logprobs, abs=0.1)
    (alike,) = served.choose([PROMPTS[0]], [(" good", " good as new")])
    assert alike.logprobs is None
    assert "begin alike" in alike.error


@pytest.mark.parametrize("style", ["completion", "chat"])
def test_an_answer_under_a_schema_obeys_it(llama, style):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "pieces": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["colour", "pieces"],
        "additionalProperties": False,
    }
    guided = Sampling(max_tokens=40, stop=('"',), schema=json.dumps(schema))  # which would cut the object
    (answer,) = engine(llama, style=style).generate(["A kettle. As JSON:"], guided, [1])
    assert answer.error is None
    jsonschema.validate(json.loads(answer.text), schema)


def test_two_threads_that_ask_at_once_get_what_one_gets(llama):
    served, greedy = engine(llama), Sampling(max_tokens=4)
    prompts = ["1 2 3 4 5 6 7 8 9", "a b c d e f g h"]  # of which the model is sure

    def ask(prompt):
        return [one.text for one in served.generate([prompt], greedy, [1])]

    alone = [ask(prompt) for prompt in prompts]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, prompts * 2)) == alone * 2
    served.close()


def test_one_prompt_that_is_too_long_fails_alone(llama):
    short, long = engine(llama).generate(["Hello", "word " * 2000], Sampling(max_tokens=2), [1, 1])
    assert short.error is None
    assert "exceeds the available context" in long.error


def test_a_busy_server_is_asked_again_after_the_time_it_names(llama):
    with Busy(llama, lambda n, handler: n < 2 and refuse(handler, 429, retry_after="1")) as proxy:
        answer = engine(proxy.url).generate(["Hello"], Sampling(max_tokens=2), [1])[0]
    assert answer.error is None
    assert len(proxy.times) == 3
    assert proxy.times[1] - proxy.times[0] >= 1
    assert proxy.times[2] - proxy.times[1] >= 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_server_is_asked_again(llama, status):
    with Busy(llama, lambda n, handler: n == 0 and refuse(handler, status)) as proxy:
        assert engine(proxy.url).generate(["Hello"], Sampling(max_tokens=2), [1])[0].error is None
    assert len(proxy.times) == 2


def test_a_lost_connection_and_a_time_out_are_tried_again(llama):
    def trouble(number, handler):
        if number == 0:
            handler.connection.close()
        elif number == 1:
            time.sleep(2)
        return number < 2

    with Busy(llama, trouble) as proxy:
        answer = engine(proxy.url, timeout_seconds=1).generate(["Hello"], Sampling(max_tokens=1), [1])[0]
    assert answer.error is None
    assert len(proxy.times) == 3


def test_at_the_last_try_the_row_keeps_the_error(llama):
    with Busy(llama, lambda n, handler: refuse(handler, 503)) as proxy:
        answer = engine(proxy.url, retries=1).generate(["Hello"], Sampling(max_tokens=1), [1])[0]
    assert "503" in answer.error
    assert len(proxy.times) == 2


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", '{"error": {"message": "upstream is away"}}'),
        ("application/json", '{"id": "1", "object": "text_completion", "choices": []}'),
        ("application/json", '{"choices": [{"index": 0, "message": null, "finish_reason": "content_filter"}]}'),
        ("application/json", '{"choices": [{"ind'),
        ("text/html", "<html>Sign in</html>"),
    ],
)
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_a_reply_of_another_form_costs_its_own_row_alone(llama, kind, body, style):
    def trouble(number, handler):
        if number:
            return False
        handler.send_response(200)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())
        return True

    for ask in (
        lambda own: own.generate(["Hello", "Hello"], Sampling(max_tokens=1), [1, 2]),
        lambda own: own.choose(PROMPTS, [CHOICES, CHOICES]),
    ):
        with Busy(llama, trouble) as proxy:
            answers = ask(engine(proxy.url, retries=0, concurrency=1, style=style))
        # A base model that is chatted with puts no label among its likeliest tokens: that is an error of another kind.
        assert answers[0].error
        assert "status 200" not in (answers[1].error or "")


def test_a_refused_key_stops_the_job_and_is_never_told(llama, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "sk-very-secret")
    with Busy(llama, lambda n, handler: refuse(handler, 401)) as proxy, pytest.raises(UserError) as stopped:
        engine(proxy.url, key_variable="SHOP_KEY").generate(["Hello"], Sampling(max_tokens=1), [1])
    assert "refuses the key in $SHOP_KEY" in str(stopped.value)
    assert "sk-very-secret" not in str(stopped.value)
    assert len(proxy.times) == 1  # asking again would not help


@pytest.mark.parametrize("status", [401, 403, 404])
def test_one_prompt_that_is_refused_so_costs_its_own_row_alone(llama, status, monkeypatch):
    """As gateways do whose filter does not like it; some tell the key that came with it."""
    monkeypatch.setenv("SHOP_KEY", "sk-very-secret")

    def refused(number, handler):
        body = b'{"error": {"message": "not with sk-very-secret"}}'
        if number == 0:
            handler.send_response(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        return number == 0

    with Busy(llama, refused) as proxy:
        own = engine(proxy.url, concurrency=1, key_variable="SHOP_KEY")
        answers = own.generate(["Hello"] * 2, Sampling(max_tokens=1), [1, 2])
    assert str(status) in answers[0].error
    assert "not with $SHOP_KEY" in answers[0].error.replace("sk-very-secret", "LEAK")
    assert answers[1].error is None


def test_a_model_that_is_not_there_stops_the_job(llama):
    with Busy(llama, lambda n, handler: refuse(handler, 404)) as proxy, pytest.raises(UserError) as stopped:
        engine(proxy.url).generate(["Hello"] * 2, Sampling(max_tokens=1), [1, 2])
    assert "check synthesize.engine.model" in stopped.value.hint


def test_a_server_that_drips_is_not_waited_for_without_end(llama):
    def drip(number, handler):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b" ")
            time.sleep(0.2)
        return True

    start = time.monotonic()
    with Busy(llama, drip) as proxy:
        own = engine(proxy.url, timeout_seconds=1, retries=0)
        (answer,) = own.generate(["Hello"], Sampling(max_tokens=1), [1])
        assert time.monotonic() - start < 4
    assert "no answer within 1 s" in answer.error


def test_no_more_are_under_way_than_allowed(llama):
    under_way, most, lock = 0, 0, threading.Lock()

    def watch(number, handler):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.1)
        with lock:
            under_way -= 1
        return False

    with Busy(llama, watch) as proxy:
        answers = engine(proxy.url, concurrency=3).generate(["Hello"] * 12, Sampling(max_tokens=1), [1] * 12)
    assert not [answer for answer in answers if answer.error]
    assert most == 3


def test_a_server_must_be_named():
    with pytest.raises(UserError, match="needs a server"):
        engines.load(Engine(kind="openai", model="m"))
