"""The right reply first of ten, in real customer-service chats, without a human label: recall@1 of each way to score.

Labels of the set are read to judge, after all scores are made. Whatever is learnt or chosen is so on chats whose answer
is known without them: of each context the agent's last turn is to be found, among agents' turns of other contexts that
BM25 finds for the same question. Candidates are never trained on, and their order in the file is not seen: a tie counts
as the chance that a fair draw would give it.

The LLM reads each reply twice, after its dialogue and alone; what was read is kept in --run-dir and not read again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.reply_scores import Past, ReplyModel, features
from synthrec import console
from synthrec.errors import UserError
from synthrec.evaluation.significance import bootstrap_mean
from synthrec.recommenders.likelihood import END, SPEAKERS, Likelihood, Read
from synthrec.retrieval.bm25 import BM25
from synthrec.schema import row_id

CANDIDATES = 10
SHORTEST = 3  # characters of a turn that is worth finding
EXAMPLES = 6  # dialogues in an opening
TURNS = 5  # the last ones of a dialogue that are read
PUBLISHED = {"chance": 0.10, "DUA, trained on a million chats, whole test set": 0.501}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """`context` is the number of the dialogue it is from; `right` the place of the right reply."""

    context: int
    turns: list[str]
    replies: list[str]
    right: int


def main() -> None:
    arguments = _arguments()
    path = Path(arguments.data) / "test.tsv"
    if not path.is_file():
        raise UserError(f"no chats: {path} is missing", "give --data the folder that holds test.tsv")
    start = time.perf_counter()
    test = read_cases(path)
    known = own_turns(test)
    folder = Path(arguments.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    reads = Reads(folder / "reads.jsonl", arguments.model, test)
    scored = {name: _features(cases, reads, test, name) for name, cases in (("known", known), ("test", test))}
    rights = {"known": [c.right for c in known], "test": [c.right for c in test]}
    figures = measure(scored, rights)
    chosen = max(figures, key=lambda name: figures[name]["own_turns"])
    result = {
        "benchmark": "reply",
        "machine": machine(),
        "model": arguments.model,
        "contexts": len(test),
        "own_turns": len(known),
        "chosen": chosen,
        "recall_1": figures[chosen]["test"],
        "recall_at_1": figures[chosen]["test"],
        "interval": figures[chosen]["interval"],
        "figures": figures,
        "published": PUBLISHED,
        "seconds": round(time.perf_counter() - start, 1),
    }
    for name, one in figures.items():
        console.say(f"    {name}: own turns {one['own_turns']:.3f}, test {one['test']:.3f} {one['interval']}")
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/zh_replies", help="folder with test.tsv")
    parser.add_argument("--model", default="embedded", help="causal model: 'embedded', a folder or a hub name")
    parser.add_argument("--run-dir", default="runs/benchmark-reply", help="keeps what the model read")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last line")
    return parser.parse_args()


def read_cases(path: Path) -> list[Case]:
    """The set's cases, spaces between words taken out, candidates in the order of the file."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    cases: list[Case] = []
    for start in range(0, len(rows), CANDIDATES):
        some = rows[start : start + CANDIDATES]
        turns = {tuple(row[1:-1]) for row in some}
        labels = [int(row[0]) for row in some]
        if len(turns) != 1 or sum(labels) != 1:
            raise UserError(f"{path}: rows {start} and on are not of one context", "one right reply among each ten")
        replies = [_joined(row[-1]) for row in some]
        cases.append(Case(len(cases), [_joined(turn) for turn in some[0][1:-1]], replies, labels.index(1)))
    return cases


def own_turns(test: Sequence[Case]) -> list[Case]:
    """A case a context: its agent's last turn, among the turns of others that BM25 finds for what was asked."""
    said = [(case.context, turn) for case in test for turn in case.turns[-2::-2] if len(turn) >= SHORTEST]
    index = BM25.build([turn for _, turn in said])
    cases = []
    for case in test:
        if len(case.turns) < 3 or len(case.turns[-2]) < SHORTEST:
            continue
        right = case.turns[-2]
        order = np.argsort(-index.scores(case.turns[-3]), kind="stable")
        others = dict.fromkeys(said[i][1] for i in order if said[i][0] != case.context and said[i][1] != right)
        cases.append(Case(case.context, case.turns[:-2], [right, *list(others)[: CANDIDATES - 1]], 0))
    return cases


class Reads:
    """What the LLM reads of replies, kept in a file. Each dialogue is read after others, never after itself."""

    def __init__(self, file: Path, model: str, test: Sequence[Case]) -> None:
        self.file, self.name, self.test = file, model, test
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self.kept = {key: (Read(*given), Read(*alone)) for key, given, alone in map(json.loads, lines)}
        short = [case.context for case in test if 3 <= len(case.turns) <= 7]
        order = [int(i) for i in np.random.default_rng(0).permutation(short)]
        self.examples = [order[:EXAMPLES], order[EXAMPLES : 2 * EXAMPLES]]
        self.openings = ["".join(_example(test[i].turns) for i in some) for some in self.examples]
        self.models: list[Likelihood] = []

    def __call__(self, case: Case) -> list[tuple[Read, Read]]:
        """Of each reply: after the dialogue, and alone."""
        place = int(case.context in self.examples[0])
        turns = case.turns[-TURNS:]
        keys = [row_id(self.name, self.openings[place], *turns, "\n", reply) for reply in case.replies]
        if any(key not in self.kept for key in keys):
            model = self._models()[place]
            pairs = list(zip(model.read(turns, case.replies), model.read([], case.replies), strict=True))
            self.kept |= dict(zip(keys, pairs, strict=True))
            with self.file.open("a", encoding="utf-8") as file:
                for key, (given, alone) in zip(keys, pairs, strict=True):
                    file.write(json.dumps([key, list(asdict(given).values()), list(asdict(alone).values())]) + "\n")
        return [self.kept[key] for key in keys]

    def _models(self) -> list[Likelihood]:
        if not self.models:
            texts = [text for case in self.test for text in (*case.turns, *case.replies)]
            one = Likelihood.load(self.name, [*texts, *SPEAKERS])
            self.models = [replace(one, opening=opening) for opening in self.openings]
        return self.models


def _features(cases: Sequence[Case], reads: Reads, test: Sequence[Case], name: str) -> list[dict[str, Values]]:
    past = Past([(case.context, *pair) for case in test for pair in _pairs(case.turns)])
    out = []
    with console.meter(f"read {name}", len(cases), "contexts") as meter:
        for case in cases:
            like_past = past.scores(case.turns[-1], case.replies, case.context)
            out.append(features(case.turns, case.replies, reads(case), like_past))
            meter.advance()
    return out


def measure(scored: dict[str, list[dict[str, Values]]], rights: dict[str, list[int]]) -> dict[str, dict[str, Any]]:
    """recall@1 of each component, and of two rules that join them: standardised scores added, and the reply model.

    The reply model's figure on the known turns is of five folds, each judged by a model that did not learn it.
    """
    ways = {name: {part: [one[name] for one in rows] for part, rows in scored.items()} for name in scored["test"][0]}
    ways["sum"] = {part: [sum_of(one) for one in rows] for part, rows in scored.items()}
    ways["reply model"] = {
        "known": ReplyModel.crossed(scored["known"], rights["known"]),
        "test": ReplyModel.fit(scored["known"], rights["known"]).scores(scored["test"]),
    }
    figures = {}
    for name, parts in ways.items():
        test = bootstrap_mean(recall_1(parts["test"], rights["test"]))
        figures[name] = {
            "own_turns": round(float(recall_1(parts["known"], rights["known"]).mean()), 4),
            "test": round(test.mean, 4),
            "interval": [round(test.low, 4), round(test.high, 4)],
        }
    return figures


def sum_of(one: dict[str, Values]) -> Values:
    """What the LLM and past chats say, each standardised over the candidates, added: nothing in it is tuned."""
    return standard(one["pmi"]) + standard(one["retrieval"])


def standard(values: Values) -> Values:
    spread = float(values.std())
    return (values - values.mean()) / (spread if spread > 0 else 1.0)


def recall_1(scores: Sequence[Values], rights: Sequence[int]) -> Values:
    """One where the right reply scores highest; of replies that tie for it, its share."""
    return np.array([(s[r] == s.max()) / (s == s.max()).sum() for s, r in zip(scores, rights, strict=True)], np.float64)


def _pairs(turns: Sequence[str]) -> list[tuple[str, str]]:
    """What was asked and what the agent said to it; the shopper speaks last."""
    return [(turns[i - 1], turns[i]) for i in range(len(turns) - 2, 0, -2)]


def _example(turns: Sequence[str]) -> str:
    """A dialogue up to the agent's last turn, as an example for the LLM."""
    kept = turns[:-1]
    first = len(kept) % 2  # the agent's is last, so an even number begins with the shopper
    return "".join(f"{SPEAKERS[(i + first) % 2]}{turn}{END}" for i, turn in enumerate(kept)) + END


def _joined(text: str) -> str:
    return "".join(text.split())


if __name__ == "__main__":
    main()
