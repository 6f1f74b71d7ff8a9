"""prepare: the shop's files -> catalogue, one clean text corpus without personal data, interactions, rejects.

Each unit of work (a file, or a piece of one) is a Ray Data task that reads, checks, cleans and writes its own part; a
part that is already there is not made again. Ids are then checked across parts and the parts are published.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from synthrec import cluster, console, custody, schema
from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.pipeline import Context, Stage
from synthrec.privacy import Pseudonymiser, load_key, ner, vault
from synthrec.sources import common, documents, doubles, groups, rare, readers, records
from synthrec.sources.cleaning import HAN, clean
from synthrec.storage import Folder, filesystem

TABLES = {
    "catalogue": schema.CATALOGUE,
    "corpus": schema.CORPUS,
    "interactions": schema.INTERACTIONS,
    "rejects": schema.REJECT,
    "vault": schema.VAULT,
}
# Until ids are checked across files, a document remembers where it stood.
PARTS = TABLES | {"corpus": schema.CORPUS.append(pa.field("where", pa.string()))}
AHEAD = 64  # records whose texts a model of names reads at once


def settings(config: Config) -> Any:
    sources = {k: [s.model_dump(), readers.stamp(f"sources.{k}", s)] for k, s in config.sources.given().items()}
    made_of = {
        "sources": sources,
        "privacy": config.privacy.model_dump(exclude={"allow_hosts"}),
        "prepare": config.prepare.model_dump(),
    }
    return made_of | {"forgotten": custody.forgotten(Folder.open(config.run_dir, config.storage.key_source))}


def run(context: Context) -> dict[str, Any]:
    config = context.config
    load_key()  # made here if there is none, before tasks race for it
    if config.privacy.ner:
        ner.Ner(config.privacy.ner)  # what is wrong with it is told here, before any task starts
    plan = [unit for kind, source in config.sources.given().items() for unit in readers.units(kind, source)]
    fs_of = {kind: filesystem(source.path)[0] for kind, source in config.sources.given().items()}
    seen: dict[str, set[str]] = {}
    for unit in plan:
        seen.setdefault(unit.kind, set()).update(_check_columns(fs_of[unit.kind], unit))
    _check_mapped(config, seen)
    cluster.start()
    totals: dict[str, Counter[str]] = {kind: Counter() for kind in fs_of}
    found: Counter[str] = Counter()
    parts = context.keep("parts") / context.out.path.rpartition("/")[2]
    work = [{"part": schema.row_id(*asdict(unit).values()), "unit": asdict(unit)} for unit in plan]
    gone = frozenset(custody.forgotten(context.root))
    convert = partial(_convert, fs_of=fs_of, config=config, out=parts, key=load_key(), gone=gone)
    with console.meter("prepare", len(plan), "files") as meter:
        for result in cluster.work(work, convert, num_cpus=0.5):
            totals[result["kind"]].update(result["counts"])
            found.update({k: v for k, v in result["personal_data"].items() if v})
            rows = sum(c["rows"] for c in totals.values())
            meter.advance(note=f"{rows} rows")
    _check_totals(config, totals, parts, work)
    names = [str(one["part"]) for one in work]
    total = sum(counts["rows"] for counts in totals.values())
    refused = _publish_all(names, total, parts, context.out, config.privacy.k)
    grouped = _group(names, total, parts / "groups", context.out)
    if config.privacy.k > 1:
        grouped += _make_common(total, parts / "common", context.out, config.privacy.k)
    parts.delete()
    return {
        "sources": {kind: dict(counts) for kind, counts in totals.items()},
        "duplicates": refused["duplicates"],
        "rare_queries": refused["rare"],
        "grouped": dict(grouped),
        "personal_data": dict(found),
    }


def _check_columns(fs: Any, unit: readers.Unit) -> list[str]:
    """The columns that the file has, by our names; all that are mapped where its rows each have their own."""
    names = readers.columns(fs, unit)
    if names is None:
        return list(unit.columns)
    for name in records.required(unit.kind):
        if name not in names:
            raise UserError(
                f"{unit.path}: no column '{name}' (it has: {', '.join(names)})",
                f"map it in the config: sources.{unit.kind}.columns: {{{name}: <your column>}}",
            )
    return names


def _check_mapped(config: Config, seen: dict[str, set[str]]) -> None:
    """Raise UserError where a mapping can do nothing: a column of ours or of the files is misspelt."""
    for kind, source in config.sources.given().items():
        ours = records.KINDS[kind].model_fields
        for name, theirs in source.columns.items():
            key = f"sources.{kind}.columns"
            if name not in ours:
                raise UserError(f"{key}: there is no column '{name}'", f"ours are {', '.join(ours)}")
            if name not in seen[kind]:
                raise UserError(f"{key}: no file has a column '{theirs}', for {name}", "see how the files call it")


def _convert(
    row: dict[str, Any], fs_of: dict[str, Any], config: Config, out: Folder, key: bytes, gone: frozenset[str]
) -> dict[str, Any]:
    """One unit of work: read, check, clean, write the part's tables, account for them."""
    done = out / "parts"
    name = f"{row['part']}.json"
    if done.exists(name):
        return done.read_json(name)  # type: ignore[no-any-return]
    unit = readers.Unit(**{**row["unit"], "columns": dict(row["unit"]["columns"] or {})})
    people = ner.load(config.privacy.ner) if config.privacy.ner else None
    hide = Pseudonymiser(key, config.privacy.kinds, config.privacy.reversible, people)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    counts: Counter[str] = Counter()
    personal: Counter[str] = Counter()
    for found in _seen_ahead(readers.read(fs_of[unit.kind], unit), hide):
        counts["rows"] += found.lines
        owner = _user(found, hide)
        if owner in gone:
            counts["forgotten"] += 1
            (hide.seen or {}).clear()
            continue
        made = _record(found, unit.kind, config.prepare.max_field_chars, hide)
        if isinstance(made, dict):
            rows["rejects"].append(made)
            counts["rejected"] += found.lines
        else:
            for table, value in documents.rows(made, hide, personal, config.privacy.products):
                rows[table].append(value | {"where": found.where} if table == "corpus" else value)
        if hide.seen:
            rows["vault"] += vault.rows(hide.seen, owner, key)
            hide.seen.clear()
    for table, values in rows.items():
        if values:
            (out / table).write_table(f"{row['part']}.parquet", schema.table(values, PARTS[table]))
    result = {
        "kind": unit.kind,
        "counts": {"rows": counts["rows"], "rejected": counts["rejected"]}
        | ({"forgotten": counts["forgotten"]} if counts["forgotten"] else {}),
        "personal_data": {kind: personal[kind] for kind in config.privacy.kinds},
    }
    done.write_json(name, result)
    return result


def _seen_ahead(rows: Iterable[readers.Row], hide: Pseudonymiser) -> Iterator[readers.Row]:
    """The rows as they are, some at a time with what is written in them looked at together."""
    rows = iter(rows)
    while some := list(islice(rows, AHEAD)):
        said = (clean(text) for row in some for text in _texts(row.value) if " " in text or HAN.search(text))
        hide.look_ahead(said)
        yield from some


def _user(row: readers.Row, hide: Pseudonymiser) -> str | None:
    """The pseudonym of a raw row's shopper."""
    user = records.plain((row.value or {}).get("user_id"))
    return None if user is None else hide.user(str(user).strip())


def _record(row: readers.Row, kind: str, limit: int, hide: Pseudonymiser) -> records.Record | dict[str, str]:
    """The checked record, or the reject row that says what is wrong with it."""
    model = records.KINDS[kind]
    if row.value is None:
        reason, detail = row.error or ("unreadable", "")
        # Where in such a row a user id stands cannot be told: of kinds that have one, `where` must do.
        raw = "" if "user_id" in model.model_fields else row.raw
        return schema.reject("prepare", row.where, reason, detail, _hidden(raw, hide))
    known = {name: row.value[name] for name in model.model_fields if name in row.value}
    reason = "invalid record"
    try:
        longest = {name: max(map(len, _texts(value)), default=0) for name, value in known.items()}
        over = [name for name, length in longest.items() if length > limit]
        if not over:
            return model.model_validate(known)
        reason, name = "field too long", over[0]
        detail = f"{name} is {longest[name]} characters long, more than prepare.max_field_chars = {limit}"
    except ValidationError as error:
        detail = records.problem(error, partial(_hidden, hide=hide))
    except (ValueError, TypeError, RecursionError) as error:  # a cell that should hold JSON
        detail = _hidden(str(error), hide)
    if known.get("user_id"):
        known["user_id"] = _user(row, hide)
    try:
        raw = json.dumps(known, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        raw = ""
    return schema.reject("prepare", row.where, reason, detail, _hidden(raw, hide))


def _hidden(text: str, hide: Pseudonymiser) -> str:
    """The start of a text, without personal data; more than a reject keeps, so that the cut halves no number."""
    return hide.text(text[: 2 * schema.RAW_LIMIT])[0]


def _texts(value: Any) -> Iterator[str]:
    """The strings anywhere in a value."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one


def _publish_all(names: list[str], rows: int, parts: Folder, out: Folder, k: int) -> Counter[str]:
    """Look for ids that stand more than once and searches that fewer than k shoppers typed, and write every part for
    good; returns how many rows were refused as what."""
    buckets, found, queries, few = (parts / name for name in ("ids", "doubles", "queries", "rare"))
    for folder in (buckets, found, queries, few):
        folder.delete()  # of a run that was stopped, and may have had another number of them
    count = 1 + rows // doubles.ROWS_A_BUCKET
    units = [{"part": name, "order": order} for order, name in enumerate(names)]
    scatter = partial(doubles.scatter, corpus=parts / "corpus", buckets=buckets, count=count)
    list(cluster.work(units, scatter, num_cpus=0.5))
    gather = partial(doubles.gather, buckets=buckets, out=found)
    list(cluster.work([{"bucket": f"{number:05d}"} for number in range(count)], gather, num_cpus=0.5))
    if k > 1:
        list(cluster.work(units, partial(rare.scatter, corpus=parts / "corpus", buckets=queries, count=count)))
        work = [{"bucket": f"{number:05d}"} for number in range(count)]
        list(cluster.work(work, partial(rare.gather, buckets=queries, out=few, k=k), num_cpus=0.5))
    publish = partial(_publish, parts=parts, out=out, found=found, few=few, k=k)
    total: Counter[str] = Counter({"duplicates": 0, "rare": 0})
    for one in cluster.work(units, publish, num_cpus=0.5):
        total.update({kind: one[kind] for kind in ("duplicates", "rare")})
    return total


def _publish(row: dict[str, Any], parts: Folder, out: Folder, found: Folder, few: Folder, k: int) -> dict[str, Any]:
    """Write one part's tables for good, repeated ids and rare searches moved to rejects. Writes the same when run
    again."""
    name = f"{row['part']}.parquet"
    again = doubles.of_part(found, row["order"])
    hidden = rare.of_part(few, row["order"]) - set(again)
    rejects = []
    for table, kind in TABLES.items():
        if not (parts / table).exists(name):
            continue
        data = _read(parts / table, name)
        if table in ("catalogue", "corpus") and (again or hidden):
            data = data.filter(pa.array([i not in again and i not in hidden for i in range(data.num_rows)]))
        (out / table).write_table(name, data.select(kind.names).cast(kind))
    for index, first in again.items():
        data = _read(parts / "corpus", name).slice(index, 1).to_pylist()[0]
        detail = f"{data['doc_id']} stands at {first} too, and that one was kept"
        rejects.append(schema.reject("prepare", data["where"], "duplicate id", detail, data["text"]))
    if hidden:
        detail = f"typed by fewer shoppers than privacy.k = {k}"  # and its text is not kept: that is the point
        places = _read(parts / "corpus", name, ["where"]).take(sorted(hidden))["where"].to_pylist()
        rejects += [schema.reject("prepare", where, "rare query", detail) for where in places]
    if rejects:
        (out / "rejects").write_table(f"duplicates-{name}", schema.table(rejects, schema.REJECT))
    return {"part": row["part"], "duplicates": len(again), "rare": len(hidden)}


def _group(names: list[str], rows: int, buckets: Folder, out: Folder) -> Counter[str]:
    """Add documents of shoppers and brands to the corpus; returns how many of each."""
    count = 1 + rows // groups.ROWS_A_BUCKET
    buckets.delete()  # of a run that was stopped, and may have had another number of them
    scatter = partial(groups.scatter, out=out, buckets=buckets, count=count)
    list(cluster.work([{"part": name} for name in names], scatter, num_cpus=0.5))
    units = [{"bucket": f"{number:05d}"} for number in range(count)]
    total: Counter[str] = Counter()
    for one in cluster.work(units, partial(groups.gather, out=out, buckets=buckets), num_cpus=0.5):
        total.update(json.loads(one["kinds"]))
    return total


def _make_common(rows: int, work: Folder, out: Folder, k: int) -> Counter[str]:
    """Generalise documents whose likes fewer than k shoppers share; returns how many, and how many were refused."""
    count = 1 + rows // groups.ROWS_A_BUCKET
    work.delete()  # of a run that was stopped
    names = [name for name in (out / "corpus").files(".parquet") if name.startswith("groups-")]
    files = [{"part": name.removesuffix(".parquet")} for name in names]
    buckets = [{"bucket": f"{number:05d}"} for number in range(count)]
    for level in range(common.LEVELS):
        list(cluster.work(files, partial(common.scatter, out=out, work=work, level=level, count=count), num_cpus=0.5))
        list(cluster.work(buckets, partial(common.gather, work=work, level=level, k=k), num_cpus=0.5))
    total: Counter[str] = Counter()
    for one in cluster.work(files, partial(common.publish, out=out, work=work, k=k), num_cpus=0.5):
        total.update({"generalised": one["generalised"], "rare shoppers": one["refused"]})
    return total


def _read(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    with folder.fs.open_input_file(f"{folder.path}/{name}") as file:
        return pq.read_table(file, columns=columns)


def _check_totals(config: Config, totals: dict[str, Counter[str]], out: Folder, work: list[dict[str, Any]]) -> None:
    """A source that is mostly refused is not what the config says it is: stop, and say the commonest reasons."""
    for kind, counts in totals.items():
        if not counts["rows"]:
            path = config.sources.given()[kind].path
            raise UserError(f"{path}: no rows", f"give files with rows in sources.{kind}, or leave that source out")
        if counts["rejected"] > config.prepare.max_reject_rate * counts["rows"]:
            names = [f"{one['part']}.parquet" for one in work if one["unit"]["kind"] == kind]
            tables = [_read(out / "rejects", name) for name in names if (out / "rejects").exists(name)]
            rejects = [row for table in tables for row in table.to_pylist()]
            reasons = Counter(f"{r['reason']}: {r['detail']}" for r in rejects).most_common(3)
            told = "\n".join(f"  {count} x {reason:.200}" for reason, count in reasons)
            where = config.sources.given()[kind].path
            raise UserError(
                f"{where}: {counts['rejected']} of {counts['rows']} rows refused\n{told}\n"
                f"  first: {rejects[0]['where'] if rejects else where}",
                "mend the file or sources." + kind + ", or raise prepare.max_reject_rate",
            )


STAGE = Stage("prepare", "reads, cleans and pseudonymises the shop's files", (), settings, run, version=5)
