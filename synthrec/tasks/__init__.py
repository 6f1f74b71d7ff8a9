"""Synthesis tasks. A new one: a file here with its prompts beside it, its settings in config.Tasks, a line below.

A user's own task needs none of that: see `own.py` and docs/tasks.md.
"""

from __future__ import annotations

from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.tasks.base import Ask, Rejection, Task
from synthrec.tasks.brand import Brand
from synthrec.tasks.intent import Intent
from synthrec.tasks.own import own_task
from synthrec.tasks.profile import Profile
from synthrec.tasks.queries import Queries
from synthrec.tasks.relevance import Relevance
from synthrec.tasks.reply import Reply
from synthrec.tasks.sentiment import Sentiment
from synthrec.tasks.session import Session
from synthrec.tasks.shop import Shop

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (Queries, Relevance, Sentiment, Intent, Profile, Brand, Reply, Session)
}


def chosen_tasks(config: Config) -> list[Task]:
    """The tasks that the config turns on, those that read another's labels after it.

    Raises:
        UserError: if a task reads the labels of one that is not there, or tasks wait for each other.
    """
    on = {name: settings for name in TASKS if (settings := getattr(config.synthesize.tasks, name)) is not None}
    tasks = [TASKS[name](settings, config.seed) for name, settings in on.items()]
    tasks += [own_task(name, settings, config.seed) for name, settings in config.synthesize.own_tasks.items()]
    ordered: list[Task] = []
    while tasks:
        known = {"corpus", *(task.name for task in ordered)}
        ready = [task for task in tasks if task.reads in known]
        if not ready:
            task = tasks[0]
            raise UserError(
                f"task {task.name} reads the labels of {task.reads}, which is not turned on",
                f"turn {task.reads} on in synthesize.tasks, or leave {task.name} out",
            )
        ordered += ready
        tasks = [task for task in tasks if task not in ready]
    return ordered


def waves(tasks: list[Task]) -> list[list[Task]]:
    """Tasks that can be asked together: first those that read the corpus, then those that read labels of these."""
    found: list[list[Task]] = []
    level: dict[str, int] = {"corpus": -1}
    for task in tasks:
        level[task.name] = level[task.reads] + 1
        while len(found) <= level[task.name]:
            found.append([])
        found[level[task.name]].append(task)
    return found


__all__ = ["TASKS", "Ask", "Rejection", "Shop", "Task", "chosen_tasks", "waves"]
