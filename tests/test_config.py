"""Settings: what a file may say, and how its mistakes are told."""

from __future__ import annotations

import re

import pytest
import yaml
from pydantic import ValidationError

from synthrec.config import Config, Tasks, commented, defaults, load
from synthrec.config.synthesize import Synthesize
from synthrec.errors import UserError

LEAST = {"name": "shop", "run_dir": "runs/shop", "sources": {"products": {"path": "products.jsonl"}}}


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "shop.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text), encoding="utf-8")
        return path

    return write


def told(path, overrides=None):
    """The problem and the hint that loading ends in."""
    with pytest.raises(UserError) as found:
        load(path, overrides)
    return found.value.problem, found.value.hint


def test_the_least_file_gives_every_default(write):
    config = load(write(LEAST))
    assert config.seed == 13
    assert config.train.epochs == 4
    assert list(config.sources.given()) == ["products"]
    assert config.sources.products.format == "auto"


def test_defaults_are_valid_settings_and_load_again_as_themselves(write):
    values = defaults()
    assert Config.model_validate(values).model_dump(mode="json") == values
    assert load(write(values)).model_dump(mode="json") == values


OWN = {"problem": {"reads": "review", "labels": {"en": ["late", "broken"], "zh": ["晚到", "坏了"]}}}


@pytest.mark.parametrize("own", [{}, OWN])
def test_what_is_printed_is_a_config_of_the_same_settings(write, own):
    """`synthrec config > shop.yaml` is how a config begins."""
    values = load(write(LEAST | {"synthesize": {"own_tasks": own}})).model_dump(mode="json")
    assert load(write(commented(values))).model_dump(mode="json") == values


def test_the_config_that_the_readme_shows_is_valid(store, write):
    shown = re.findall(
        r"^```yaml\n(.*?)^```", (store.parents[1] / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert load(write(shown[0])).sources.products.columns == {"product_id": "sku", "title": "name"}


def test_every_setting_is_explained():
    """What `synthrec config` prints teaches: each setting says what it is, or its name and type say all."""
    plain = {"epochs", "learning_rate", "max_query_tokens", "max_product_tokens"}
    told = commented(defaults())
    silent = [line.split(":")[0].strip() for line in told.splitlines() if "  # " not in line]
    assert set(silent) <= plain


def test_the_configs_that_ship_are_valid(store):
    shipped = sorted((store.parents[1] / "configs").glob("*.yaml"))
    assert shipped
    for path in shipped:
        load(path)


@pytest.mark.parametrize(
    ("change", "key", "near"),
    [
        ({"trian": {}}, "trian", "train"),
        ({"train": {"epoch": 3}}, "train.epoch", "epochs"),
        ({"synthesize": {"engine": {"modle": "x"}}}, "synthesize.engine.modle", "model"),
        ({"evaluate": {"next_item": {"path": "x", "histroy": "h"}}}, "evaluate.next_item.histroy", "history"),
        ({"sources": {"products": {"path": "x", "colums": {}}}}, "sources.products.colums", "columns"),
        ({"synthesize": {"own_tasks": {"a": {"raeds": "review"}}}}, "synthesize.own_tasks.a.raeds", "reads"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(write, change, key, near):
    path = write(LEAST | change)
    problem, hint = told(path)
    assert problem == f"{path}: unknown key '{key}'"
    assert hint == f"did you mean '{near}'?"


def test_an_unknown_key_like_no_other_lists_the_keys_there(write):
    problem, hint = told(write(LEAST | {"curate": {"zzz": 1}}))
    assert "curate.zzz" in problem
    assert "min_words" in hint
    assert "max_copy" in hint


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ({"seed": "many"}, "seed", "'many'"),
        ({"train": {"epochs": 0}}, "train.epochs", "0"),
        ({"train": {"warmup": 1.5}}, "train.warmup", "1.5"),
        ({"sources": {"products": "products.jsonl"}}, "sources.products", "'products.jsonl'"),
        ({"sources": {"products": {"path": "x", "format": "xml"}}}, "sources.products.format", "'xml'"),
        ({"privacy": {"kinds": ["email", "shoe_size"]}}, "privacy.kinds.1", "'shoe_size'"),
        ({"name": "../up"}, "name", "'../up'"),
        ({"curate": {"calibration": "some"}}, "curate.calibration", "'some'"),
        ({"synthesize": {"tasks": {"intent": {"candidates": 1}}}}, "synthesize.tasks.intent.candidates", "1"),
        ({"seed": -1}, "seed", "-1"),
        ({"serve": {"replicas": [4, 2]}}, "serve.replicas", "[4, 2]"),
        ({"synthesize": {"engine": {"resources": {"actors": [4, 1]}}}}, "synthesize.engine.resources.actors", "[4, 1]"),
        ({"recommend": {"sequential": {"heads": 3}}}, "recommend", "{'sequential': {'heads': 3}}"),
        ({"recommend": {"temporal_shares": [0.9, 0.8]}}, "recommend", "{'temporal_shares': [0.9, 0.8]}"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(write, change, key, value):
    path = write(LEAST | change)
    problem, _ = told(path)
    assert problem.startswith(f"{path}: {key}: ")
    assert f"(it is {value})" in problem


def test_all_mistakes_are_told_at_once(write):
    problem, _ = told(write({"run_dir": "x", "seed": "many", "sources": {}}))
    assert "key 'name' is required" in problem
    assert "key 'sources.products' is required" in problem
    assert "seed: " in problem


def test_a_missing_file_is_told_with_where_to_start(tmp_path):
    problem, hint = told(tmp_path / "none.yaml")
    assert "none.yaml" in problem
    assert "configs/store.yaml" in hint


def test_a_folder_is_told_like_a_missing_file(tmp_path):
    problem, hint = told(tmp_path)
    assert str(tmp_path) in problem
    assert "configs/store.yaml" in hint


@pytest.mark.parametrize("text", ["seed: 2024-02-30", "seed: !!int abc", "x: !!timestamp abc", "[" * 5000])
def test_a_value_that_is_not_what_it_looks_like_is_told(write, text):
    assert "shop.yaml is not valid YAML" in told(write(text))[0]
    key, _, value = text.partition(": ")
    assert "not YAML" in told(write(LEAST), [f"{key if value else 'seed'}={value or key}"])[0]


def test_a_url_that_is_none_is_told(write):
    engine = {"kind": "openai", "server": {"url": "http://[::1/v1"}}
    assert "server.url is no URL" in told(write(LEAST | {"synthesize": {"engine": engine}}))[0]


@pytest.mark.parametrize("text", ["name: [", "a: b: c", "\tname: x", "name: x\nname: y"])
def test_what_is_not_yaml_is_told_with_its_line(write, text):
    problem, _ = told(write(text))
    assert "shop.yaml is not valid YAML" in problem
    assert "line 1" in problem or "line 2" in problem


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list"])
def test_yaml_that_holds_no_settings_is_told(write, text):
    assert "holds no settings" in told(write(text))[0]


def test_settings_are_frozen(write):
    config = load(write(LEAST))
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 1


def test_overrides_win_over_the_file_and_are_yaml(write):
    path = write(LEAST | {"train": {"epochs": 2, "workers": 1}})
    config = load(path, ["train.epochs=5", "seed=7", "train.use_gpu=true", "privacy.kinds=[email]", "name=other"])
    assert (config.train.epochs, config.train.workers, config.train.use_gpu) == (5, 1, True)
    assert (config.seed, config.privacy.kinds, config.name) == (7, ("email",), "other")


def test_of_two_overrides_the_later_wins_and_a_value_may_hold_an_equals_sign(write):
    config = load(write(LEAST), ["run_dir=a", "run_dir=runs/x=1"])
    assert config.run_dir == "runs/x=1"


@pytest.mark.parametrize("group", [None, {}, {"sentiment": None}, {"sentiment": {}}, {"sentiment": {"max_reviews": 9}}])
def test_an_override_reaches_into_groups_that_are_missing_empty_or_null(write, group):
    for synthesize in ({"tasks": group},) if group is not None else ({}, {"tasks": None}, None):
        given = LEAST | {"synthesize": synthesize} if synthesize is not None else LEAST
        config = load(write(given), ["synthesize.tasks.sentiment.max_reviews=20"])
        assert config.synthesize.tasks.sentiment is not None
        assert config.synthesize.tasks.sentiment.max_reviews == 20


def test_a_setting_of_one_task_leaves_the_others_as_they_are_by_default(write):
    config = load(write(LEAST), ["synthesize.tasks.queries.max_products=500"])
    assert config.synthesize.tasks == Synthesize().tasks.model_copy(update={"queries": config.synthesize.tasks.queries})
    assert config.synthesize.tasks.queries.max_products == 500


def test_an_override_can_switch_a_task_off(write):
    given = LEAST | {"synthesize": {"tasks": {"sentiment": {}, "queries": {}}}}
    config = load(write(given), ["synthesize.tasks.sentiment=null"])
    assert config.synthesize.tasks.sentiment is None
    assert config.synthesize.tasks.queries is not None


@pytest.mark.parametrize("name", list(Tasks.model_fields))
def test_an_override_can_switch_any_task_on(write, name):
    config = load(write(LEAST | {"synthesize": {"tasks": {}}}), [f"synthesize.tasks.{name}={{}}"])
    on = {one for one in Tasks.model_fields if getattr(config.synthesize.tasks, one) is not None}
    assert on == {name}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs", "no '='"),
        ("seed.x=1", "seed is not a group of settings"),
        ("train.epoch=3", "unknown key 'train.epoch'"),
        ("train.epochs=lots", "train.epochs: "),
        ("privacy.kinds=[email", "privacy.kinds=[email"),
    ],
)
def test_a_wrong_override_is_told(write, override, words):
    assert words in told(write(LEAST | {"seed": 3}), [override])[0]
