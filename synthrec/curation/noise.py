"""Confident learning (Northcutt, Jiang & Chuang 2021): labels that speak against what the other rows' labels teach.

A light classifier, trained on the labels as they are, judges each row out of fold. Where it is surer of another label
than it usually is of that one, the given label is suspect. It finds slips, not what a labeller always gets wrong: that
the classifier learns too.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthrec import console, schema
from synthrec.curation.base import Aids, Outcome, Row, split

Question = tuple[str, str, str]  # task, facet, language
CONTEXT = {"relevance": "product", "intent": "before"}  # the field that the LLM judged beside the text
LONGEST = 300  # characters of a text that are judged
# Cohen's kappa of classifier and given labels. One that agrees less than "slightly" (Landis & Koch 1977) with the
# labels it was taught cannot read them off the text, and its doubts mean nothing.
LEAST_KAPPA = 0.2


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is likely wrong: their ids, the likelier label, and the probabilities of (given, likelier)."""

    ids: pa.Array
    likelier: pa.Array
    probs: NDArray[np.float64]


NONE = Suspects(pa.array([], pa.string()), pa.array([], pa.string()), np.zeros((0, 2)))


@dataclass(frozen=True)
class Judged:
    """A question's rows: ids, the place of each one's label in `labels`, and out-of-fold probabilities, (n, K)."""

    ids: pa.Array
    labels: list[str]
    codes: NDArray[np.int64]
    probs: NDArray[np.float64]
    learnt: int  # rows that the classifier learnt from


@dataclass
class Seen:
    """What is remembered of a question's rows, in their order: a few bytes each."""

    keys: array[int] = field(default_factory=lambda: array("Q"))  # hash of the text
    codes: array[int] = field(default_factory=lambda: array("I"))  # place of the label in `labels`
    labels: dict[str, int] = field(default_factory=dict)

    def add(self, row: Row, seed: int) -> None:
        self.keys.append(int(schema.row_id("noise", seed, judged(row))[:16], 16))
        self.codes.append(self.labels.setdefault(row["label"], len(self.labels)))

    def arrays(self) -> tuple[list[str], NDArray[np.int64], NDArray[np.uint64]]:
        """Labels in order, the place of each row's among them, and the hash of its text: in whatever order the labels
        were met, they are the same."""
        place = np.argsort(np.argsort(np.array(list(self.labels))))
        return sorted(self.labels), place[np.array(self.codes)], np.array(self.keys, np.uint64)


def suspects(parts: Iterable[list[Row]], aids: Aids) -> Suspects:
    """Look for wrong labels among all rows, each question by itself."""
    out = [NONE]
    for question, found in judge(parts, aids).items():
        rows = wrong(found, aids.config.curate.noise_filter)
        told = f"{len(rows)} of {len(found.codes)} labels are suspect, as {found.learnt} rows teach"
        console.say(f"    noise, {_named(question)}: {told}")
        out.append(_told(found, rows))
    ids, likelier = (pa.concat_arrays(some) for some in zip(*((one.ids, one.likelier) for one in out), strict=True))
    return Suspects(ids, likelier, np.concatenate([one.probs for one in out]))


def unsuspected(rows: list[Row], aids: Aids, found: Suspects) -> Outcome:
    """Refuse rows whose label is suspect; the detail names the likelier one."""
    places = pc.index_in(pa.array([row["id"] for row in rows], pa.string()), value_set=found.ids).to_pylist()
    at = {row["id"]: place for row, place in zip(rows, places, strict=True)}

    def why(row: Row) -> tuple[str, str] | None:
        place = at[row["id"]]
        if place is None:
            return None
        given, other = found.probs[place]
        return "suspect_label", f"{row['label']} ({given:.3f}), likelier {found.likelier[place]} ({other:.3f})"

    return split(rows, why)


def judged(row: Row) -> str:
    """The text that the label is of."""
    beside = schema.strings(row.get("fields")).get(CONTEXT.get(row["task"], ""), "")
    return f"{row['text'][:LONGEST]}\n{beside[:LONGEST]}".rstrip("\n")


def judge(parts: Iterable[list[Row]], aids: Aids) -> dict[Question, Judged]:
    """Out-of-fold probabilities of every row's labels, where a classifier can tell them. No pass holds all texts.

    What is learnt from is at most `curate.noise_rows` of a question's rows, those with the smallest hashes.
    """
    seen: dict[Question, Seen] = {}
    for rows in parts:
        for row in rows:
            if question := _question(row):
                seen.setdefault(question, Seen()).add(row, aids.config.seed)
    found = {question: _of_question(parts, question, one, aids) for question, one in sorted(seen.items())}
    return {question: one for question, one in found.items() if one}


def wrong(found: Judged, how: str) -> NDArray[np.int64]:
    """Places of the rows whose label is suspect to a filter of cleanlab's."""
    from cleanlab.filter import find_label_issues

    return np.flatnonzero(find_label_issues(found.codes, found.probs, filter_by=how, n_jobs=1))


def _named(question: Question) -> str:
    return " ".join(filter(None, question))


def _question(row: Row) -> Question | None:
    few = 1 < len(row["labels"] or ()) <= schema.FEW_LABELS
    return (row["task"], row["facet"], row["language"]) if few else None


def _of_question(parts: Iterable[list[Row]], question: Question, seen: Seen, aids: Aids) -> Judged | None:
    from sklearn.metrics import cohen_kappa_score

    own, name = aids.config.curate, f"    noise, {_named(question)}:"
    names, codes, keys = seen.arrays()
    sample = np.lexsort((codes, keys))[: own.noise_rows]
    texts = np.unique(np.stack([keys[sample], codes[sample].astype(np.uint64)]), axis=1)[1].astype(np.int64)
    enough = np.flatnonzero(np.bincount(texts, minlength=len(names)) >= own.noise_least)
    if len(enough) < len(names):
        rare = len(names) - len(enough)
        console.say(f"{name} {rare} of {len(names)} labels have fewer than {own.noise_least} texts: they stay")
    if not 1 < len(enough) <= schema.FEW_LABELS:
        console.say(f"{name} {len(enough)} labels to compare: nothing refused")
        return None
    place = np.full(len(names), -1)
    place[enough] = np.arange(len(enough))
    codes = place[codes]
    labels = [names[at] for at in enough]
    sample, known = sample[codes[sample] >= 0], codes >= 0
    ids, probs = _probabilities(parts, question, labels, keys, codes, sample)
    found = Judged(ids.filter(pa.array(known)), labels, codes[known], probs[known], len(sample))
    kappa = cohen_kappa_score(found.codes, found.probs.argmax(axis=1))
    if not kappa >= LEAST_KAPPA:
        console.say(f"{name} the labels cannot be read off the text (kappa {kappa:.2f}): nothing refused")
        return None
    return found


def _probabilities(
    parts: Iterable[list[Row]],
    question: Question,
    labels: list[str],
    keys: NDArray[np.uint64],
    codes: NDArray[np.int64],
    sample: NDArray[np.int64],
) -> tuple[pa.Array, NDArray[np.float64]]:
    """Ids of a question's rows, and the probabilities of its labels out of fold, shape (n, K).

    A label that was not offered to a row is none it could have.
    """
    from scipy.sparse import vstack

    from synthrec.curation import ngrams

    folds = ngrams.stratified(keys, codes)
    chosen = np.zeros(len(keys), bool)
    chosen[sample] = True
    counted = []
    for rows, at in _own(parts, question):
        counted.append(ngrams.counts([judged(row) for row, one in zip(rows, chosen[at], strict=True) if one]))
    read = np.cumsum(chosen) - 1  # places in what was read; it is learnt from in the order of the hashes
    model = ngrams.OutOfFold.fit(vstack(counted, format="csr")[read[sample]], codes[sample], folds[sample])
    del counted
    ids, probs = [], []
    for rows, at in _own(parts, question):
        offered = np.array([[label in row["labels"] for label in labels] for row in rows])
        one = model(ngrams.counts([judged(row) for row in rows]), folds[at]) * offered
        probs.append(one / np.maximum(one.sum(axis=1, keepdims=True), 1e-12))
        ids.append(pa.array([row["id"] for row in rows], pa.string()))
    return pa.concat_arrays(ids), np.concatenate(probs)


def _own(parts: Iterable[list[Row]], question: Question) -> Iterator[tuple[list[Row], slice]]:
    """The question's rows of each part, and their places among all of the question's."""
    start = 0
    for rows in parts:
        if own := [row for row in rows if _question(row) == question]:
            yield own, slice(start, start + len(own))
            start += len(own)


def _told(found: Judged, rows: NDArray[np.int64]) -> Suspects:
    given, others = found.probs[rows, found.codes[rows]], found.probs[rows].copy()
    others[np.arange(len(rows)), found.codes[rows]] = -1  # the likelier label is another one
    best = others.argmax(axis=1)
    pairs = np.stack([given, others[np.arange(len(rows)), best]], axis=1)
    return Suspects(found.ids.take(pa.array(rows)), pa.array([found.labels[at] for at in best], pa.string()), pairs)
