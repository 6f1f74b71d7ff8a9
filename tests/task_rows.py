"""Rows made by hand for the tests of tasks: a small shop's catalogue and corpus, and a record for each task."""

from __future__ import annotations

import json

from synthrec import config, schema
from synthrec.storage import Folder
from synthrec.tasks import TASKS, Shop

MODEL = "llamacpp:embedded"
LANGUAGES = ("en", "zh")
SETTINGS = {
    "queries": config.QueriesTask(),
    "relevance": config.RelevanceTask(),
    "sentiment": config.SentimentTask(aspects=True),
    "intent": config.IntentTask(),
    "profile": config.ProfileTask(),
    "brand": config.BrandTask(),
    "reply": config.ReplyTask(),
    "session": config.SessionTask(),
}


def task(name, seed=13, **changes):
    return TASKS[name](SETTINGS[name].model_copy(update=changes), seed)


# id, language, title, description, brand, category, colour
PRODUCTS = [
    ("k1", "en", "Tarrow Red Kettle", "Boils a litre fast. Quiet enough for the night.", "Tarrow", "Kitchen", "red"),
    ("k2", "en", "Tarrow Blue Kettle", "Boils two litres at once.", "Tarrow", "Kitchen", "blue"),
    ("k3", "en", "Oakrun Dog Coat", "Keeps the belly dry in the rain.", "Oakrun", "Pets", "brown"),
    ("k5", "en", "Larkwell Tea Pot", "Keeps a litre of tea warm beside the kettle.", "Larkwell", "Dining", "white"),
    ("k4", "zh", "橡奔 狗狗雨衣", "下雨天遛狗不湿肚子。", "橡奔", "宠物用品", "棕色"),
    ("k6", "zh", "橡奔 狗窝", "狗狗睡得香，外套可以机洗。", "橡奔", "宠物用品", "灰色"),
    ("k7", "zh", "晨渡 电水壶", "一升水两分钟烧开，夜里也安静。", "晨渡", "厨房", "白色"),
]
COLOUR = {"en": "colour", "zh": "颜色"}


def catalogue():
    return [
        {
            "product_id": i,
            "language": la,
            "title": title,
            "description": told,
            "brand": brand,
            "category": category,
            "attributes": {COLOUR[la]: colour},
            "text": f"{title} . {category} . {told}",
        }
        for i, la, title, told, brand, category, colour in PRODUCTS
    ]


def document(kind, number, language, text, fields=None, **more):
    made = {"doc_id": f"{kind}:{number}", "kind": kind, "language": language, "text": text, "product_id": None}
    return made | {"user_id": None, "fields": list((fields or {}).items())} | more


def product(product_id, language, title, description="", attributes="", **fields):
    fields |= {"title": title, "description": description, "attributes": attributes}
    return document("product", product_id, language, title, fields, product_id=product_id)


def review(number, language, text):
    return document("review", f"r{number}", language, text, product_id="k1")


def query(number, language, text, product_id):
    return {"id": f"q{number}", "language": language, "text": text, "product_id": product_id, "fields": []}


def shopper(name, language, searches=(), purchases=(), reviews=(), user_id="u-1"):
    fields = {"searches": searches, "purchases": purchases, "reviews": reviews}
    said = {key: json.dumps(value, ensure_ascii=False) for key, value in fields.items()}
    return document("shopper", name, language, "", said, user_id=user_id)


def brand(name, language, categories, *products):
    fields = {"brand": name, "categories": categories, "products": json.dumps(products)}
    return document("brand", f"{language}:{name}", language, name, fields)


def dialogue(number, language, *turns):
    said = "\n".join(f"{'agent' if n % 2 else 'shopper'}: {text}" for n, text in enumerate(turns))
    return document("dialogue", f"d{number}", language, said)


LEAK = ("My red kettle leaks.", "Sorry, I send a new kettle.", "And my money?", "It is back, kettle or not.", "Thanks")
DIALOGUES = [
    dialogue(1, "en", *LEAK),
    dialogue(2, "en", "The blue kettle is loud.", "Please send the kettle and I send your money."),
    dialogue(3, "en", "Does the kettle come with a lid?", "The lid of the kettle is glass."),
    dialogue(4, "zh", "雨衣 太小了", "可以换大一号的雨衣。"),
    dialogue(5, "zh", "雨衣 什么时候到？", "雨衣明天就到。"),
    dialogue(6, "zh", "雨衣 能机洗吗？", "雨衣可以机洗。"),
]
RECORDS = {
    ("queries", "en"): product("k1", "en", "Tarrow Red Kettle", PRODUCTS[0][3], "colour: red"),
    ("queries", "zh"): product("k4", "zh", "橡奔 狗狗雨衣", PRODUCTS[4][3], "颜色: 棕色"),
    ("relevance", "en"): query(1, "en", "red kettle", "k1"),
    ("relevance", "zh"): query(2, "zh", "狗狗雨衣", "k4"),
    ("sentiment", "en"): review(1, "en", "Boils fast"),
    ("sentiment", "zh"): review(2, "zh", "水开得快"),
    ("intent", "en"): shopper("u-1", "en", [["search:s1", "red kettle"], ["search:s2", "quiet kettle"]]),
    ("intent", "zh"): shopper("u-2", "zh", [["search:s3", "狗狗雨衣"], ["search:s4", "电水壶"]]),
    ("profile", "en"): shopper("u-1", "en", [["search:s1", "red kettle"]], ["k1"], [["review:r1", "k1", "Boils fast"]]),
    ("profile", "zh"): shopper("u-2", "zh", [["search:s3", "狗狗雨衣"]], ["k4"], [["review:r2", "k4", "不湿肚子"]]),
    ("brand", "en"): brand("Tarrow", "en", "Kitchen", "k1", "k2"),
    ("brand", "zh"): brand("橡奔", "zh", "宠物用品", "k4", "k6"),
    ("reply", "en"): DIALOGUES[0],
    ("reply", "zh"): DIALOGUES[3],
    ("session", "en"): product("k1", "en", "Tarrow Red Kettle"),
    ("session", "zh"): product("k4", "zh", "橡奔 狗狗雨衣"),
}


def shop_of(path, products=None, dialogues=DIALOGUES, encoder=None):
    """A Shop over a small prepared folder."""
    folder = Folder.open(str(path))
    rows = catalogue() if products is None else products
    (folder / "catalogue").write_table("part.parquet", schema.table(rows, schema.CATALOGUE))
    (folder / "corpus").write_table("part.parquet", schema.table(list(dialogues), schema.CORPUS))
    return Shop(folder, encoder)


def completion(name, facet="", language="en", text=None, logprobs=None, labels=None, prior=None, **fields):
    """A COMPLETION row, as far as parsers look at it."""
    row = {"id": "x", "task": name, "facet": facet, "language": language, "text": text, "logprobs": logprobs}
    return row | {"labels": labels, "prior": prior, "error": None, "fields": list(fields.items())}
