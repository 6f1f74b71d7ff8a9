"""Pictures of the run report, as SVG text to put into the page."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

INK, ACCENT, QUIET = "#1f2933", "#0b7285", "#adb5bd"
TEXT = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
FRAME = {"axes.spines.top": False, "axes.spines.right": False}
STYLE: dict[Any, Any] = TEXT | FRAME | {"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "synthrec"}


def systems(table: dict[str, Any], measure: str, winner: str, over: str) -> str:
    """One line a system: its mean and 95% interval over the test's `over`; the one that is deployed stands out."""
    names = list(table)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.5 * len(names) + 0.9))
        for row, name in enumerate(reversed(names)):
            one = table[name][measure]
            colour = ACCENT if name == winner else QUIET
            axes.plot([one["low"], one["high"]], [row, row], color=colour, lw=5, solid_capstyle="round", alpha=0.55)
            axes.plot([one["mean"]], [row], "o", color=colour, ms=9)
            axes.annotate(f"{one['mean']:.3f}", (one["mean"], row), (0, 8), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.set_ylim(-0.6, len(names) - 0.2)
        axes.set_xlabel(f"{measure}: mean and 95% interval over the test {over} (higher is better)")
        axes.grid(axis="x", alpha=0.25)
        return _svg(figure)


def differences(tests: list[dict[str, Any]]) -> str:
    """One line a comparison: the mean difference and its interval about zero."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.55 * len(tests) + 0.9))
        for row, one in enumerate(reversed(tests)):
            colour = {"better": "#2b8a3e", "worse": "#c92a2a"}.get(one["verdict"], "#868e96")
            axes.plot([one["low"], one["high"]], [row, row], color=colour, lw=5, solid_capstyle="round", alpha=0.55)
            axes.plot([one["mean"]], [row], "o", color=colour, ms=9)
        axes.axvline(0, color=INK, lw=1)
        axes.set_yticks(range(len(tests)), [f"{t['system']}\nvs {t['baseline']}" for t in reversed(tests)])
        axes.set_ylim(-0.6, len(tests) - 0.4)
        axes.set_xlabel("difference in NDCG@10, 95% interval of the paired bootstrap")
        axes.grid(axis="x", alpha=0.25)
        return _svg(figure)


def bars(values: dict[str, float], label: str) -> str:
    """Horizontal bars, in the order given."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.34 * len(values) + 0.8))
        names = list(reversed(values))
        drawn = axes.barh(names, [values[n] for n in names], color=ACCENT, height=0.6)
        axes.bar_label(drawn, fmt="%.0f", padding=3)
        axes.set_xlabel(label)
        return _svg(figure)


def curve(values: list[float], x: str, y: str) -> str:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 2.2))
        axes.plot(range(1, len(values) + 1), values, "-o", color=ACCENT)
        axes.set_xticks(range(1, len(values) + 1))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        return _svg(figure)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = text.getvalue()
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'class="chart"', svg[svg.index("<svg") :], count=1)
