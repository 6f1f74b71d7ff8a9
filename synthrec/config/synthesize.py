"""Labels from the LLM."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from synthrec.config.base import Fraction, Positive, Settings
from synthrec.config.engine import Engine
from synthrec.config.tasks import OwnTask, QueriesTask, RelevanceTask, SentimentTask, Tasks


class Budget(Settings):
    """Limits of all tasks together. At a limit synthesis stops, and what is done is published; raise it to go on."""

    rows: Positive | None = Field(None, description="answers; null: no limit")
    tokens: Positive | None = Field(None, description="read and written, ever in this run directory; null: no limit")
    seconds: Annotated[float, Field(gt=0)] | None = Field(None, description="of one run; null: no limit")
    money: Annotated[float, Field(gt=0)] | None = Field(
        None, description="by engine.prices, ever in this run directory; null: no limit"
    )


class Synthesize(Settings):
    """Labels from the LLM."""

    engine: Engine = Engine()
    tasks: Tasks = Tasks(queries=QueriesTask(), relevance=RelevanceTask(), sentiment=SentimentTask())
    own_tasks: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], OwnTask] = Field(
        {}, description="name: a task of your own, in YAML alone or with a Python file; see docs/tasks.md"
    )
    max_failure_rate: Fraction = Field(0.5, description="of answers of no use; above it the job stops and says why")
    failure_window: Positive = Field(200, description="the last so many answers are judged, once there are so many")
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _money_has_prices(self) -> Synthesize:
        if self.budget.money is not None and self.engine.prices is None:
            raise ValueError("budget.money needs engine.prices: what a million tokens cost")
        if taken := set(self.own_tasks) & set(Tasks.model_fields):
            raise ValueError(f"own_tasks: {', '.join(taken)} is a task of synthrec's; choose another name")
        return self
