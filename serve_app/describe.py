"""docs/api.md from the OpenAPI description: `python -m serve_app.describe > docs/api.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from serve_app.api import routes
from serve_app.guard import scope_of

HEAD = """# The API

Made by `python -m serve_app.describe`; a test keeps it so. A running service gives the same as `/openapi.json`.

Bodies are JSON. A body that holds a field that is not named here is refused, so that a typing error does not pass in
silence. Every reply has `X-Request-ID`, which is yours where you sent one, and which the service's log names.

**Keys.** Where the service has keys (`serve.keys`), each request sends one as `Authorization: Bearer KEY`. A key has
scopes; the one that a route needs stands beside it, and none includes another. Without a key `/healthz` is answered,
and the files of the page. Ask from the shop's servers: a page would give its key to every shopper, and there is no
CORS.

**Errors** are problem details (RFC 9457), media type `application/problem+json`:

```json
{"type": "urn:synthrec:problem:invalid", "title": "The request does not fit the schema", "status": 422,
 "detail": "#/k: Input should be less than or equal to 100", "instance": "urn:synthrec:request:5f0c",
 "hint": "/openapi.json describes every field",
 "errors": [{"pointer": "#/k", "detail": "Input should be less than or equal to 100"}]}
```

| Status | When |
|---|---|
| 400 | the body is not JSON in UTF-8, or nested too deep |
| 401, 403 | no valid key; a key without the scope |
| 404, 405 | an unknown path, product or shopper, or a part that the bundle does not hold; another method |
| 409 | a bundle that fails its checks, nothing to roll back, or a rollout that somebody else changed meanwhile |
| 413, 415 | more than `serve.max_body_bytes` (1,000,000); not `application/json` |
| 422 | a field is missing, unknown or out of range. `errors` names each; of what the index refuses `detail` tells |
| 429 | the key asks too often: `Retry-After` says when to come again |
| 500 | a fault, or a replica that died with the request in hand: then it is plain text, by the proxy |
| 503 | the service is full, or its store or index is away, as `detail` says: `Retry-After`, too |
| 504 | no answer in `serve.timeout_seconds` |

After 500, 503 and 504 a write may have been done or not. Events, products and deletions may be sent again as they were;
feedback has no id, and may then be kept twice.
"""


def described() -> str:
    told = routes().openapi()
    schemas = told["components"]["schemas"]
    parts = [HEAD]
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            parts.append("\n".join(_route(method.upper(), path, operation)))
    parts.append("## Schemas")
    parts += ["\n".join(_schema(name, schema)) for name, schema in sorted(schemas.items()) if "properties" in schema]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _route(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    scope = "none" if path == "/healthz" else scope_of(path)
    yield f"## {method} {path}\n"
    yield f"{operation['description']}\n"
    line = [f"Scope: {scope}."]
    if "requestBody" in operation:
        line.append(f"Body: {_type(_of(operation['requestBody']))}.")
    if reply := _of(operation["responses"]["200"]):
        line.append(f"Reply: {_type(reply)}.")
    yield " ".join(line)


def _of(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if told := schema.get("description", ""):
        yield " ".join(told.split()) + "\n"
    yield "| Field | Type | Default | |"
    yield "|---|---|---|---|"
    needed = schema.get("required", [])
    for field, about in schema["properties"].items():
        default = "needed" if field in needed else _plain(about.get("default"))
        yield f"| `{field}` | {_type(about)} | {default} | {_note(about)} |"


def _type(about: dict[str, Any]) -> str:
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in about:
        return " or ".join(_type(one) for one in about["anyOf"])
    if "enum" in about or "const" in about:
        return ", ".join(f"`{one}`" for one in about.get("enum", [about.get("const")]))
    if about.get("type") == "array":
        return f"list of {_type(about.get('items', {}))}"
    if about.get("type") == "object" and isinstance(about.get("additionalProperties"), dict):
        return f"object of {_type(about['additionalProperties'])}"
    return str(about.get("format") or about.get("type", "any"))


def _plain(default: Any) -> str:
    if default is None:
        return "null"
    return "" if isinstance(default, dict) else f"`{json.dumps(default)}`"


def _note(about: dict[str, Any]) -> str:
    parts = [about.get("description", "")]
    whole = [about, *about.get("anyOf", [])]
    for key, word in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("minLength", "characters at least"),
        ("maxLength", "characters at most"),
        ("minItems", "items at least"),
        ("maxItems", "items at most"),
        ("maxProperties", "names at most"),
        ("pattern", "like"),
    ):
        found = next((one[key] for one in whole if key in one), None)
        if found is not None:
            parts.append(f"{word} `{found}`")
    if examples := about.get("examples"):
        parts.append(f"e.g. `{examples[0]}`")
    return "; ".join(part for part in parts if part).replace("|", "\\|")


if __name__ == "__main__":
    print(described(), end="")
