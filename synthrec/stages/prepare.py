"""prepare: the shop's files -> catalogue, one clean text corpus without personal data, interactions, rejects.

Each unit of work (a file, or a piece of one) is a Ray Data task that reads, checks, cleans and writes its own part; a
part that is already there is not made again. Ids are then checked across parts and the parts are published.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from synthrec import cluster, console, schema
from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.privacy import Pseudonymiser, load_key
from synthrec.sources import readers, records
from synthrec.sources.cleaning import clean, language, product_text
from synthrec.storage import Folder, filesystem

TABLES = {
    "catalogue": schema.CATALOGUE,
    "corpus": schema.CORPUS,
    "interactions": schema.INTERACTIONS,
    "rejects": schema.REJECT,
}
# Until ids are checked across files, a document remembers where it stood.
PARTS = TABLES | {"corpus": schema.CORPUS.append(pa.field("where", pa.string()))}


def settings(config: Config) -> Any:
    sources = {k: [s.model_dump(), readers.stamp(k, s)] for k, s in config.sources.given().items()}
    return {"sources": sources, "privacy": config.privacy.model_dump(), "prepare": config.prepare.model_dump()}


def run(context: Context) -> dict[str, Any]:
    config = context.config
    load_key()  # made here if there is none, before tasks race for it
    plan = [unit for kind, source in config.sources.given().items() for unit in readers.units(kind, source)]
    fs_of = {kind: filesystem(source.path)[0] for kind, source in config.sources.given().items()}
    for unit in plan:
        _check_columns(fs_of[unit.kind], unit)
    cluster.start()
    totals: dict[str, Counter[str]] = {kind: Counter() for kind in fs_of}
    found: Counter[str] = Counter()
    parts = context.keep("parts") / context.out.path.rpartition("/")[2]
    work = [{"part": schema.row_id(*asdict(unit).values()), "unit": asdict(unit)} for unit in plan]
    convert = partial(_convert, fs_of=fs_of, config=config, out=parts, key=load_key())
    with console.meter("prepare", len(plan), "files") as meter:
        for result in cluster.work(work, convert, num_cpus=0.5):
            totals[result["kind"]].update(result["counts"])
            found.update({k: v for k, v in result["personal_data"].items() if v})
            rows = sum(c["rows"] for c in totals.values())
            meter.advance(note=f"{rows} rows")
    _check_totals(config, totals, parts)
    names = [one["part"] for one in work]
    publish = partial(_publish, parts=parts, out=context.out, doubles=_find_doubles(parts, names))
    duplicates = sum(one["duplicates"] for one in cluster.work([{"part": n} for n in names], publish, num_cpus=0.5))
    parts.delete()
    return {
        "sources": {kind: dict(counts) for kind, counts in totals.items()},
        "duplicates": duplicates,
        "personal_data": dict(found),
    }


def _check_columns(fs: Any, unit: readers.Unit) -> None:
    names = readers.columns(fs, unit)
    if names is None:
        return
    for name in records.required(unit.kind):
        if name not in names:
            raise UserError(
                f"{unit.path}: no column '{name}' (it has: {', '.join(names)})",
                f"map it in the config: sources.{unit.kind}.columns: {{{name}: <your column>}}",
            )


def _convert(row: dict[str, Any], fs_of: dict[str, Any], config: Config, out: Folder, key: bytes) -> dict[str, Any]:
    """One unit of work: read, check, clean, write the part's tables, account for them."""
    done = out / "parts"
    name = f"{row['part']}.json"
    if done.exists(name):
        return done.read_json(name)  # type: ignore[no-any-return]
    unit = readers.Unit(**{**row["unit"], "columns": dict(row["unit"]["columns"] or {})})
    hide = Pseudonymiser(key, config.privacy.kinds)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    counts: Counter[str] = Counter()
    personal: Counter[str] = Counter()
    for found in readers.read(fs_of[unit.kind], unit):
        counts["rows"] += 1
        made = _record(found, unit.kind, config.prepare.max_field_chars)
        if isinstance(made, dict):
            made["raw"] = hide.text(made["raw"])[0]
            rows["rejects"].append(made)
            counts["rejected"] += 1
            continue
        for table, value in _rows(made, hide, personal):
            rows[table].append(value | {"where": found.where} if table == "corpus" else value)
    for table, values in rows.items():
        if values:
            (out / table).write_table(f"{row['part']}.parquet", schema.table(values, PARTS[table]))
    result = {
        "kind": unit.kind,
        "counts": {"rows": counts["rows"], "rejected": counts["rejected"]},
        "personal_data": {kind: personal[kind] for kind in config.privacy.kinds},
    }
    done.write_json(name, result)
    return result


def _record(row: readers.Row, kind: str, limit: int) -> records.Record | dict[str, str]:
    """The checked record, or the reject row that says what is wrong with it."""
    if row.value is None:
        reason, detail = row.error or ("unreadable", "")
        return schema.reject("prepare", row.where, reason, detail, row.raw)
    for name, value in row.value.items():
        if isinstance(value, str) and len(value) > limit:
            detail = f"{name} is {len(value)} characters long, more than prepare.max_field_chars = {limit}"
            return schema.reject("prepare", row.where, "field too long", detail, value[:200])
    try:
        return records.KINDS[kind].model_validate(row.value)
    except ValidationError as error:
        return schema.reject("prepare", row.where, "invalid record", records.problem(error), row.raw)
    except (ValueError, TypeError, RecursionError) as error:  # a cell that should hold JSON
        return schema.reject("prepare", row.where, "invalid record", str(error), row.raw)


def _rows(record: records.Record, hide: Pseudonymiser, personal: Counter[str]) -> list[tuple[str, dict[str, Any]]]:
    """What one record adds to the tables: a product stands in the catalogue and in the corpus."""

    def text(value: str) -> str:
        hidden, counts = hide.text(clean(value))
        personal.update(counts)
        return hidden

    def user(value: str | None) -> str | None:
        return hide.user(value) if value else None

    match record:
        case records.Product():
            whole = product_text(record)
            tongue = record.language or language(whole)
            product = {
                "product_id": record.product_id,
                "language": tongue,
                "title": clean(record.title),
                "description": clean(record.description),
                "brand": clean(record.brand) if record.brand else None,
                "category": clean(record.category) if record.category else None,
                "attributes": {clean(k): clean(v) for k, v in record.attributes.items()},
                "price": record.price,
                "text": whole,
            }
            fields = {k: product[k] for k in ("title", "description", "brand", "category") if product[k]}
            fields["attributes"] = "; ".join(f"{k}: {v}" for k, v in product["attributes"].items())
            return [
                ("catalogue", product),
                ("corpus", _document("product", record.product_id, tongue, whole, fields, product_id=record.product_id)),
            ]
        case records.Review():
            body = text(record.text)
            fields = {"rating": str(record.rating)} if record.rating else {}
            doc = _document("review", record.review_id, record.language or language(body), body, fields)
            doc |= {"product_id": record.product_id, "user_id": user(record.user_id), "timestamp": record.timestamp}
            return [("corpus", doc)]
        case records.Search():
            body = text(record.query)
            fields = {"clicks": "|".join(record.clicks)}
            doc = _document("search", record.search_id, record.language or language(body), body, fields)
            return [("corpus", doc | {"user_id": user(record.user_id), "timestamp": record.timestamp})]
        case records.Dialogue():
            body = "\n".join(f"{turn.role}: {text(turn.text)}" for turn in record.turns)
            tongue = record.language or language(" ".join(turn.text for turn in record.turns))
            doc = _document("dialogue", record.dialogue_id, tongue, body, {})
            doc |= {"product_id": record.product_id, "user_id": user(record.user_id), "timestamp": record.timestamp}
            return [("corpus", doc)]
        case records.Interaction():
            seen = {"user_id": hide.user(record.user_id), "product_id": record.product_id}
            return [("interactions", seen | {"event": record.event, "timestamp": record.timestamp})]
    raise TypeError(type(record))


def _document(kind: str, source: str, tongue: str, text: str, fields: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"doc_id": f"{kind}:{source}", "kind": kind, "language": tongue, "text": text, "fields": fields, **more}


def _publish(row: dict[str, Any], parts: Folder, out: Folder, doubles: dict[str, dict[int, str]]) -> dict[str, Any]:
    """Write one part's tables for good, its repeated ids moved to rejects. Writes the same when run again."""
    name = f"{row['part']}.parquet"
    again = doubles.get(row["part"], {})
    rejects = []
    for table, kind in TABLES.items():
        if not (parts / table).exists(name):
            continue
        data = _read(parts / table, name)
        if table in ("catalogue", "corpus") and again:
            data = data.filter(pa.array([i not in again for i in range(data.num_rows)]))
        (out / table).write_table(name, data.select(kind.names).cast(kind))
    for index, first in again.items():
        data = _read(parts / "corpus", name).slice(index, 1).to_pylist()[0]
        detail = f"{data['doc_id']} stands at {first} too, and that one was kept"
        rejects.append(schema.reject("prepare", data["where"], "duplicate id", detail, data["text"]))
    if rejects:
        (out / "rejects").write_table(f"duplicates-{name}", schema.table(rejects, schema.REJECT))
    return {"part": row["part"], "duplicates": len(rejects)}


def _find_doubles(parts: Folder, names: list[str]) -> dict[str, dict[int, str]]:
    """part -> row of it whose id has stood before -> where that was. Order: as the sources are listed, then rows."""
    first: dict[str, str] = {}
    doubles: dict[str, dict[int, str]] = {}
    for name in names:
        if not (parts / "corpus").exists(f"{name}.parquet"):
            continue
        data = _read(parts / "corpus", f"{name}.parquet", ["doc_id", "where"])
        for index, (one, where) in enumerate(zip(*(data[c].to_pylist() for c in data.column_names), strict=True)):
            if first.setdefault(one, where) != where:
                doubles.setdefault(name, {})[index] = first[one]
    return doubles


def _read(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    with folder.fs.open_input_file(f"{folder.path}/{name}") as file:
        return pq.read_table(file, columns=columns)


def _check_totals(config: Config, totals: dict[str, Counter[str]], out: Folder) -> None:
    """A source that is mostly refused is not what the config says it is: stop, and say the commonest reasons."""
    for kind, counts in totals.items():
        if counts["rejected"] > config.prepare.max_reject_rate * counts["rows"]:
            rejects = (out / "rejects").read_table(schema.REJECT).to_pylist()
            reasons = Counter(f"{r['reason']}: {r['detail']}" for r in rejects).most_common(3)
            told = "\n".join(f"  {count} x {reason:.200}" for reason, count in reasons)
            where = config.sources.given()[kind].path
            raise UserError(
                f"{where}: {counts['rejected']} of {counts['rows']} rows refused\n{told}\n"
                f"  first: {rejects[0]['where'] if rejects else where}",
                "mend the file or sources." + kind + ", or raise prepare.max_reject_rate",
            )


STAGE = Stage("prepare", "reads, cleans and pseudonymises the shop's files", (), settings, run)
