"""Calibration from a handful of labels that people gave: where they come from, and what is fitted on them.

All functions take and give probabilities of (rows, labels) and the places of right labels, (rows,) of integers.

- temperature: one divisor of the log-probabilities (Guo et al. 2017, On Calibration of Modern Neural Networks).
- bias: a temperature and a bias for each label, vector scaling with one common weight: takes up a shift of the prior.
- isotonic: a monotone curve for each label against the rest, then normalised (Zadrozny and Elkan 2002).
- `prior_shift`: the prior of unlabelled texts, by EM (Saerens et al. 2002), where there is no gold at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize, minimize_scalar
from scipy.special import logsumexp, softmax

from synthrec.errors import UserError
from synthrec.review import decisions
from synthrec.storage import Folder, filesystem

Probabilities = NDArray[np.float64]
Places = NDArray[np.int64]
Kind = Literal["none", "temperature", "bias", "isotonic"]

LEAST = 20  # rows: fewer cannot tell a better calibration from luck
FOLDS = 5
TINY = 1e-12
PULL = 1.0  # weight of a standard normal prior on biases, in rows: with few rows they stay near 0


@dataclass(frozen=True)
class Gold:
    """A right label. `id` is the label row's; a user's own file has none, and is matched by task, text and product."""

    task: str
    text: str
    label: str
    facet: str = ""
    id: str | None = None
    product_id: str = ""


def reviewed(root: Folder) -> list[Gold]:
    """What reviewers said of labels that were chosen, not written; a row they rejected has no right label."""
    found = decisions.gold(decisions.read(root)).values()
    return [Gold(d.task, d.text, str(d.gold), d.facet, d.id) for d in found if d.chosen]


def from_file(path: str) -> list[Gold]:
    """A JSONL file with task, text, label and, if a task asks several questions, facet; of relevance, product_id.

    Raises:
        UserError: naming the line that is not so.
    """
    fs, place = filesystem(path)
    try:
        with fs.open_input_stream(place) as stream:
            lines = stream.read().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"curate.gold: cannot read {path}: {error}", "give a JSONL file in UTF-8") from None
    return [_gold(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _gold(line: str, where: str) -> Gold:
    hint = 'write {"task": "sentiment", "text": "...", "label": "positive"} on each line'
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise UserError(f"curate.gold: {where} is not JSON: {error}", hint) from None
    fields = ("task", "text", "label", "facet", "product_id")
    given = {"facet": "", "product_id": ""} | row if isinstance(row, dict) else {}
    values = {name: given[name] for name in fields if isinstance(given.get(name), str)}
    if len(values) < len(fields):
        raise UserError(f"curate.gold: {where} has no task, text and label", hint)
    if values["task"] == "relevance" and not values["product_id"]:
        raise UserError(f"curate.gold: {where} does not say which product fits", 'add "product_id": "..."')
    return Gold(**values)


@dataclass(frozen=True)
class Calibration:
    """A fitted map of probabilities. `curves` are, for each label, knots x and values y."""

    kind: Kind = "none"
    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def __call__(self, probs: Probabilities) -> Probabilities:
        """Calibrated probabilities of the same shape, rows summing to 1."""
        if self.kind == "none":
            return probs
        if self.kind == "isotonic":
            columns = [np.interp(probs[:, i], x, y) for i, (x, y) in enumerate(self.curves)]
            made = np.stack(columns, axis=1)
            return np.asarray(made / made.sum(axis=1, keepdims=True))
        bias = np.array(self.bias) if self.bias else 0.0
        return np.asarray(softmax(_logs(probs) / self.temperature + bias, axis=1))


@dataclass(frozen=True)
class Fitted:
    """What was chosen and why; `nll` of each kind in cross-validation (nats a row; empty if none was tried)."""

    calibration: Calibration
    reason: str
    rows: int
    nll: dict[str, float]


def fit(probs: Probabilities, gold: Places, seed: int = 13) -> Fitted:
    """The calibration that cross-validation shows to help; else the one that changes nothing.

    The best kind's gain in log-likelihood over the rows must exceed its standard error: a handful of rows can make any
    curve look good.
    """
    rows = len(probs)
    if rows < LEAST:
        return Fitted(Calibration(), f"{rows} gold rows are too few: {LEAST} are needed", rows, {})
    if len(np.unique(gold)) < 2:
        return Fitted(Calibration(), "all gold rows have the same label", rows, {})
    fold = _folds(gold, seed)
    losses = {"none": _losses(probs, gold)}
    for kind, fitter in FITTERS.items():
        found = np.empty(rows)
        for one in range(FOLDS):
            out = fold == one
            found[out] = _losses(fitter(probs[~out], gold[~out])(probs[out]), gold[out])
        losses[kind] = found
    means = {kind: float(loss.mean()) for kind, loss in losses.items()}
    best = min(FITTERS, key=means.__getitem__)
    gain = losses["none"] - losses[best]
    error = float(gain.std(ddof=1) / np.sqrt(rows))
    told = f"{best} scaling changes NLL from {means['none']:.3f} to {means[best]:.3f} over {rows} gold rows"
    if gain.mean() <= error:
        return Fitted(Calibration(), f"{told}, no more than chance: left as it was", rows, means)
    return Fitted(FITTERS[best](probs, gold), told, rows, means)


def temperature(probs: Probabilities, gold: Places) -> Calibration:
    """Temperature scaling of least NLL, between 1/20 and 20. Changes no row's best label."""
    logs = _logs(probs)
    best = minimize_scalar(lambda t: _nll_of(logs / np.exp(t), gold), bounds=(-3.0, 3.0), method="bounded")
    return Calibration("temperature", temperature=float(np.exp(best.x)))


def bias(probs: Probabilities, gold: Places) -> Calibration:
    """A temperature and a bias for each label, of least NLL with a weak prior on both."""
    logs, rows = _logs(probs), len(gold)

    def loss(x: NDArray[np.float64]) -> float:
        return _nll_of(logs / np.exp(x[0]) + x[1:], gold) + PULL * float(x @ x) / (2 * rows)

    limits = [(-3.0, 3.0)] + [(None, None)] * probs.shape[1]
    found = minimize(loss, np.zeros(1 + probs.shape[1]), method="L-BFGS-B", bounds=limits).x
    return Calibration("bias", temperature=float(np.exp(found[0])), bias=tuple((found[1:] - found[1:].mean()).tolist()))


def isotonic(probs: Probabilities, gold: Places) -> Calibration:
    """A monotone curve for each label, by pool adjacent violators; kept off 0 and 1 by as much as the rows can show."""
    curves = []
    for label in range(probs.shape[1]):
        x, place, counts = np.unique(probs[:, label], return_inverse=True, return_counts=True)
        share = np.bincount(place, weights=gold == label) / counts
        y = np.clip(isotonic_regression(share, weights=counts).x, 1 / (len(gold) + 2), 1 - 1 / (len(gold) + 2))
        curves.append((tuple(x.tolist()), tuple(y.tolist())))
    return Calibration("isotonic", curves=tuple(curves))


FITTERS = {"temperature": temperature, "bias": bias, "isotonic": isotonic}


def prior_shift(
    probs: Probabilities, prior: Sequence[float] | None = None, steps: int = 1000
) -> tuple[Probabilities, NDArray[np.float64]]:
    """Probabilities under the texts' own prior, which EM finds with no gold label, and that prior.

    Args:
        probs: calibrated under `prior`; EM takes a lack of calibration for a shift.
        prior: of the labels where they were calibrated; None: the same for all.
    """
    labels = probs.shape[1]
    old = np.full(labels, 1 / labels) if prior is None else np.asarray(prior, np.float64)
    new, made = old.copy(), probs
    for _ in range(steps):
        made = probs * (new / old)
        made = made / made.sum(axis=1, keepdims=True)
        last, new = new, np.clip(made.mean(axis=0), TINY, None)
        new = new / new.sum()
        if np.abs(new - last).max() < 1e-9:
            break
    return made, new


def nll(probs: Probabilities, gold: Places) -> float:
    """Mean negative log-likelihood of the right labels, in nats."""
    return float(_losses(probs, gold).mean())


def _logs(probs: Probabilities) -> Probabilities:
    return np.log(np.clip(probs, TINY, 1.0))


def _losses(probs: Probabilities, gold: Places) -> NDArray[np.float64]:
    return -_logs(probs)[np.arange(len(gold)), gold]


def _nll_of(logits: NDArray[np.float64], gold: Places) -> float:
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(gold)), gold]).mean())


def _folds(gold: Places, seed: int) -> NDArray[np.int64]:
    """Each row's fold; the rows of a label are dealt out evenly."""
    order = np.random.default_rng(seed).permutation(len(gold))
    order = order[np.argsort(gold[order], kind="stable")]
    fold = np.empty(len(gold), np.int64)
    fold[order] = np.arange(len(gold)) % FOLDS
    return fold
