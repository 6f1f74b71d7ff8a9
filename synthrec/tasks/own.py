"""Tasks of a user's own: declared in YAML alone, or a Python file with one Task. See docs/tasks.md."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from synthrec import schema
from synthrec.config import OwnTask
from synthrec.engines.base import Sampling
from synthrec.errors import UserError
from synthrec.tasks.base import Ask, Rejection, Task, chosen, one_line, templates
from synthrec.tasks.shop import Shop
from synthrec.tasks.typed import Typed, flat

KINDS = ("product", "review", "search", "dialogue", "shopper", "brand")
PRODUCT = ("description", "brand", "category")  # fields that a product may lack
LONGEST = 800  # characters of a record's text that a prompt shows
ZERO_SHOT = {
    "en": "Each text is filed under one of: {labels}.\n\nText: {text}\nFiled under:",
    "zh": "每段文字归入以下之一：{labels}。\n\n文字：{text}\n归入：",
}


def own_task(name: str, settings: OwnTask, seed: int) -> Task:
    """The task that the settings declare, or that their file holds. Raises UserError if the file holds none."""
    return Declared(name, settings, seed) if settings.file is None else _of_file(name, settings, seed)


class Declared(Task):
    """A task of YAML alone: a prompt, and labels to choose among, typed fields, or free text."""

    def __init__(self, name: str, settings: OwnTask, seed: int) -> None:
        # Of each instance, where other tasks have them of their class.
        self.name, self.settings, self.seed = name, settings, seed  # type: ignore[misc]
        self.reads = "corpus" if settings.reads in KINDS else str(settings.reads)  # type: ignore[misc]
        self.kind = str(settings.reads) if settings.reads in KINDS else ""  # type: ignore[misc]
        self.typed = Typed(dict(settings.fields)) if settings.fields else None
        self.against_prior = not settings.prompt
        prompts = settings.prompt or {language: ZERO_SHOT[language] for language in self._languages()}
        self.templates = {("", language): text.rstrip("\n") for language, text in prompts.items()}
        if not self.templates:
            raise UserError(
                f"own task {name}: no prompt, and labels in none of {', '.join(ZERO_SHOT)}", "give it a prompt"
            )

    def _languages(self) -> list[str]:
        labels = self.settings.labels
        return [la for la in ZERO_SHOT if la in labels] if isinstance(labels, dict) else list(ZERO_SHOT)

    @property
    def limit(self) -> int | None:
        return self.settings.max_records  # type: ignore[no-any-return]

    def sampling(self, facet: str) -> Sampling:
        s = self.settings
        schema_ = self.typed.schema if self.typed else None
        return Sampling(s.temperature, s.top_p, s.max_tokens, s.stop, schema_)

    def requests(self, record: dict[str, Any], shop: Shop) -> Iterator[Ask]:
        language = record["language"]
        labels = self._labels(language)
        shown = self.templates["", language]  # of the record's own fields, those that the prompt names
        own = schema.strings(record["fields"])
        own = dict.fromkeys(PRODUCT, "") | own if self.kind == "product" else own
        fields = {key: one_line(value, LONGEST) for key, value in own.items() if f"{{{key}}}" in shown}
        fields |= {"text": one_line(record["text"], LONGEST), "product_id": record["product_id"] or ""}
        if labels and not self.settings.prompt:
            fields["labels"] = ("、" if language == "zh" else ", ").join(labels.values())
        yield Ask([record.get("doc_id") or record["id"]], fields, options=labels or None)

    def parse(self, row: dict[str, Any]) -> dict[str, Any] | Rejection:
        fields = schema.strings(row["fields"])
        about = {"product_id": fields["product_id"] or None}
        if row["logprobs"] is not None:
            # Without examples in the prompt, a label's own commonness outweighs the text.
            return {"text": fields["text"], **about, **chosen(row, self.against_prior)}
        said = row["text"].strip()
        if not said:
            return Rejection("empty answer")
        if self.typed is None:
            return {"text": said, **about, "label": "written", "fields": {"of": fields["text"]}}
        found = self.typed.read(said)
        if isinstance(found, Rejection):
            return found
        return {"text": fields["text"], **about, "label": "fields", "fields": flat(found)}

    @property
    def kept(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("labels",)

    def _labels(self, language: str) -> dict[str, str]:
        """label -> word: labels of one language are called by the first language's words, so that they are the same."""
        labels = self.settings.labels
        if not isinstance(labels, dict):
            return {one: one for one in labels or ()}
        names = next(iter(labels.values()))
        return dict(zip(names, labels[language], strict=True))


def _of_file(name: str, settings: OwnTask, seed: int) -> Task:
    path = Path(str(settings.file))
    module = _module(path)
    found = [
        one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Task) and one is not Task
    ]
    own = [one for one in found if one.__module__ == module.__name__]
    if len(own) != 1:
        raise UserError(f"{path} holds {len(own)} tasks", "define one subclass of synthrec.tasks.Task in it")
    called = getattr(own[0], "name", None)
    if called != name:
        raise UserError(f"{path}: its task is called {called!r}", f"call it {name!r}, as own_tasks does")
    task = own[0](settings.settings, seed)
    task.templates = templates(path.parent / "prompts", name) or task.templates
    if not task.templates:
        raise UserError(f"{path}: no prompts", f"write {path.parent}/prompts/{name}.en.txt")
    return task


def _module(path: Path) -> ModuleType:
    """A user's file as a module that travels to the workers by value: they need not have the file."""
    from ray import cloudpickle

    if not path.is_file():
        raise UserError(f"no task file {path}", "give the path of a Python file in own_tasks.<name>.file")
    name = f"synthrec_task_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path}: {type(error).__name__}: {error}", "run it with python to see where") from error
    cloudpickle.register_pickle_by_value(module)
    return module
