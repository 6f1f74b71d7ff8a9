"""Run by a Python that has presidio-analyzer: texts as JSON in, spans of its default recognisers out.

Its default wants a spaCy model (en_core_web_lg). Where that cannot be had, a blank English pipeline takes its place:
all pattern recognisers work as they do by default, names and places are not found. `pipeline` says which it was.
"""

import json
import sys
import time

import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine


def engine():  # type: ignore[no-untyped-def]
    for name in ("en_core_web_lg", "en_core_web_sm"):
        if spacy.util.is_package(name):
            nlp = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": name}])
            return AnalyzerEngine(nlp_engine=nlp), name
    nlp = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    nlp.nlp = {"en": spacy.blank("en")}
    return AnalyzerEngine(nlp_engine=nlp), "blank"


if __name__ == "__main__":
    texts = json.load(sys.stdin)
    analyzer, name = engine()  # type: ignore[no-untyped-call]
    analyzer.analyze(texts[0], language="en")
    start = time.monotonic()
    spans = [[(r.start, r.end) for r in analyzer.analyze(text, language="en")] for text in texts]
    print(json.dumps({"spans": spans, "texts_per_s": len(texts) / (time.monotonic() - start), "pipeline": name}))
