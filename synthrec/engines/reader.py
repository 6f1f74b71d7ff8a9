"""How text becomes the tokens of a model of transformers: prompts, chat turns, and choices after them."""

from __future__ import annotations

from functools import cache
from typing import Any

from synthrec.errors import UserError


class TokenizerReader:
    def __init__(self, tokenizer: Any, chat: bool) -> None:
        self._tokenizer, self._chat = tokenizer, chat
        self._tails: dict[str, list[int]] = {}

    def head(self, prompt: str) -> list[int]:
        if not self._chat:
            return list(self._tokenizer(prompt).input_ids)
        turns = [{"role": "user", "content": prompt}]
        kinds = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        return list(self._tokenizer.apply_chat_template(turns, **kinds))

    def tail(self, choice: str) -> list[int]:
        if choice not in self._tails:
            self._tails[choice] = self._read(choice)
        return self._tails[choice]

    def _read(self, choice: str) -> list[int]:
        if self._chat:  # after a turn's opening there is nothing to be spaced from
            return self._bare(choice.lstrip(" "))
        base, both = self._bare("Answer:"), self._bare("Answer:" + choice)
        # Where it melts into the text before it, it is taken alone: a choice has the same tokens after every prompt.
        return both[len(base) :] if both[: len(base)] == base else self._bare(choice)

    def _bare(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)


@cache
def load(where: str, chat: bool, trust: bool = False) -> TokenizerReader:
    """The reader of a model.

    Args:
        trust: let the model's own code make its tokenizer.

    Raises:
        UserError: where there is no tokenizer, or no chat template and one is wanted.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise cannot_load(where, error) from None
    if chat and not tokenizer.chat_template:
        raise UserError(
            "the model has no chat template", "set synthesize.engine.chat: false, or take an instruct model"
        )
    return TokenizerReader(tokenizer, chat)


def cannot_load(model: str, error: Exception) -> UserError:
    return UserError(f"cannot load {model}: {str(error).splitlines()[0]}", "check the name")
