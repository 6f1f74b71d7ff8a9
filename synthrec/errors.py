"""Errors that are the user's to mend. Everything else is a bug and keeps its stack trace."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in input, configuration or environment, told in words.

    Args:
        problem: what is wrong and where (file, row, key).
        hint: how to mend it.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem}\n  hint: {self.hint}" if self.hint else self.problem


def unwrap(error: BaseException) -> UserError | None:
    """The user error that a Ray wrapper carries, if there is one anywhere in its chain."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, UserError):
            return one
        todo += [getattr(one, "cause", None), one.__cause__, one.__context__]
    return None
