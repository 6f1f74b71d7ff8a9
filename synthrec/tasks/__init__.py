"""Synthesis tasks. A new one: a file here with its prompts beside it, its settings in config.Tasks, a line below."""

from __future__ import annotations

from synthrec.config import Config
from synthrec.tasks.base import Rejection, Shop, Task
from synthrec.tasks.queries import Queries
from synthrec.tasks.relevance import Relevance
from synthrec.tasks.sentiment import Sentiment

TASKS: dict[str, type[Task]] = {task.name: task for task in (Queries, Relevance, Sentiment)}


def chosen_tasks(config: Config) -> list[Task]:
    """The tasks that the config turns on, those that read another's labels after it."""
    on = {name: settings for name in TASKS if (settings := getattr(config.synthesize.tasks, name)) is not None}
    return [TASKS[name](settings, config.seed) for name, settings in on.items()]


__all__ = ["TASKS", "Rejection", "Shop", "Task", "chosen_tasks"]
