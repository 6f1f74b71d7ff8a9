"""One YAML file -> frozen settings, a file a section. Every default is written once, here."""

from synthrec.config.base import Fraction, Positive, Settings, Values
from synthrec.config.curate import Curate
from synthrec.config.engine import Engine, Prices, Resources, Server
from synthrec.config.evaluate import Evaluate, NextItem
from synthrec.config.package import Package
from synthrec.config.privacy import Ner, PiiKind, Privacy
from synthrec.config.reading import check_egress, defaults, load
from synthrec.config.recommend import GraphModel, NextModel, Recommend, SequentialModel
from synthrec.config.search import Between, Searchable, Space
from synthrec.config.serve import Index, Serve
from synthrec.config.sources import Prepare, Source, Sources
from synthrec.config.storage import Storage
from synthrec.config.synthesize import Budget, Synthesize
from synthrec.config.tasks import (
    BrandTask,
    IntentTask,
    OwnTask,
    ProfileTask,
    QueriesTask,
    RelevanceTask,
    ReplyTask,
    SentimentTask,
    SessionTask,
    Tasks,
)
from synthrec.config.telling import commented
from synthrec.config.train import ClassifierModel, CrossEncoderModel, Train
from synthrec.config.whole import Config

__all__ = [
    "Between",
    "BrandTask",
    "Budget",
    "ClassifierModel",
    "Config",
    "CrossEncoderModel",
    "Curate",
    "Engine",
    "Evaluate",
    "Fraction",
    "GraphModel",
    "Index",
    "IntentTask",
    "Ner",
    "NextItem",
    "NextModel",
    "OwnTask",
    "Package",
    "PiiKind",
    "Positive",
    "Prepare",
    "Prices",
    "Privacy",
    "ProfileTask",
    "QueriesTask",
    "Recommend",
    "RelevanceTask",
    "ReplyTask",
    "Resources",
    "Searchable",
    "SentimentTask",
    "SequentialModel",
    "Serve",
    "Server",
    "SessionTask",
    "Settings",
    "Source",
    "Sources",
    "Space",
    "Storage",
    "Synthesize",
    "Tasks",
    "Train",
    "Values",
    "check_egress",
    "commented",
    "defaults",
    "load",
]
