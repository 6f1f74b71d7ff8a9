"""Settings as YAML that explains itself."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from synthrec.config.whole import Config


def commented(values: dict[str, Any], model: type[BaseModel] = Config, indent: str = "") -> str:
    """Settings as YAML, each with its description beside it."""
    lines = []
    for key, value in values.items():
        field = model.model_fields[key]
        note = field.description or ""
        inner = group(field.annotation)
        if inner is not None and value is not None:
            note = note or (inner.__doc__ or "").split("\n")[0]
            lines += [f"{indent}{key}:  # {note}", commented(value, inner, indent + "  ")]
        else:
            told = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=1000)
            lines.append(
                f"{indent}{key}: {told.removesuffix('...' + chr(10)).strip()}" + (f"  # {note}" if note else "")
            )
    return "\n".join(lines)


def group(annotation: Any) -> type[BaseModel] | None:
    """The group of settings that a field holds, if it holds one."""
    options = (annotation, *(() if get_origin(annotation) is dict else get_args(annotation)))
    return next((one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), None)
