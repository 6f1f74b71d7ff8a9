"""What learns from the LLM's labels beside the bi-encoder, trained by Ray Train, and what of it a bundle holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from tiny_models import bert

from synthrec import bundle, schema
from synthrec.config import Config
from synthrec.errors import UserError
from synthrec.pipeline import Context
from synthrec.recommenders.bi_encoder import BiEncoder
from synthrec.recommenders.cross_encoder import CrossEncoder
from synthrec.retrieval.bm25 import BM25
from synthrec.schema import GRADES
from synthrec.stages import parts, train, train_labels
from synthrec.storage import Folder

COLOURS, THINGS = ("red", "blue", "green", "white"), ("kettle", "leash", "bowl")
TEXTS = {f"p{i}{j}": f"{a} {b}" for i, a in enumerate(COLOURS) for j, b in enumerate(THINGS)}
BRANDS = {"kettle": "Boilwell", "leash": "Waggly", "bowl": None}
GOOD, BAD = ("lovely", "sturdy", "excellent"), ("broken", "awful", "leaking")


def label(number, task, text, product=None, labels=None, scores=None, facet="", fields=None):
    row = {"id": f"{task}{number:04}", "request_id": f"r{number}", "task": task, "facet": facet, "language": "en"}
    best = labels[int(np.argmax(scores))] if labels else "written"
    row |= {"text": text, "product_id": product, "label": best, "labels": labels, "scores": scores, "fields": fields}
    return row | {"model": "m", "prompt": "p"}


def sentiments(count=240):
    """Reviews whose mood is one word of theirs; the LLM is fairly sure."""
    for n in range(count):
        mood = (GOOD, BAD)[n % 2][n // 2 % 3]
        text = f"review {n}: this {THINGS[n % 3]} is {mood}"
        yield label(n, "sentiment", text, "p00", ["positive", "negative"], [[0.9, 0.1], [0.2, 0.8]][n % 2])


def relevances():
    """Each colour is asked for; what has it is exact, the rest of no use."""
    for n, (colour, product) in enumerate((colour, product) for colour in COLOURS for product in TEXTS):
        fits = TEXTS[product].startswith(colour)
        yield label(n, "relevance", colour, product, list(GRADES), [1.0, 0, 0, 0] if fits else [0, 0, 0, 1.0])


def queries():
    for n, (product, text) in enumerate(TEXTS.items()):
        yield label(n, "queries", " ".join(reversed(text.split())), product)


@pytest.fixture
def ready(tmp_path):
    """`ready(rows, train={...})`: a run directory whose labels are curated, and contexts for the stages after it."""
    encoder = bert(tmp_path / "encoder", [*TEXTS.values(), *GOOD, *BAD])

    def ready(rows, **settings):
        own = {"workers": 1, "encoder": str(encoder), "batch_size": 8, "extend_vocabulary": False}
        given = {"name": "x", "run_dir": str(tmp_path / "run"), "sources": {"products": {"path": "x"}}}
        config = Config.model_validate(given | settings | {"train": own | settings.get("train", {})})
        root = Folder.open(config.run_dir)
        (root / "curate" / "labels").write_table("0.parquet", schema.table(list(rows), schema.LABEL))
        products = [
            {"product_id": one, "language": "en", "title": text, "text": text, "brand": BRANDS[text.split()[1]]}
            for one, text in TEXTS.items()
        ]
        (root / "prepare" / "catalogue").write_table("0.parquet", schema.table(products, schema.CATALOGUE))
        return Stages(config, root)

    return ready


class Stages:
    def __init__(self, config, root):
        self.config, self.root = config, root
        self.figures = {}

    def context(self, stage):
        inputs = {name: self.root / name for name in ("prepare", "curate", *self.figures)}
        manifests = {name: {"figures": one} for name, one in self.figures.items()}
        return Context(self.config, stage, self.root, self.root / stage.name, inputs, manifests)

    def run(self, stage):
        self.figures[stage.name] = stage.run(self.context(stage))
        return self.figures[stage.name]

    def model(self, name):
        return self.root.local / name / "model"


def dialogues(root):
    first = datetime(2026, 1, 1, tzinfo=UTC)
    said = [
        ("shopper: hello\nagent: hi there\nshopper: when will it ship\nagent: today", 1),
        ("shopper: is the kettle loud\nagent: it whispers\nagent: truly", 2),
        ("agent: can I help\nshopper: no", 3),
    ]
    rows = [
        {"doc_id": f"dialogue:{day}", "kind": "dialogue", "language": "en", "text": text}
        | {"timestamp": first + timedelta(days=day)}
        for text, day in said
    ]
    (root / "prepare" / "corpus").write_table("0.parquet", schema.table(rows, schema.CORPUS))


def packed(stages, folder):
    """The bundle with what the stages made."""
    encoder = BiEncoder.load(stages.config.train.encoder)
    (folder / "model").mkdir(parents=True)
    encoder.save(folder / "model")
    catalogue = (stages.root / "prepare" / "catalogue").read_table(schema.CATALOGUE)
    texts = catalogue["text"].to_pylist()
    vectors = encoder.encode(texts)
    told = parts.write(stages.context(train.stage(stages.config)), catalogue, vectors, folder)
    bundle.write(folder, catalogue, vectors, BM25.build(texts), {"weights": {"en": 0.5}, "parts": told})
    return bundle.load(folder), told


@pytest.mark.slow
def test_the_classifier_says_what_the_llm_said_and_goes_into_the_bundle(ready, ray_session, tmp_path):
    stages = ready(sentiments(), train={"classifier": {"epochs": 8}})
    figures = stages.run(train_labels.stage("classifier"))
    assert figures["heads"] == {"sentiment": 2}
    assert figures["texts"] == 216, "one in ten is kept to measure on"
    assert figures["agreement_with_llm"]["sentiment"]["f1"] > 0.9
    dialogues(stages.root)
    opened, told = packed(stages, tmp_path / "bundle")
    found = opened.classifier.of_texts(["what a lovely kettle", "it came broken"])["sentiment"]
    assert opened.classifier.tasks["sentiment"] == ["negative", "positive"]
    assert found.argmax(1).tolist() == [1, 0]
    assert told["classifier"]["heads"] == {"sentiment": 2}
    assert (told["replies"], told["brands"]) == (3, 2)
    assert opened.reranker is None


def test_past_replies_and_brands_are_found_in_the_bundle(ready, tmp_path):
    about = [label(0, "brand", "teapots and kettles that boil fast", facet="sentence", fields={"brand": "Boilwell"})]
    stages = ready(about, train={"models": []})
    dialogues(stages.root)
    opened, _ = packed(stages, tmp_path / "bundle")
    encode = BiEncoder.load(opened.model).encode
    best = opened.replies.top(["when does it ship"], 1, encode)[0][0]
    assert opened.replies.index.texts[opened.replies.index.ids.index(best)] == "today"
    assert opened.brands.top("boil fast", 1, encode)[0][0] == "Boilwell"
    assert opened.brands.for_shopper(["red leash"], 1, encode)[0][0] == "Waggly"
    assert opened.classifier is None


@pytest.mark.parametrize(
    ("setting", "count"), [({"package": {"max_replies": 1}}, 1), ({"package": {"max_replies": 0}}, 0)]
)
def test_the_latest_replies_are_kept(ready, tmp_path, setting, count):
    stages = ready([], train={"models": []}, **setting)
    dialogues(stages.root)
    opened, told = packed(stages, tmp_path / "bundle")
    assert told.get("replies", 0) == count
    assert (opened.replies.index.texts if count else opened.replies) == (["it whispers"] if count else None)


def test_replies_of_an_encrypted_run_stay_out_of_its_bundle(ready, tmp_path):
    stages = ready([], train={"models": []}, storage={"encrypt": True})
    dialogues(stages.root)
    opened, told = packed(stages, tmp_path / "bundle")
    assert opened.replies is None
    assert told == {"brands": 2}


@pytest.mark.slow
def test_the_cross_encoder_learns_grades_and_teaches_them(ready, ray_session, tmp_path):
    own = {"models": ["cross_encoder"], "hard_negatives": 2, "distil": 1.0, "negative_margin": 1.0, "epochs": 1}
    own |= {"cross_encoder": {"epochs": 25, "batch_size": 1, "learning_rate": 5e-3, "rank_weight": 0.5}}
    stages = ready([*relevances(), *queries()], train=own)
    figures = stages.run(train_labels.stage("cross_encoder"))
    assert (figures["queries"], figures["pairs"]) == (4, 48)
    teacher = CrossEncoder.load(str(stages.model("train_cross_encoder")))
    for colour in COLOURS:
        best = [list(TEXTS.values())[place] for place, _ in teacher.rerank(colour, list(TEXTS.values()))[:3]]
        assert all(text.startswith(colour) for text in best)
    stage = train.stage(stages.config)
    assert "train_cross_encoder" in stage.needs
    assert stages.run(stage)["pairs"] == len(TEXTS)
    assert BiEncoder.load(str(stages.model("train"))).width == 32
    dialogues(stages.root)
    opened, _ = packed(stages, tmp_path / "bundle")
    np.testing.assert_allclose(opened.reranker.scores([("red", "red bowl")]), teacher.scores([("red", "red bowl")]))


@pytest.mark.parametrize("name", ["classifier", "cross_encoder"])
def test_without_labels_nothing_is_trained_and_it_is_said(ready, tmp_path, name, capfd):
    stages = ready(queries(), train={"models": [name]})
    assert stages.run(train_labels.stage(name)) == {"trained": False}
    assert "has no labels of" in capfd.readouterr().err
    dialogues(stages.root)
    opened, _ = packed(stages, tmp_path / "bundle")
    assert (opened.classifier, opened.reranker) == (None, None)


def test_a_teacher_that_learnt_nothing_is_told(ready, ray_session):
    own = {"models": ["cross_encoder"], "hard_negatives": 2, "distil": 1.0}
    stages = ready(queries(), train=own)
    stages.run(train_labels.stage("cross_encoder"))
    with pytest.raises(UserError, match="no cross-encoder to learn from"):
        stages.run(train.stage(stages.config))


def test_heads_are_questions_whose_labels_are_classes():
    rows = [
        label(0, "intent", "a", labels=["buy", "explore"], scores=[0.7, 0.3], facet="stage"),
        label(1, "intent", "a", labels=["Kitchen", "Pets"], scores=[0.4, 0.6], facet="category"),
        label(2, "intent", "b", labels=["Garden", "Pets"], scores=[0.5, 0.5], facet="category"),
        *(label(n, "own", "c", labels=[f"text {n}", "other"], scores=[0.5, 0.5]) for n in range(3, 30)),
    ]
    heads = train_labels.questions(rows)
    assert heads == {"intent.category": ["Garden", "Kitchen", "Pets"], "intent.stage": ["buy", "explore"]}
    assert train_labels.answered(rows, heads) == {
        "a": {"intent.stage": [0.7, 0.3], "intent.category": [0.0, 0.4, 0.6]},
        "b": {"intent.category": [0.5, 0.0, 0.5]},
    }
