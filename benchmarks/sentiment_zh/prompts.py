"""Ways of asking whether a shopper is satisfied. All examples are made up; none is from the data.

The first is the sentiment task's own. Which one labels is chosen without a label (`labels.informative`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from synthrec.tasks.base import templates
from synthrec.tasks.sentiment import WORDS

LONGEST = 96  # characters of a review that the LLM reads; one in eight has more, and those take half of the time


@dataclass(frozen=True)
class Prompt:
    """`positive` and `negative` are the words, one token each, between which the LLM chooses."""

    name: str
    template: str
    positive: str
    negative: str

    def render(self, text: str) -> str:
        return self.template.replace("{text}", " ".join(text.split())[:LONGEST])


EXAMPLES = (
    ("等了一个星期才到，拉链第二天就坏了，要求退款。", False),
    ("跟描述的一样，已经是第二次买了，这次送给姐姐。", True),
    ("前台态度冷淡，隔音太差，一晚上没睡好，不会再来。", False),
    ("屏幕清晰，反应很快，用了半个月没出过问题。", True),
    ("个头小，还烂了好几个，联系客服也没人理。", False),
    ("味道清甜，包装仔细，家里老人孩子都爱吃。", True),
    ("洗完头发又干又痒，怀疑不是正品，上当了。", False),
    ("房间干净，离车站近，早餐也不错，值得推荐。", True),
    ("内容空洞，翻了几页就看不下去，浪费钱。", False),
    ("料子舒服，大小合适，穿上很精神，好评。", True),
)


def _shots(head: str, before: str, after: str, yes: str, no: str, count: int = len(EXAMPLES)) -> str:
    shown = [f"{before}{text}\n{after}{yes if good else no}\n\n" for text, good in EXAMPLES[:count]]
    return f"{head}\n\n" + "".join(shown) + f"{before}{{text}}\n{after}"


_WORDS = WORDS["zh"]
PROMPTS = (
    Prompt("task", templates(files("synthrec.tasks") / "prompts", "sentiment")["", "zh"], *_WORDS.values()),
    Prompt(
        "ten",
        _shots("商店评价，逐条判断：好评（满意）或差评（不满意）。", "评价：", "判断：", "好评", "差评"),
        "好",
        "差",
    ),
    Prompt("mood", _shots("顾客留言，以及留言的态度：正面或负面。", "留言：", "态度：", "正面", "负面"), "正", "负"),
    Prompt("again", _shots("买家评论，以及买家是否满意。", "评论：", "满意吗？", "是的", "不是"), "是", "不"),
    Prompt("stars", _shots("网店评论和评分，一分最低，五分最高。", "评论：", "评分：", "5分", "1分"), "5", "1"),
    Prompt(
        "english",
        _shots("Chinese shop reviews and their sentiment.", "Review: ", "Sentiment:", " positive", " negative"),
        " positive",
        " negative",
    ),
)
