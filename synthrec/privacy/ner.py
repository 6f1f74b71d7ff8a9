"""Names of people by a model: a token classifier of transformers, for names that nothing around them announces.

A token counts where its person labels together are likely enough; neighbours are joined, and what a tokenizer cut is
grown to whole words. Hanzi stand for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from synthrec import models
from synthrec.config import Ner as Settings
from synthrec.errors import UserError

Spans = list[tuple[int, int]]
LONGEST = 512  # tokens at once; a longer text is read in windows
OVERLAP = 32  # tokens that two windows share, so that no name is cut between them
_PREFIX = re.compile("^[BIESLUM][-_]")  # of the schemes IOB, BIOES and BILOU
_JOINS = re.compile(r"[ .·•'’-]{0,2}")  # between parts of one name: "J. Smith", "迪丽热巴·迪力木拉提"
_LETTERS = re.compile(r"[^\W\d_\u3400-\u9fff]+(?:['’-][^\W\d_\u3400-\u9fff]+)*")
_EDGES = " \t\n.,:;!?·•'’\"()[]<>-，。：；！？、（）《》"


@cache
def load(settings: Settings) -> Ner:
    """The model, one copy a process."""
    return Ner(settings)


class Ner:
    """Finds names of people in texts, many at once, on the CPU.

    Raises:
        UserError: there is no such model, it is no token classifier, its tokenizer tells no places of its tokens, or
            none of its labels counts.
    """

    def __init__(self, settings: Settings) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

        where = models.check_local(settings.model, "a token classifier")
        try:
            config = AutoConfig.from_pretrained(where)
            if not any(name.endswith("ForTokenClassification") for name in config.architectures or ()):
                raise ValueError(f"it is {', '.join(config.architectures or ['no model'])}")  # its head would be random
            self._tokenizer: Any = AutoTokenizer.from_pretrained(where)
            self._model: Any = AutoModelForTokenClassification.from_pretrained(where).eval()
        except (OSError, ValueError) as error:
            raise UserError(
                f"privacy.ner.model: cannot load {settings.model} as a token classifier: {str(error).splitlines()[0]}",
                "give a folder or hub name that AutoModelForTokenClassification loads, or leave privacy.ner out",
            ) from None
        if not self._tokenizer.is_fast:
            raise UserError(f"{settings.model} has a tokenizer that tells no places", "take one with a tokenizer.json")
        wanted = {label.upper() for label in settings.labels}
        named = {int(number): str(label).upper() for number, label in config.id2label.items()}
        self._person = [number for number, label in named.items() if _PREFIX.sub("", label) in wanted]
        if not self._person:
            kinds = sorted({_PREFIX.sub("", label) for label in named.values()})
            raise UserError(
                f"{settings.model} knows no label {', '.join(settings.labels)}; it has {', '.join(kinds)}",
                "name those of people in privacy.ner.labels",
            )
        self._begins = {number for number in self._person if named[number][:2] in ("B-", "S-", "U-")}
        self._torch, self._settings = torch, settings
        self._longest = min(LONGEST, self._tokenizer.model_max_length, _positions(config))

    def __call__(self, texts: Sequence[str]) -> list[Spans]:
        """The `(start, end)` of each name in each text, in order and apart."""
        found: list[Spans] = [[] for _ in texts]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike in length: little padding
        for start in range(0, len(order), self._settings.batch_size):
            some = order[start : start + self._settings.batch_size]
            for i, tokens in zip(some, self._tokens([texts[i] for i in some]), strict=True):
                found[i] = _whole(texts[i], tokens)
        return found

    def _tokens(self, texts: list[str]) -> list[list[tuple[int, int, bool]]]:
        """Of each text the (start, end, begins a name) of its tokens that are part of a name, windows put together."""
        read = self._tokenizer(
            texts,
            truncation=True,
            max_length=self._longest,
            stride=min(OVERLAP, self._longest // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=True,
            return_tensors="pt",
        )
        places, of = read.pop("offset_mapping").tolist(), read.pop("overflow_to_sample_mapping").tolist()
        with self._torch.inference_mode():
            chances = self._model(**read).logits.float().softmax(-1)[..., self._person]
        likely = (chances.sum(-1) >= self._settings.threshold).tolist()
        best = chances.argmax(-1).tolist()
        found: list[dict[tuple[int, int], bool]] = [{} for _ in texts]
        for text, row, yes, label in zip(of, places, likely, best, strict=True):
            for (start, end), is_name, number in zip(row, yes, label, strict=True):
                if is_name and end > start:  # special tokens and padding stand nowhere
                    found[text].setdefault((start, end), self._person[number] in self._begins)
        return [[(*place, begins) for place, begins in sorted(one.items())] for one in found]


def _positions(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", None) or LONGEST)


def _whole(text: str, tokens: list[tuple[int, int, bool]]) -> Spans:
    """Tokens -> names: joined where one goes on, grown to whole words, without what stands at their edges."""
    if not tokens:
        return []
    inside: dict[int, tuple[int, int]] = {}  # place of a letter -> its word
    for match in _LETTERS.finditer(text):
        inside |= dict.fromkeys(range(match.start(), match.end()), match.span())
    names: Spans = []
    for start, end, begins in tokens:
        while start < end and text[start] in _EDGES:  # SentencePiece puts the space before a word into it
            start += 1
        if start == end:
            continue
        low, high = inside.get(start, (start, end))[0], max(end, inside.get(end - 1, (start, end))[1])
        if names and (low < names[-1][1] or (not begins and _JOINS.fullmatch(text, names[-1][1], low))):
            names[-1] = (names[-1][0], max(high, names[-1][1]))
        else:
            names.append((low, high))
    return [(start, end) for start, end in ((s, s + len(text[s:e].rstrip(_EDGES))) for s, e in names) if end > start]
