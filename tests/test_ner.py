"""Names that a model finds: a small token classifier, trained here on sentences of templates."""

from __future__ import annotations

import json
import random

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
)

from synthrec import schema
from synthrec.config import Config, Ner
from synthrec.errors import UserError
from synthrec.pipeline import Pipeline
from synthrec.privacy import Pseudonymiser, find, ner
from synthrec.stages import prepare

# In [[ ]] stands a name; no rule finds any of these.
EN = ["[[{n}]] thinks it is fine", "bought for [[{n}]] last week", "even [[{n}]] likes the kettle", "the lid fits well",
      "the kettle is fine", "good value and quiet", "it leaks since last week"]  # fmt: skip
ZH = [
    "昨天[[{n}]]说很好用",
    "给[[{n}]]买的水壶",
    "连[[{n}]]都喜欢",
    "水壶很好用",
    "昨天刚到就坏了",
    "夜里很安静",
    "盖子很紧",
]
FIRST = ["Aurelia", "Benedikt", "Cosima", "Dorothea", "Emeric", "Fenella", "Gideon", "Hesper"]
LAST = ["Quillfeather", "Rathbone", "Sackville", "Thistlewood", "Underhill", "Vandermeer"]
HAN = ["柏青岚", "邬思远", "詹若溪", "卓云帆", "鄢子墨", "褚星野"]
LABELS = ["O", "B-PER", "I-PER", "B-ORG"]


def marked(text):
    """A text without its [[ ]], and where the name in them stands."""
    before, opened, rest = text.partition("[[")
    name, _, after = rest.partition("]]")
    return before + name + after, [(len(before), len(before) + len(name))] if opened else []


def sentences(count, seed):
    dice = random.Random(seed)
    for _ in range(count):
        if dice.random() < 0.5:
            yield marked(dice.choice(ZH).format(n=dice.choice(HAN)))
        else:
            yield marked(dice.choice(EN).format(n=f"{dice.choice(FIRST)} {dice.choice(LAST)}"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of 2 layers that tags names: some 15 seconds of training."""
    torch.manual_seed(3)
    torch.set_num_threads(1)
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = [text for text, _ in sentences(400, 1)]
    made.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=230, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64,
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=64, id2label=dict(enumerate(LABELS)), label2id={one: i for i, one in enumerate(LABELS)},
    )  # fmt: skip
    model = BertForTokenClassification(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    some = list(sentences(800, 2))
    for step in range(120):
        batch = [some[(32 * step + i) % len(some)] for i in range(32)]
        read = tokenizer([text for text, _ in batch], padding=True, return_tensors="pt", return_offsets_mapping=True)
        wanted = [
            [label(start, end, names) for start, end in row]
            for row, (_, names) in zip(read.pop("offset_mapping").tolist(), batch, strict=True)
        ]
        loss = model(**read, labels=torch.tensor(wanted)).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    folder = tmp_path_factory.mktemp("ner")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def label(start, end, names):
    if start == end:
        return -100
    inside = [low for low, high in names if low <= start < high]
    return 0 if not inside else 1 if start == inside[0] else 2


@pytest.fixture(scope="module")
def model(folder):
    return ner.Ner(Ner(model=str(folder)))


def test_names_that_no_rule_finds_are_found(model):
    asked = list(sentences(200, 77))
    assert [text for text, _ in asked if find(text)] == []
    found = model([text for text, _ in asked])
    right = sum(one == wanted for one, (_, wanted) in zip(found, asked, strict=True))
    assert right >= 0.97 * len(asked)


def test_any_batch_gives_the_same(model, folder):
    texts = [text for text, _ in sentences(50, 5)] + ["", " ", "。"]
    alone = ner.Ner(Ner(model=str(folder), batch_size=1))
    assert model(texts) == alone(texts) == [model([text])[0] for text in texts]


def test_a_name_far_down_a_long_text_is_found(model):
    text = "the kettle is fine. " * 60 + "bought for Cosima Rathbone last week"
    assert [text[a:b] for a, b in model([text])[0]] == ["Cosima Rathbone"]


def test_whole_words_and_hanzi():
    text = "给 Anne-Marie O'Neill 和柏青岚, J. Smith"
    at = text.index
    pieces = [
        (at("nne"), at("Marie") + 2),
        (at("Neill"), at("Neill") + 2),
        (at("柏"), at("柏") + 1),
        (at("J"), at("J") + 1),
    ]
    tokens = [(*one, False) for one in pieces] + [(at("mith"), at("mith") + 4, False)]
    assert [text[a:b] for a, b in ner._whole(text, tokens)] == ["Anne-Marie O'Neill", "柏", "J. Smith"]
    two = [(0, 1, True), (1, 2, False), (2, 3, True), (3, 4, False)]
    assert ner._whole("张三李四", two) == [(0, 2), (2, 4)]


def test_the_rules_and_the_model_give_one_name_one_pseudonym(model):
    hide = Pseudonymiser(b"a key for the tests", people=model)
    rules = Pseudonymiser(b"a key for the tests")
    by_rule, _ = rules.text("my name is Cosima Rathbone")
    by_model, counts = hide.text("even Cosima Rathbone likes the kettle")
    assert counts == {"person": 1}
    assert by_model == f"even {by_rule.rpartition(' ')[2]} likes the kettle"
    assert hide.text(by_model) == (by_model, {})


def test_what_a_rule_takes_of_a_name_leaves_nothing_of_it():
    people = [(3, 12)]
    assert [span.text for span in find("to ann@x.com Lee", people=[(7, 16)])] == ["ann@x.com", "Lee"]
    assert [span.kind for span in find("to Ann Smith", people=people)] == ["person"]


def test_prepare_hides_them(folder, tmp_path, ray_session):
    rows = {
        "products": [{"product_id": "k1", "title": "Kettle", "description": "even Gideon Underhill likes the kettle"}],
        "reviews": [
            {"review_id": "r1", "product_id": "k1", "text": "bought for Cosima Rathbone last week"},
            {"review_id": "r2", "product_id": "k1", "text": "昨天柏青岚说很好用"},
        ],
        "searches": [{"search_id": "s1", "query": "连詹若溪都喜欢"}],
    }
    for kind, some in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        (tmp_path / f"{kind}.jsonl").write_text(text, encoding="utf-8")
    sources = {kind: {"path": str(tmp_path / f"{kind}.jsonl")} for kind in rows}

    def texts(name, privacy):
        config = {"name": "ner", "run_dir": str(tmp_path / name), "sources": sources, "privacy": privacy}
        pipeline = Pipeline(Config.model_validate(config), (prepare.STAGE,))
        figures = pipeline.run("prepare")["figures"]
        return (pipeline.folder("prepare") / "corpus").read_table(schema.CORPUS)["text"].to_pylist(), figures

    names = ("Rathbone", "柏青岚", "詹若溪", "Underhill")
    without, _ = texts("off", {})
    assert all(any(name in text for text in without) for name in names)
    hidden, figures = texts("on", {"ner": {"model": str(folder)}})
    assert not any(name in text for text in hidden for name in names)
    assert figures["personal_data"]["person"] >= 4


def test_what_cannot_be_loaded_is_told(folder, tmp_path):
    with pytest.raises(UserError, match="no model folder"):
        ner.Ner(Ner(model=str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot load .*empty as a token classifier"):
        ner.Ner(Ner(model=str(tmp_path / "empty")))
    with pytest.raises(UserError, match="knows no label HUMAN"):
        ner.Ner(Ner(model=str(folder), labels=("HUMAN",)))
    other = BertForSequenceClassification(BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1,
                                                     num_attention_heads=1, intermediate_size=8))  # fmt: skip
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="it is BertForSequenceClassification"):
        ner.Ner(Ner(model=str(tmp_path / "other")))
    with pytest.raises(ValueError, match="kinds leaves out person"):
        Config.model_validate({"name": "x", "run_dir": "x", "sources": {"products": {"path": "x"}},
                               "privacy": {"kinds": ["email"], "ner": {"model": "m"}}})  # fmt: skip
