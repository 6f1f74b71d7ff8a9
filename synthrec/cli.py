"""The command line: one verb a stage over one config and one run directory."""

from __future__ import annotations

import errno
import faulthandler
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import synthrec
from synthrec import console, operate
from synthrec.config import Config, load
from synthrec.errors import UserError, unwrap
from synthrec.pipeline import Pipeline, Stage

app = typer.Typer(
    name="synthrec",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turns a shop's text into LLM-labelled training data, fine-tunes search and recommendation models on it, "
    "measures them against real judgments, and serves the winner.\n\n"
    "prepare -> synthesize -> curate -> train -> evaluate -> package -> serve; `run` does all up to package.",
)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="YAML settings; see configs/store.yaml")]
Overrides = Annotated[list[str] | None, typer.Option("--set", "-s", help="override a setting: train.epochs=3")]


def stages(config: Config) -> tuple[Stage, ...]:
    """In order. Recommenders of the next product are trained and judged where the config names some."""
    from synthrec.stages import (  # fmt: skip
        curate,
        evaluate,
        evaluate_next,
        package,
        prepare,
        synthesize,
        train,
        train_labels,
        train_next,
    )

    models = config.recommend.models
    trained = [train.stage(config), *(train_labels.stage(name) for name in config.train.models)]
    if config.train.distil:  # the cross-encoder teaches the bi-encoder
        trained.reverse()
    found = [prepare.STAGE, synthesize.STAGE, curate.STAGE, *trained]
    found += [train_next.stage(name) for name in models]
    found.append(evaluate.STAGE)
    found += [evaluate_next.stage(models)] if models else []
    return (*found, package.stage(config))


def run_stages(config: Config, names: list[str] | None = None, more: tuple[Stage, ...] = ()) -> Pipeline:
    """Bring the named stages (all, when None) up to date, in order, and write the run report.

    Args:
        more: stages that no run has by itself.
    """
    from synthrec.reports import run_report

    pipeline = Pipeline(config, (*stages(config), *more))
    with pipeline.root.locked(), console.hushed(pipeline.log):
        for name in names or list(pipeline.stages):
            pipeline.run(name)
        if names is None:
            run_report.write(pipeline)
    return pipeline


def _pipeline(path: Path, overrides: list[str] | None) -> Pipeline:
    config = load(path, overrides)
    return Pipeline(config, stages(config))


@app.command()
def run(config: ConfigFile, set_: Overrides = None) -> None:
    """Run every stage from prepare to package, then write report.html and report.json. Finished stages are skipped."""
    run_stages(load(config, set_))


def _verb(stage_name: str, text: str) -> Callable[..., None]:
    """A verb runs the stage of its name, and those whose names begin with it: `evaluate` also `evaluate_next`."""

    def verb(config: ConfigFile, set_: Overrides = None) -> None:
        settings = load(config, set_)
        run_stages(settings, [s.name for s in stages(settings) if s.name.partition("_")[0] == stage_name])

    verb.__doc__ = text
    return verb


VERBS = {
    "prepare": "Read the shop's files, refuse bad rows with reasons, clean the text, put pseudonyms for personal data.",
    "curate": "Keep the labels worth training on: cleaned, de-duplicated, consistent. Refused ones keep their reasons.",
    "evaluate": "Rank the whole catalogue against real judgments, beside strong baselines, with confidence intervals.",
    "package": "Build the bundle that `serve` loads: model, index, catalogue, checksums, lineage.",
}
for _name, _text in VERBS.items():
    app.command(_name)(_verb(_name, _text))


@app.command()
def train(
    config: ConfigFile,
    set_: Overrides = None,
    recommender: Annotated[
        str | None, typer.Option(help="this one only: bi_encoder, or one of train.models or recommend.models")
    ] = None,
) -> None:
    """Train the recommenders with Ray Train (DDP). Each resumes from its last checkpoint."""
    settings = load(config, set_)
    others = (*settings.train.models, *settings.recommend.models)
    names = {name: f"train_{name}" for name in others} | {"bi_encoder": "train"}
    if recommender is not None and recommender not in names:
        raise UserError(
            f"this config trains no recommender '{recommender}'",
            f"it trains {', '.join(names)}; add others with --set 'recommend.models=[sequential, graph]' or "
            "--set 'train.models=[cross_encoder, classifier]'",
        )
    wanted = set(names.values()) if recommender is None else {names[recommender]}
    run_stages(settings, [stage.name for stage in stages(settings) if stage.name in wanted])


@app.command()
def tune(
    config: ConfigFile,
    recommender: Annotated[str, typer.Option(help="sequential or graph: what is validated while it learns")],
    trials: Annotated[int, typer.Option(min=1, help="settings to try; the first are the config's own")] = 20,
    set_: Overrides = None,
) -> None:
    """Look for better settings of a recommender with Ray Tune; print them as YAML to put into the config.

    What is tried stands in the config, as recommend.NAME.search. Judged by the validation, never by the test.
    """
    from synthrec.stages import tune as stage

    one = stage.stage(recommender, trials)
    pipeline = run_stages(load(config, set_), [one.name], more=(one,))
    typer.echo(stage.told(pipeline, one.name))


@app.command()
def synthesize(
    config: ConfigFile,
    set_: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show prompts; measure a few; estimate all")] = False,
    local: Annotated[int, typer.Option(help="ask about so many rows a task here, without Ray, and show all")] = 0,
    again: Annotated[bool, typer.Option("--again", help="ask once more what failed")] = False,
) -> None:
    """Have the LLM write queries and score relevance and sentiment. Finished rows are never asked again."""
    settings = load(config, set_)
    if not (dry_run or local):
        if again:
            from synthrec.stages import synthesize as stage

            pipeline = _pipeline(config, set_)
            with pipeline.root.locked():
                stage.ask_again(pipeline)
        run_stages(settings, ["synthesize"])
        return
    from synthrec.synthesis import trial

    pipeline = run_stages(settings, ["prepare"])
    with console.hushed(pipeline.log):
        if local:
            trial.local(settings, pipeline.folder("prepare"), local)
        else:
            trial.dry_run(settings, pipeline.folder("prepare"))


@app.command()
def serve(
    config: ConfigFile,
    set_: Overrides = None,
    ask: Annotated[list[str] | None, typer.Option(help="ask these queries, print the hits, and stop")] = None,
) -> None:
    """Serve the packaged bundle over HTTP (loopback unless serve.host says otherwise) until interrupted."""
    from synthrec.stages import serve as stage

    stage.run(_pipeline(config, set_), ask)


@app.command()
def review(
    config: ConfigFile,
    set_: Overrides = None,
    task: Annotated[str | None, typer.Option(help="rows of this task only")] = None,
    rows: Annotated[int, typer.Option(min=1, help="how many to look at")] = 100,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 0,
    reviewer: Annotated[str, typer.Option(help="whose decisions these are")] = "me",
    summary: Annotated[bool, typer.Option("--summary", help="print what was found so far, and stop")] = False,
) -> None:
    """Show a sample of the curated labels to a person, on a page of this machine, who accepts, corrects or rejects."""
    from synthrec.stages import review as page

    pipeline = _pipeline(config, set_)
    if summary:
        page.tell(pipeline)
    else:
        page.run(pipeline, task, rows, port, reviewer)


class Layout(StrEnum):
    beir = "beir"
    pairs = "pairs"
    triplets = "triplets"
    parquet = "parquet"


@app.command()
def export(
    config: ConfigFile,
    to: Annotated[str, typer.Option(help="a folder, or a URI of any pyarrow filesystem (s3://, gs://, hdfs://)")],
    layout: Annotated[Layout, typer.Option(help="beir; pairs or triplets for sentence-transformers; parquet")],
    set_: Overrides = None,
) -> None:
    """Write the curated labels where other tools can read them, with their data card."""
    from synthrec import exports, schema
    from synthrec.storage import Folder

    pipeline = _pipeline(config, set_)
    for stage in ("prepare", "curate"):
        pipeline.needed("export", stage)
    catalogue = (pipeline.folder("prepare") / "catalogue").read_table(schema.CATALOGUE).sort_by("product_id")
    labels = (pipeline.folder("curate") / "labels").read_table(schema.LABEL).sort_by("id")
    out = Folder.open(to).make()
    counts = exports.LAYOUTS[layout](out, catalogue.to_pylist(), labels.to_pylist())
    for name in ("card.md", "card.json"):
        out.write_bytes(name, pipeline.folder("curate").read_bytes(name))
    console.say(", ".join(f"{count:,} {what}" for what, count in counts.items()) + f": {out}")


@app.command()
def audit(
    config: ConfigFile,
    set_: Overrides = None,
    user: Annotated[str | None, typer.Option(help="a user id, or its pseudonym: where is this shopper's data?")] = None,
) -> None:
    """Print as JSON who made what from what, personal data found and removed, and whom the run has forgotten."""
    from synthrec import custody

    root = _pipeline(config, set_).root
    typer.echo(json.dumps(custody.told(root, user), ensure_ascii=False, indent=2))


@app.command()
def forget(
    config: ConfigFile,
    user: Annotated[str, typer.Option(help="the shop's user id, or its pseudonym")],
    set_: Overrides = None,
) -> None:
    """Remove a shopper from the run directory for good, and list what must be made again. Resumes if killed."""
    from synthrec import custody
    from synthrec.stages import serve

    pipeline, who = _pipeline(config, set_), custody.pseudonym(user)
    with pipeline.root.locked():
        removed, stale = custody.forget(pipeline.root, who)
    if erased := custody.forget_live(serve.store(pipeline), who):
        console.say(f"    {erased} rows of the endpoint's store")
    for folder, count in sorted(removed.items()):
        console.say(f"    {count} rows of {folder}")
    console.say(f"    {sum(removed.values())} rows removed; `prepare` leaves this shopper out from now on")
    for folder in stale:
        console.say(f"    to be made again (`synthrec run`), then deleted: {folder}")


@app.command()
def reveal(
    config: ConfigFile,
    pseudonym: Annotated[str, typer.Argument(help="u_0123456789abcdef, or '<PHONE_01234567>'")],
    set_: Overrides = None,
) -> None:
    """Print what a pseudonym stands for, with the privacy key; needs privacy.reversible. The audit keeps who asked."""
    from synthrec import audit
    from synthrec.privacy import load_key, vault

    pipeline = _pipeline(config, set_)
    pipeline.needed("reveal", "prepare")
    audit.note(pipeline.root, "reveal", pseudonym=pseudonym)  # before it is shown: whoever asks is on record
    for value in vault.reveal(pipeline.folder("prepare") / "vault", pseudonym, load_key(make=False)):
        typer.echo(value)


@app.command("open")
def open_(
    config: ConfigFile,
    name: Annotated[str, typer.Argument(help="of a file in the run directory: report.html")],
    set_: Overrides = None,
) -> None:
    """Write one file of an encrypted run directory to standard output, decrypted."""
    root = _pipeline(config, set_).root
    if not root.exists(name):
        raise UserError(f"no file {name} in {root}", "give its path within the run directory")
    sys.stdout.buffer.write(root.read_bytes(name))


@app.command()
def demo(
    run_dir: Annotated[str, typer.Option(help="where to keep the run")] = "runs/store",
    set_: Overrides = None,
) -> None:
    """The whole loop on the fictional store that ships with synthrec; ends with two queries answered over HTTP."""
    from synthrec import demo as whole

    whole.run([f"run_dir={run_dir}", *(set_ or [])])


@app.command()
def doctor() -> None:
    """Say what this machine has (cores, memory, GPU, packages, models) and what each engine would need."""
    from synthrec import doctor as checks

    checks.run()


app.add_typer(operate.keys, name="keys")
app.add_typer(operate.bundle, name="bundle")


@app.command("config")
def config_(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="print this file's settings, defaults included")
    ] = None,
    set_: Overrides = None,
) -> None:
    """Print settings with every default filled in and explained, as YAML: a config to start from."""
    from synthrec.config import commented, defaults

    values: Any = load(config, set_).model_dump(mode="json") if config else defaults(set_)
    typer.echo(commented(values))


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        typer.echo(f"synthrec {synthrec.__version__}")
        raise typer.Exit


def entry() -> None:
    """The console script: a user's mistake ends in words and exit code 2, never in a stack trace."""
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # where a library's native code crashes, it is said where
    try:
        app()
    except KeyboardInterrupt:
        console.say("stopped; run the same command again to go on from here")
        sys.exit(130)
    except Exception as error:
        told = unwrap(error) or _of_the_machine(error)
        if told is None:
            raise
        console.say(told.problem, "error:", "bold red")
        if told.hint:
            console.say(told.hint, "  hint:")
        sys.exit(2)


def _of_the_machine(error: BaseException) -> UserError | None:
    """What no code can mend: a full disk, a file that may not be read or written."""
    mend = {
        errno.ENOSPC: "free some space, and run the same command again: it goes on from here",
        errno.EACCES: "run as a user who may, or choose another place",
        errno.EROFS: "choose another place",
    }
    if isinstance(error, OSError) and error.errno in mend:
        return UserError(f"{error.filename or 'a file'}: {error.strerror}", mend[error.errno])
    return None


if __name__ == "__main__":
    entry()
