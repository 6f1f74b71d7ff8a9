"""Texts that the LLM wrote and nobody could use: refusals, talk about itself, forbidden words, broken encodings."""

from __future__ import annotations

import re

from synthrec.curation.base import Aids, Outcome, Row, split

# Of itself as a machine; and what it will not do, which a shop's agent may say too.
MACHINE = re.compile(
    r"\bas an? (?:ai|(?:large )?language model|virtual assistant)\b"
    r"|作为(?:一个|一名)?(?:人工智能|AI|语言模型|智能助手)",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"\bi(?:'m| am) sorry,? but (?:i|as)\b|\bi can(?:no|')t (?:help|assist|provide|answer|write|create|fulfil)"
    r"|\bi(?:'m| am) (?:unable|not able) to\b|抱歉[，,]?我(?:不能|无法)|我(?:不能|无法)(?:提供|回答|协助|完成)",
    re.IGNORECASE,
)
AGENTS = ("reply",)  # tasks whose texts an agent says
BOILERPLATE = re.compile(
    r"^(?:sure|certainly|of course|absolutely)[,!:]|\bhere(?:'s| is| are) (?:a|an|the|some|your|three|two|\d)\b.{0,40}:"
    r"|^(?:query|question|answer|output|search|response|title|product|input)s? ?\d*[:：]"
    r"|\[(?:insert|your|name|product|brand)[^\]]*\]|\b(?:lorem ipsum|todo|n/a)\b|^```|\{\w+\}|</?\w+>"
    r"|^(?:好的|当然)[，,！!:：]|^以下是|^(?:查询|问题|回答|答案|搜索|搜索词|输出|标题|商品)[:：]|[（(](?:此处|请)填写",
    re.IGNORECASE,
)
# U+FFFD; what GBK makes of it and of a debugger's empty memory; private characters.
BROKEN = re.compile("\ufffd|锟斤拷|烫烫烫|屯屯屯|[\ue000-\uf8ff]")


def usable(rows: list[Row], aids: Aids) -> Outcome:
    """Refuse written texts of no use; labels that were chosen stand on the shop's own text and are kept."""
    from ftfy.badness import is_bad

    words = aids.config.curate.forbidden
    # With letters beside it a word is another: "class" forbids no "classic". Chinese has no such edges.
    forbidden = re.compile("|".join(_bounded(word) for word in words), re.IGNORECASE) if words else None

    def why(row: Row) -> tuple[str, str] | None:
        text = row["text"]
        if row["labels"] is not None:
            return None
        if BROKEN.search(text) or is_bad(text):
            return "broken encoding", text[:80]
        # (pattern, reason)
        patterns = [(MACHINE, "refusal"), (BOILERPLATE, "boilerplate"), (forbidden, "forbidden word")]
        if row["task"] not in AGENTS:
            patterns.append((REFUSAL, "refusal"))
        for pattern, reason in patterns:
            if pattern and (found := pattern.search(text)):
                return reason, found.group()
        return None

    return split(rows, why)


def _bounded(word: str) -> str:
    return rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" if word.isascii() else re.escape(word)
