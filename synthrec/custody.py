"""One shopper in a run directory: where the data went, and taking it out again.

A shopper is known by pseudonym. Rows are the shopper's that carry it, or an id of a row that does: a review, the
requests made of it, their answers, the labels of these and the requests made of those. What people decided about such
labels is theirs, too. Files are looked at one at a time.

Forgetting is resumable: what is to be removed is written down (in `forgotten/`) before the first row is, each file is
replaced whole, and only at the end is that list of ids struck out. Until then no stage runs. The pseudonym stays, so
that `prepare` leaves the shopper out for good; it is part of prepare's fingerprint, so nothing made before is up to
date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthrec import audit, stores
from synthrec.errors import UserError
from synthrec.privacy import USER, Pseudonymiser, load_key
from synthrec.review import decisions
from synthrec.review.decisions import Decision
from synthrec.storage import Folder
from synthrec.tasks.reply import Reply

REPORTS = ("report.json", "report.html")
HOLDS_ROWS = ("prepare", "synthesize", "curate")
_IDS = ("id", "doc_id", "request_id", "where", "key")  # columns that name a record
SHORT = 8  # characters: a shorter line ("Thanks!", "Hello?") is nobody's in particular
_USERS = ("user_id", "name", "key")
_TEXTS = ("raw", "detail")  # of rejects: the row as JSON, its user id a pseudonym


@dataclass
class Shopper:
    """Who, and what is known to be theirs."""

    pseudonym: str
    ids: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)  # lines of their dialogues, which `reply` offers to others' requests


def pseudonym(user: str) -> str:
    """Of a shop's user id, by the privacy key; a pseudonym itself is taken as it is."""
    return user if USER.fullmatch(user) else Pseudonymiser(load_key(make=False)).user(user.strip())


def forgotten(root: Folder) -> list[str]:
    """Pseudonyms that `prepare` leaves out."""
    return [name.removesuffix(".json") for name in (root / "forgotten").files(".json")]


def check(root: Folder) -> None:
    """Raise UserError while somebody is only half forgotten."""
    folder = root / "forgotten"
    for name in folder.files(".json"):
        if not folder.read_json(name)["done"]:
            who = name.removesuffix(".json")
            raise UserError(f"forgetting {who} was not finished", f"run `synthrec forget --user {who}` again first")


def reached(root: Folder, shopper: Shopper) -> dict[str, int]:
    """Folder -> how many of its rows are the shopper's. Adds what it finds to the shopper's ids.

    What is made of rows carries none itself: of models and bundles, 0 stands for "made of the shopper's rows, too".
    """
    _gather(root, shopper)
    found: dict[str, int] = {}
    for name, table in _tables(root):
        if count := pc.sum(mine(table, shopper)).as_py():
            folder = name.rpartition("/")[0]
            found[folder] = found.get(folder, 0) + count
    found |= decisions.about(root, lambda one: _decided(one, shopper))
    touched = {part for folder in found for part in folder.split("/")[1:2]}
    for stage in _made_of_them(root):
        if (root / stage).exists("manifest.json"):
            manifest = (root / stage).read_json("manifest.json")
            if touched & set(manifest["inputs"].values()):
                touched.add(manifest["fingerprint"])
                found[f"{stage}/{manifest['fingerprint']}"] = 0
    return dict(sorted(found.items()))


def forget(root: Folder, who: str) -> tuple[dict[str, int], list[str]]:
    """Remove a shopper, by pseudonym.

    Returns:
        Folder -> how many rows were removed by this call; and the models and bundles that must be made again.
    """
    tomb, name = root / "forgotten", f"{who}.json"
    shopper = Shopper(who)
    if tomb.exists(name):
        before = tomb.read_json(name)
        shopper = Shopper(who, set(before["ids"]), set(before["said"]))
    _gather(root, shopper)
    tomb.write_json(name, {"done": False, "ids": sorted(shopper.ids), "said": sorted(shopper.said)})
    removed = decisions.forget(root, lambda one: _decided(one, shopper))
    for path, table in _tables(root):
        theirs = mine(table, shopper)
        if count := pc.sum(theirs).as_py():
            root.write_table(path, table.filter(pc.invert(theirs)))
            folder = path.rpartition("/")[0]
            removed[folder] = removed.get(folder, 0) + count
    made = _made_of_them(root)
    for stage in ("curate", *made):
        (root / stage / "work").delete()  # what a run that was stopped had noted: texts, pairs, checkpoints
    _sweep(root)
    for report in REPORTS:  # they quote rows
        if root.exists(report):
            root.fs.delete_file(f"{root.path}/{report}")
    stale = [f"{stage}/{one}" for stage in made for one in _folders(root / stage)]
    audit.note(root, "forget", user=who, removed=removed, rebuild=stale)
    tomb.write_json(name, {"done": True, "ids": [], "said": []})
    return removed, stale


def forget_live(url: str, who: str) -> int:
    """Erase a shopper, by pseudonym, from the endpoint's store, own ids of the shop included; how many rows."""
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).expanduser().exists():
        return 0  # nothing was ever served
    key = Pseudonymiser(load_key(make=False))
    store = stores.open(url)
    try:
        return sum(store.forget(user) for user in store.users() if who in (user, key.user(user.strip())))
    finally:
        store.close()


def mine(table: pa.Table, shopper: Shopper) -> pa.Array:
    """Which rows are the shopper's, as far as their ids are known."""
    ids = pa.array(sorted(shopper.ids), pa.string())
    found = pa.array([False] * len(table), pa.bool_())
    for column in set(table.column_names) & {*_IDS, *_USERS, *_TEXTS, "sources", "labels", "fields"}:
        values = table[column].combine_chunks()
        if column in _IDS and not pa.types.is_string(values.type):
            continue  # a hash of curation's, which is nobody's id
        if column in _IDS:
            found = pc.or_(found, pc.is_in(values, value_set=ids))
        if column in _USERS:
            found = pc.or_(found, pc.is_in(values, value_set=pa.array([shopper.pseudonym], pa.string())))
        if column in _TEXTS:
            hit = pc.match_substring(values, shopper.pseudonym).fill_null(False)
            found = pc.or_(found, hit)
            if column == "detail":  # a repeated id's first word is that id
                first = pc.list_element(pc.split_pattern(values.fill_null(" "), " "), 0)
                found = pc.or_(found, pc.is_in(first, value_set=ids))
        if column == "sources":
            found = pc.or_(found, pa.array([_of(row or (), shopper.ids) for row in values.to_pylist()], pa.bool_()))
        if column == "labels" and shopper.said:
            replies = pc.equal(table["task"].combine_chunks(), Reply.name).to_pylist()
            offered = [
                reply and _offers(row or (), shopper.said)
                for row, reply in zip(values.to_pylist(), replies, strict=True)
            ]
            found = pc.or_(found, pa.array(offered, pa.bool_()))
        if column == "fields":
            named = [any(value == shopper.pseudonym for _, value in row or ()) for row in values.to_pylist()]
            found = pc.or_(found, pa.array(named, pa.bool_()))
    return found


def _decided(one: Decision, shopper: Shopper) -> bool:
    """Is a decision about a label of theirs? The label's row may be gone, the records that it was made of are named."""
    return one.id in shopper.ids or _of(one.sources, shopper.ids)


def _of(sources: Iterable[str], ids: set[str]) -> bool:
    """Is a row made of any of the records, or of a part of one (`dialogue:7#2`)?"""
    return any(one in ids or one.rpartition("#")[0] in ids for one in sources)


def _offers(labels: Iterable[str], said: set[str]) -> bool:
    """Is any of the labels a line that was said, or the beginning of one (long lines are cut)?"""
    starts = (one.rstrip(" .…") for one in labels)
    return any(line.startswith(one) for one in starts if len(one) >= SHORT for line in said)


def _gather(root: Folder, shopper: Shopper) -> None:
    """Ids of all that is the shopper's, through any number of hand-overs: looks again until nothing is new."""
    shopper.ids.add(f"shopper:{shopper.pseudonym}")
    size = 0
    while size < len(shopper.ids):
        size = len(shopper.ids)
        for _, table in _tables(root):
            rows = table.filter(mine(table, shopper))
            for column in ("doc_id", "id", "request_id"):
                if column in rows.column_names:
                    shopper.ids.update(one for one in rows[column].to_pylist() if one)
            if {"kind", "text"} <= set(rows.column_names):
                for row in rows.select(["kind", "text"]).to_pylist():
                    if row["kind"] == "dialogue":
                        lines = (line.partition(": ")[2] for line in row["text"].split("\n"))
                        shopper.said.update(" ".join(line.split()) for line in lines)


def _tables(root: Folder) -> Iterator[tuple[str, pa.Table]]:
    """Path in the run directory and contents of each Parquet file that can hold a shopper's rows."""
    for stage in HOLDS_ROWS:
        for name in (root / stage).files(".parquet"):
            if "/catalogue/" not in name:
                with root.fs.open_input_file(f"{root.path}/{stage}/{name}") as file:
                    yield f"{stage}/{name}", pq.read_table(file)


def _made_of_them(root: Folder) -> list[str]:
    """Stages here whose results are made of rows and hold none, the later after the earlier: recommenders', too."""
    here = {name.partition("/")[0] for name in root.files() if "/" in name}
    return [
        stage
        for first in ("train", "tune", "evaluate", "package")
        for stage in sorted(one for one in here if one == first or one.startswith(f"{first}_"))
    ]


def _folders(folder: Folder) -> list[str]:
    names = {name.partition("/")[0] for name in folder.files() if "/" in name}
    return sorted(names - {"work"})


def _sweep(root: Folder) -> None:
    """Delete what killed processes had begun to write; the run is locked, so nobody is writing now."""
    if root.is_local:
        for path in Path(root.path).rglob(".*.????????"):
            path.unlink()


def told(root: Folder, user: str | None) -> dict[str, Any]:
    """What `synthrec audit` prints: the entries, personal data found by prepare, and where a shopper's data went."""
    manifest = (root / "prepare").read_json("manifest.json") if (root / "prepare").exists("manifest.json") else {}
    report: dict[str, Any] = {
        "entries": audit.entries(root),
        "personal_data": manifest.get("figures", {}).get("personal_data", {}),
        "forgotten": forgotten(root),
    }
    if user is not None:
        who = pseudonym(user)
        report["user"] = {"pseudonym": who, "reached": reached(root, Shopper(who))}
        audit.note(root, "audit", user=who)
    return report
