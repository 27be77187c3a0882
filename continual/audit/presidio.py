"""Presidio's recognizers (https://microsoft.github.io/presidio), beside our own: national numbers of more countries
and, with a model of spaCy's, the names of people. An extra, since it is heavy.
"""

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

BLANK: Final = "blank"
"""In place of a model: presidio's patterns alone."""

# What it is that sure of is told; numbers that merely have the length of a passport's are not.
_SURE: Final = 0.5
# Known to us already (and presidio's way to know an address asks the network), or nothing that names a person.
_LEFT_OUT: Final = frozenset(
    {"EMAIL_ADDRESS", "URL", "DATE_TIME", "UUID", "AGE", "ID", "LOCATION", "ORGANIZATION", "NRP", "EMAIL"}
)


class Recognized(NamedTuple):
    """Characters `start` to `end` of a text, and what they are, such as "uk-nhs" or "person"."""

    start: int
    end: int
    what: str


class PresidioFailed(RuntimeError):
    """Presidio, or the model that it was to take, cannot be loaded."""


def is_installed() -> bool:
    """Whether the extra is there."""
    return find_spec("presidio_analyzer") is not None


def recognized(text: str, model: str) -> list[Recognized]:
    """What presidio is sure of, in order. `model`: a package or folder of spaCy's for English, or `BLANK`.

    Raises `PresidioFailed`.
    """
    analyzer, entities = _analyzer(model)
    found = analyzer.analyze(text=text, language="en", entities=entities, score_threshold=_SURE)
    named = [Recognized(one.start, one.end, one.entity_type.lower().replace("_", "-")) for one in found]
    return sorted(named)


@lru_cache(maxsize=1)
def _analyzer(model: str) -> tuple[Any, list[str]]:
    """The engine, and the entities that it is asked for."""
    if not is_installed():
        raise PresidioFailed("presidio is not installed: pip install 'adapterd[presidio]'")
    spacy, presidio = import_module("spacy"), import_module("presidio_analyzer")
    engine = import_module("presidio_analyzer.nlp_engine").SpacyNlpEngine()
    try:
        engine.nlp = {"en": spacy.blank("en") if model == BLANK else spacy.load(model)}
    except (OSError, ValueError, ImportError) as error:
        raise PresidioFailed(f"spaCy cannot load {model!r}, which audit.presidio names: {error}") from error
    registry = presidio.RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    for name in ("EmailRecognizer", "UrlRecognizer"):
        registry.remove_recognizer(name)
    analyzer = presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    return analyzer, sorted(set(analyzer.get_supported_entities("en")) - _LEFT_OUT)
