"""Variants of queries: what may change does, what names the product does not, and the same row gives the same ones."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_rows import query

from synthrec import schema
from synthrec.curation.augment import KINDS, augmented, homophones, neighbours, variants


def made(text, language="en", seed="id", brand=None, attributes=()):
    return {one.kind: one.text for one in variants(text, language, seed, brand, attributes)}


def test_english_slips_change_one_place_of_one_word():
    found = made("wireless headphones for running")
    assert set(found) == {"neighbouring key", "swapped letters", "dropped letter", "word order"}
    assert found["word order"] == "headphones wireless for running"
    for kind, length in [("neighbouring key", 0), ("swapped letters", 0), ("dropped letter", -1)]:
        words = list(zip(found[kind].split(), ["wireless", "headphones", "for", "running"], strict=True))
        assert [a != b for a, b in words].count(True) == 1
        assert all(a[0] == b[0] for a, b in words)
        assert len(found[kind]) == len("wireless headphones for running") + length
    assert sorted(found["swapped letters"]) == sorted("wireless headphones for running")


def test_attributes_of_the_product_are_what_may_be_left_out():
    text, values = "sony wireless headphones black", ["Matte Black", "40 mm"]
    assert made(text, brand="Sony", attributes=values)["attribute drop"] == "sony wireless headphones"
    assert "attribute drop" not in made(text, attributes=["red"])
    assert "attribute drop" not in made("pan without black lid", attributes=["black"])


def test_chinese_is_typed_in_every_way():
    found = made("猫咪喝水的机器", "zh")
    assert found["pinyin"] == "maomiheshuidejiqi"
    assert found["traditional"] == "貓咪喝水的機器"
    assert found["initials"] in ("mm喝水的机器", "猫咪hs的机器", "猫咪喝水的jq")
    assert sum(a != b for a, b in zip(found["homophone"], "猫咪喝水的机器", strict=True)) == 1
    assert made("貓咪飲水機2代", "zh")["simplified"] == "猫咪饮水机2代"
    assert made("头发 发财", "zh")["traditional"] == "頭髮 發財"  # by the word, not by the character
    assert made("500毫升保温杯", "zh")["pinyin"] == "500毫升 baowenbei"


KEPT = [
    ("sony wh-1000xm5 wireless headphones", "en", "Sony", ["sony", "wh-1000xm5"]),
    ("tarrow cast skillet 10.25 in", "en", "Tarrow", ["tarrow", "10.25 in"]),
    ("usb c braided cable 2 m", "en", None, ["usb c", "2 m"]),
    ("mens jacket xl waterproof", "en", None, ["xl"]),
    ("橡奔 狗狗防水雨衣 中号", "zh", "橡奔", ["橡奔", "中号"]),
    ("大码羽绒服 三件套", "zh", None, ["大码", "三件套"]),
    ("iphone15手机壳 6.1英寸", "zh", None, ["iphone15", "6.1英寸"]),
]


@pytest.mark.parametrize("text, language, brand, kept", KEPT)
def test_what_names_the_product_is_never_changed(text, language, brand, kept):
    seen = set()
    for seed in range(40):
        for kind, found in made(text, language, str(seed), brand, ["cast", "waterproof"]).items():
            seen.add(kind)
            for part in kept:
                assert part in found, (kind, found)
    assert len(seen) >= 3


TEXTS = st.text("abcdefgh 1250-.猫狗水杯红色大號 mlkg'", max_size=40)


@given(TEXTS, st.sampled_from(["en", "zh"]), st.text(max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_text_gives_different_texts_with_the_same_digits(text, language, seed):
    found = variants(text, language, seed)
    assert found == variants(text, language, seed)
    texts = [one.text for one in found]
    assert len({*texts, text}) == len(texts) + 1
    for one in found:
        assert one.kind in KINDS[language]
        assert sorted(re.findall(r"\d", one.text)) == sorted(re.findall(r"\d", text))
        assert one.text.strip()


def test_another_row_gives_another_slip_and_fewer_may_be_asked_for():
    assert len({made("wireless headphones", seed=str(n))["neighbouring key"] for n in range(30)}) > 10
    all_of_them = variants("wireless headphones", "en", "id")
    assert variants("wireless headphones", "en", "id", most=2) == all_of_them[:2]
    assert {variants("wireless headphones", "en", str(n), most=1)[0].kind for n in range(40)} == set(KINDS["en"])
    assert variants("casque sans fil", "fr", "id") == []


def test_rows_say_what_made_them():
    product = {"brand": "Tarrow", "attributes": [("colour", "red")]}
    row = query("tarrow red enamel kettle", number=7) | {"fields": [("style", "plain")]}
    found = augmented(row, product)
    assert {schema.strings(one["fields"])["augmented"] for one in found} >= {"word order", "attribute drop"}
    for one in found:
        assert schema.strings(one["fields"])["of"] == row["id"]
        assert schema.strings(one["fields"])["style"] == "plain"
        assert "tarrow" in one["text"]
        assert (one["product_id"], one["task"]) == (row["product_id"], row["task"])
    assert len({row["id"], *(one["id"] for one in found)}) == len(found) + 1
    assert schema.table(found, schema.LABEL).num_rows == len(found)


def test_keys_and_sounds():
    assert set(neighbours()["g"]) >= set("fhtyvb")
    assert all(a in neighbours()[b] for a, near in neighbours().items() for b in near)
    assert {"猫", "毛", "帽"} <= set(homophones()["mao"])
    assert sum(map(len, homophones().values())) == 3755
