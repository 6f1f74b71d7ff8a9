"""A shop's files for tests, and the prepare stage over them. It needs Ray."""

from __future__ import annotations

import json
from types import SimpleNamespace

from synthrec.config import Config
from synthrec.pipeline import Pipeline
from synthrec.stages import prepare


def products(*ids):
    return [{"product_id": i, "title": f"Kettle {i}", "brand": "Tarrow", "attributes": {"colour": "red"}} for i in ids]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def shop_in(tmp_path):
    """`shop.prepare(products="p.jsonl", ...)` runs the stage on files that `shop.write` made."""

    def write(name, data):
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else lines(data))
        return str(path)

    def run(settings=None, **sources):
        given = {kind: source if isinstance(source, dict) else {"path": source} for kind, source in sources.items()}
        given = {kind: source | {"path": str(tmp_path / "files" / source["path"])} for kind, source in given.items()}
        values = {"name": "shop", "run_dir": str(tmp_path / "run"), "sources": given, "prepare": settings or {}}
        pipeline = Pipeline(Config.model_validate(values), (prepare.STAGE,))
        pipeline.run("prepare")
        manifest = (pipeline.root / "prepare").read_json("manifest.json")
        out = pipeline.folder("prepare")
        tables = {name: (out / name).read_table(kind).to_pylist() for name, kind in prepare.TABLES.items()}
        return SimpleNamespace(**tables, figures=manifest["figures"], manifest=manifest)

    return SimpleNamespace(write=write, prepare=run, run_dir=tmp_path / "run", files=tmp_path / "files")


def ids(table):
    return sorted(row["product_id"] for row in table)
