"""Any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, Ollama, or a hosted one.

Requests run concurrently up to a limit. The client retries what a busy or restarting server answers (408, 409, 429,
5xx, a lost connection, a time-out), with backoff and jitter, and honours Retry-After.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from synthrec import models
from synthrec.config import Engine as EngineSettings
from synthrec.engines.base import Answer, Sampling, normalised
from synthrec.errors import UserError

TOP = 20  # the most log-probabilities a token that hosted servers give


class OpenAI:
    def __init__(self, settings: EngineSettings) -> None:
        if not models.installed("openai"):
            raise UserError("engine openai is not installed", "pip install 'synthrec[openai]'")
        if settings.server is None:
            raise UserError(
                "engine openai needs a server", "set synthesize.engine.server.url, such as http://127.0.0.1:8000/v1"
            )
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        self._model, self._server = settings.model, settings.server
        self._answered = False  # anything at all
        # One event loop in a thread of its own serves all threads that ask.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="openai", daemon=True).start()
        self._key = os.environ.get(self._server.key_variable)
        self._client = AsyncOpenAI(
            base_url=self._server.url,
            api_key=self._key or "none",  # local servers ask for none, but the client will not start without one
            timeout=self._server.timeout_seconds,
            max_retries=self._server.retries,
            # A redirect would take the text to a host that nobody allowed.
            http_client=DefaultAsyncHttpxClient(follow_redirects=False),
        )

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        common = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop[:4]),  # hosted servers take four
        }
        if sampling.schema is not None:
            common |= _guided(json.loads(sampling.schema), self._server.style)

        async def write(prompt: str, seed: int) -> Answer:
            reply = await self._ask(prompt, {**common, "seed": seed})
            text = _text(reply)
            stops = () if sampling.schema else sampling.stop
            ends = [at for stop in stops if (at := text.find(stop)) >= 0]
            return _answer(reply, text=text[: min(ends)] if ends else text)

        return self._each(write, list(zip(prompts, seeds, strict=True)))

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[Answer]:
        """By the first token of each choice, which is all that the API tells: choices must not begin alike."""
        more = {"logprobs": True, "top_logprobs": TOP} if self._server.style == "chat" else {"logprobs": TOP}

        async def score(prompt: str, words: Sequence[str]) -> Answer:
            reply = await self._ask(prompt, {"max_tokens": 1, "temperature": 0, **more})
            return _scored(reply, words, strip=self._server.style == "chat")

        return self._each(score, list(zip(prompts, choices, strict=True)))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _each(self, work: Callable[..., Awaitable[Answer]], asks: list[tuple[Any, ...]]) -> list[Answer]:
        async def all_of_them() -> list[Answer]:
            gate = asyncio.Semaphore(self._server.concurrency)

            async def one(ask: tuple[Any, ...]) -> Answer:
                async with gate:
                    return await self._safe(work, ask)

            return await asyncio.gather(*(one(ask) for ask in asks))

        answers = asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result()
        self._check(answers)
        return answers

    def _check(self, answers: Sequence[Answer]) -> None:
        """Raise UserError where the server refuses all that it is asked, for what the config says is wrong: a filter or
        a gateway may refuse one prompt so, and that is the row's error."""
        said = {answer.error.partition(":")[0] if answer.error else "" for answer in answers}
        if said == {"AuthenticationError"}:
            where = f"{self._server.url} refuses the key in ${self._server.key_variable}"
            raise UserError(where, "set that variable where the engine runs; never write a key into a config")
        if said == {"NotFoundError"} and not self._answered:
            raise UserError(
                f"{self._server.url}: {(answers[0].error or '')[:300]}", "check synthesize.engine.model and server.url"
            )
        self._answered = self._answered or "" in said

    async def _safe(self, work: Callable[..., Awaitable[Answer]], ask: tuple[Any, ...]) -> Answer:
        """The answer, or an answer with the error: one prompt's fault must not cost the batch."""
        import openai

        # httpx times each read: a server that sends a byte now and then would be waited for without end.
        longest = self._server.timeout_seconds * (self._server.retries + 1)
        try:
            async with asyncio.timeout(longest):
                return await work(*ask)
        except TimeoutError:
            return Answer(error=f"TimeoutError: no answer within {longest:g} s, retries and all")
        except openai.APIError as error:
            return Answer(error=f"{type(error).__name__}: {self._without_key(error.message)}"[:500])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Gateways and filters answer 200 with an error, with no choice at all, or with a page of their own.
            said = f"{type(error).__name__}: {error}"
            return Answer(error=f"status 200 and no completion; does server.url end in /v1? {said}"[:500])

    def _without_key(self, text: str) -> str:
        """Gateways may tell the key that came with a request."""
        return text.replace(self._key, f"${self._server.key_variable}") if self._key else text

    async def _ask(self, prompt: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._server.style == "chat":
            turns: Any = [{"role": "user", "content": prompt}]
            return (await self._client.chat.completions.create(model=self._model, messages=turns, **body)).model_dump()
        return (await self._client.completions.create(model=self._model, prompt=prompt, **body)).model_dump()


def _text(reply: dict[str, Any]) -> str:
    choice = reply["choices"][0]
    return str((choice["message"]["content"] if "message" in choice else choice["text"]) or "")


def _answer(reply: dict[str, Any], **what: Any) -> Answer:
    usage = reply.get("usage") or {}
    return Answer(
        **what, prompt_tokens=usage.get("prompt_tokens") or 0, completion_tokens=usage.get("completion_tokens") or 0
    )


def _scored(reply: dict[str, Any], choices: Sequence[str], strip: bool) -> Answer:
    """Log-probabilities over the choices; one that is not among the likeliest tokens counts as the last of them."""
    top = [(token.strip() if strip else token, value) for token, value in _top(reply)]
    words = [choice.strip() if strip else choice for choice in choices]
    first = [next(((t, v) for t, v in top if t.strip() and word.startswith(t)), None) for word in words]
    begins = [one[0] for one in first if one]
    if not begins:
        told = ", ".join(repr(token) for token, _ in top[:5]) or "none"
        return _answer(reply, error=f"none of {list(choices)} is among the likeliest tokens, which are {told}")
    if len(set(begins)) < len(begins):
        return _answer(reply, error=f"{list(choices)} begin alike ({begins}), and the server tells of no more")
    least = min(value for _, value in top)
    return _answer(reply, logprobs=normalised([one[1] if one else least for one in first]))


def _guided(schema: dict[str, Any], style: str) -> dict[str, Any]:
    """How servers are told of a schema: chats in OpenAI's way, completions in vLLM's and llama.cpp's."""
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    if style == "chat":
        return {"response_format": wanted, "stop": None}
    return {"extra_body": {"response_format": wanted, "json_schema": schema}, "stop": None}


def _top(reply: dict[str, Any]) -> list[tuple[str, float]]:
    """The likeliest first tokens, best first: the API has one form for chats and one for completions."""
    given = reply["choices"][0].get("logprobs") or {}
    if given.get("content"):
        return [(one["token"], one["logprob"]) for one in given["content"][0]["top_logprobs"]]
    if given.get("top_logprobs"):
        return sorted(given["top_logprobs"][0].items(), key=lambda one: -one[1])
    return []
