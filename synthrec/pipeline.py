"""Stages: what each needs, when it is up to date, and how its result is published.

A stage writes into `run_dir/<stage>/<fingerprint>/` and last of all `run_dir/<stage>/manifest.json`, which says that
the folder is whole. The fingerprint is a hash of the settings and inputs that can change the result, so a re-run with
the same ones is a no-op, and a killed run goes on in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import synthrec
from synthrec import audit, console, custody
from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.storage import Folder


@dataclass(frozen=True)
class Stage:
    """One verb.

    Attributes:
        name: verb and folder.
        help: one line for `--help`.
        needs: stages whose published folders it reads.
        settings: what of the config can change its result (JSON-able).
        run: does the work in `context.out`; returns the counts and figures for the manifest.
        version: raise it when the code's meaning changes, so that old results are redone.
        sealed: its files are encrypted where the run directory is.
    """

    name: str
    help: str
    needs: tuple[str, ...]
    settings: Callable[[Config], Any]
    run: Callable[[Context], dict[str, Any]]
    version: int = 1
    sealed: bool = True


@dataclass
class Context:
    """What a running stage has in hand."""

    config: Config
    stage: Stage
    root: Folder  # the run directory
    out: Folder  # this stage's folder to write
    inputs: dict[str, Folder] = field(default_factory=dict)
    manifests: dict[str, Any] = field(default_factory=dict)

    def keep(self, name: str) -> Folder:
        """A folder of this stage that outlives its fingerprint (raw completions, checkpoints)."""
        return self.root / self.stage.name / name


class Pipeline:
    """The stages of one config, in order."""

    def __init__(self, config: Config, stages: tuple[Stage, ...]) -> None:
        self.config = config
        self.stages = {stage.name: stage for stage in stages}
        self.root = Folder.open(config.run_dir, config.storage.key_source)
        self._fingerprints: dict[str, str] = {}

    @property
    def log(self) -> Path:
        """The local file where frameworks' noise goes."""
        folder = self.root.local if self.root.is_local else Path(tempfile.gettempdir())
        return folder / "logs" / "frameworks.log"

    def fingerprint(self, name: str) -> str:
        if name not in self._fingerprints:
            stage = self.stages[name]
            made_of = [stage.name, stage.version, stage.settings(self.config)]
            made_of += [self.fingerprint(one) for one in stage.needs]
            text = json.dumps(made_of, sort_keys=True, default=str)
            self._fingerprints[name] = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self._fingerprints[name]

    def manifest(self, name: str) -> dict[str, Any] | None:
        """The stage's manifest, if it is published, up to date with the config, and none of its files is gone."""
        folder = self.root / name
        if not folder.exists("manifest.json"):
            return None
        manifest: dict[str, Any] = folder.read_json("manifest.json")
        if manifest["fingerprint"] != self.fingerprint(name):
            return None
        whole = {file["name"] for file in manifest["files"]} <= set(self.folder(name).files())
        return manifest if whole else None

    def folder(self, name: str) -> Folder:
        folder = self.root / name / self.fingerprint(name)
        return folder if self.stages[name].sealed else folder.plain

    def run(self, name: str) -> dict[str, Any]:
        """Bring one stage up to date and return its manifest.

        Raises:
            UserError: if a stage before it is not up to date.
        """
        stage = self.stages[name]
        done = self.manifest(name)
        if done:
            console.say(f"is up to date ({done['made'][:19]}, took {console.clock(done['seconds'])})", name)
            return done
        custody.check(self.root)
        manifests = {one: self.needed(name, one) for one in stage.needs}
        console.say(stage.help, name)
        start = time.monotonic()
        out = self.folder(name).make()
        context = Context(self.config, stage, self.root, out, {one: self.folder(one) for one in stage.needs}, manifests)
        figures = stage.run(context)
        manifest = {
            "stage": name,
            "version": stage.version,
            "synthrec": synthrec.__version__,
            "fingerprint": self.fingerprint(name),
            "inputs": {one: m["fingerprint"] for one, m in manifests.items()},
            "settings": stage.settings(self.config),
            "made": datetime.now(UTC).isoformat(),
            "seconds": round(time.monotonic() - start, 3),
            "figures": figures,
            "files": out.describe(),
        }
        (self.root / name).write_json("manifest.json", json.loads(json.dumps(manifest, default=str)))
        facts = {key: manifest[key] for key in ("fingerprint", "inputs", "synthrec")}
        audit.note(self.root, "run", stage=name, **facts, personal_data=figures.get("personal_data"))
        return manifest

    def needed(self, name: str, needed: str) -> dict[str, Any]:
        """The manifest of a stage that `name` reads. Raises UserError if it is not up to date."""
        manifest = self.manifest(needed)
        if manifest is None:
            raise UserError(
                f"{name} needs {needed}, which has not been run with these settings",
                f"run `synthrec {needed}` with the same config first, or `synthrec run` for all of them",
            )
        return manifest
