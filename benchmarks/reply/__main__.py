"""The right reply first of ten, in real customer-service chats, without a human label: recall@1 of each way to score.

Labels of the set are read to judge, after all scores are made. Whatever is learnt or chosen is so on cases whose answer
is known without them: each agent's turn that a context holds, to be found among agents' turns of other contexts that
BM25 finds for the same question; and synthetic ones, where the LLM wrote the question for such a turn. Candidates are
never trained on, and their order in the file is not seen: a tie counts as the chance that a fair draw would give it.

The LLM reads each reply twice, after its dialogue and alone; what it read and wrote is kept in --run-dir.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.reply.cases import Case, Exchanges, own_turns, read_cases
from benchmarks.reply.reads import Reads
from benchmarks.reply.scores import ReplyModel, Scored, Values, features
from synthrec import console
from synthrec.errors import UserError
from synthrec.evaluation.significance import bootstrap_mean

PUBLISHED = {"chance": 0.10, "DUA, trained on a million chats, whole test set": 0.501}


def main() -> None:
    arguments = _arguments()
    path = Path(arguments.data) / "test.tsv"
    if not path.is_file():
        raise UserError(f"no chats: {path} is missing", "give --data the folder that holds test.tsv")
    start = time.perf_counter()
    test = read_cases(path)
    exchanges = Exchanges(test)
    folder = Path(arguments.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    reads = Reads(folder, arguments.model, test, exchanges)
    cases = {"known": own_turns(test, exchanges), "synthetic": reads.written(), "test": test}
    scored = {name: _features(name, some, reads) for name, some in cases.items()}
    figures = measure(scored, cases)
    chosen = max(figures, key=lambda name: figures[name]["own_turns"])
    result = {
        "benchmark": "reply",
        "machine": machine(),
        "model": arguments.model,
        "contexts": len(test),
        "own_turns": len(cases["known"]),
        "synthetic": len(cases["synthetic"]),
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


def _features(name: str, cases: Sequence[Case], reads: Reads) -> list[Scored]:
    out = []
    with console.meter(f"read {name}", len(cases), "cases") as meter:
        for case in cases:
            out.append(features(case, reads(case), reads.exchanges))
            meter.advance()
    return out


def measure(scored: dict[str, list[Scored]], cases: dict[str, list[Case]]) -> dict[str, dict[str, Any]]:
    """recall@1 of each component, and of what joins them: standardised scores added, and the reply model.

    Taught by the known turns themselves, its figure on them is of folds, each judged by a model that has seen none of
    its contexts.
    """
    known, test, written = (scored[name] for name in ("known", "test", "synthetic"))
    rights = {name: [case.right for case in some] for name, some in cases.items()}
    ways = {name: ([one[name] for one in known], [one[name] for one in test]) for name in test[0]}
    ways["sum"] = [sum_of(one) for one in known], [sum_of(one) for one in test]
    taught = ReplyModel.fit(written, rights["synthetic"])
    ways["reply model, synthetic dialogues"] = taught.scores(known), taught.scores(test)
    folds = [case.context for case in cases["known"]]
    taught = ReplyModel.fit(known, rights["known"])
    ways["reply model, known turns"] = ReplyModel.crossed(known, rights["known"], folds), taught.scores(test)
    figures = {}
    for name, (own, judged) in ways.items():
        found = bootstrap_mean(recall_1(judged, rights["test"]))
        figures[name] = {
            "own_turns": round(float(recall_1(own, rights["known"]).mean()), 4),
            "test": round(found.mean, 4),
            "interval": [round(found.low, 4), round(found.high, 4)],
        }
    return figures


def sum_of(one: Scored) -> Values:
    """What the LLM and past chats say, each standardised over the candidates, added: nothing in it is tuned."""
    return standard(one["pmi"]) + standard(one["retrieval"])


def standard(values: Values) -> Values:
    spread = float(values.std())
    return (values - values.mean()) / (spread if spread > 0 else 1.0)


def recall_1(scores: Sequence[Values], rights: Sequence[int]) -> Values:
    """One where the right reply scores highest; of replies that tie for it, its share."""
    return np.array([(s[r] == s.max()) / (s == s.max()).sum() for s, r in zip(scores, rights, strict=True)], np.float64)


if __name__ == "__main__":
    main()
