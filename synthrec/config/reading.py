"""A YAML file and overrides -> checked settings; a mistake is told with its key and what would be right."""

from __future__ import annotations

import difflib
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ValidationError

from synthrec.config.telling import group
from synthrec.config.whole import Config
from synthrec.errors import UserError

# The others are of bytes that are no UTF-8, and of values that a tag or a form promises and the text is not:
# 2024-02-30, !!int abc.
MALFORMED = (yaml.YAMLError, ValueError, AttributeError, RecursionError)


def load(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a config file.

    Args:
        path: the YAML file. Relative paths inside it are relative to the working directory.
        overrides: `dotted.key=value` settings that win over the file; values are YAML.

    Raises:
        UserError: naming the file and the key, and what would be right.
    """
    try:
        data = _yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no config file {path}", "start from configs/store.yaml") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "give a file such as configs/store.yaml") from None
    except MALFORMED as error:
        raise UserError(f"{path} is not valid YAML: {error}", "compare it with configs/store.yaml") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no settings", "start from configs/store.yaml")
    return _checked(str(path), data, overrides)


def _checked(path: str, data: dict[str, Any], overrides: list[str] | None) -> Config:
    for override in overrides or []:
        _set(data, override)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise UserError(*_explain(path, error)) from None
    check_egress(config)
    return config


def check_egress(config: Config) -> None:
    """Raise UserError if text would leave for a host that the config does not allow."""
    engine = config.synthesize.engine
    if engine.kind != "openai" or engine.server is None:
        return
    try:
        host = (urlsplit(engine.server.url).hostname or "").lower()
    except ValueError as error:
        raise UserError(f"synthesize.engine.server.url is no URL: {error}", "write it like https://host/v1") from None
    if not _loopback(host) and host not in {one.lower() for one in config.privacy.allow_hosts}:
        raise UserError(
            f"synthesize.engine.server.url: text would go to {host}, which privacy.allow_hosts does not name",
            f"if it may, set privacy.allow_hosts: [{host}]",
        )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def defaults(overrides: list[str] | None = None) -> dict[str, Any]:
    """Every setting with its default, for a shop whose products are in products.jsonl."""
    given: dict[str, Any] = {
        "name": "shop",
        "run_dir": "runs/shop",
        "sources": {"products": {"path": "products.jsonl"}},
    }
    return _checked("the defaults", given, overrides).model_dump(mode="json")


def _set(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set {override}: no '='", "write it as --set train.epochs=3")
    *parents, leaf = key.strip().split(".")
    for depth, parent in enumerate(parents, 1):
        if data.get(parent) is None:
            data[parent] = _given_as_default(parents[:depth])
        data = data[parent]
        if not isinstance(data, dict):
            raise UserError(f"--set {override}: {parent} is not a group of settings", "check the dotted key")
    try:
        data[leaf] = _yaml(value)
    except MALFORMED as error:
        raise UserError(f"--set {override}: the value is not YAML: {error}", "quote it, or mend its brackets") from None


def _given_as_default(parents: list[str]) -> dict[str, Any]:
    """What a group that the file leaves out holds: one setting of it must not take the others away."""
    model: Any = Config
    for depth, parent in enumerate(parents, 1):
        field = model.model_fields.get(parent) if model else None
        if field is None:
            return {}
        if depth == len(parents) and isinstance(field.default, BaseModel):
            return field.default.model_dump(mode="json", exclude_unset=True)
        model = group(field.annotation)
    return {}


class _Once(yaml.SafeLoader):
    """Refuses a key that is written twice: YAML's own reader keeps the last one, in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is written twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    """Raises one of MALFORMED."""
    return yaml.load(text, _Once)  # noqa: S506  # a SafeLoader


def _explain(path: str, error: ValidationError) -> tuple[str, str]:
    lines, hint = [], "`synthrec config` prints every key"
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key '{key}'")
            near = difflib.get_close_matches(str(one["loc"][-1]), _known(one["loc"][:-1]), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"keys here: {', '.join(_known(one['loc'][:-1]))}"
        elif one["type"] == "missing":
            lines.append(f"{path}: key '{key}' is required")
        else:
            lines.append(f"{path}: {key}: {one['msg']} (it is {one['input']!r:.80})")
    return "\n".join(lines), hint


def _known(loc: tuple[Any, ...]) -> list[str]:
    annotation: Any = Config
    for part in loc:
        if get_origin(annotation) is dict:  # of groups that the user names
            annotation = get_args(annotation)[1]
            continue
        model = group(annotation)
        if model is None or part not in model.model_fields:
            return []
        annotation = model.model_fields[part].annotation
    model = group(annotation)
    return [] if model is None else list(model.model_fields)
