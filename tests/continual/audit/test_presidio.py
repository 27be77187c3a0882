"""Presidio is asked beside our own recognizers where it is wanted; without it, the drop waits."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from adapterd.continual.audit import presidio
from adapterd.continual.audit.findings import Concern
from adapterd.continual.audit.presidio import PresidioFailed, recognized
from adapterd.continual.audit.sensitive import redact, sensitive


class FakeAnalyzer:
    """Finds every "Ada" as a person, and numbers of ten digits as an NHS number."""

    def __init__(self, **_parts: Any) -> None:
        self.asked: list[str] = []

    def get_supported_entities(self, _language: str) -> list[str]:
        return ["PERSON", "UK_NHS", "LOCATION", "URL"]

    def analyze(self, text: str, language: str, entities: list[str], score_threshold: float) -> list[SimpleNamespace]:
        assert (language, entities, score_threshold) == ("en", ["PERSON", "UK_NHS"], 0.5)
        words = [("PERSON", "Ada"), ("UK_NHS", "4010232137")]
        return [
            SimpleNamespace(start=text.index(word), end=text.index(word) + len(word), entity_type=kind)
            for kind, word in words
            if word in text
        ]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand-ins for presidio and spaCy, which are heavy."""
    registry = SimpleNamespace(load_predefined_recognizers=lambda **_: None, remove_recognizer=lambda _name: None)

    def load(model: str) -> None:
        raise OSError(f"[E050] Can't find model '{model}'")

    modules: dict[str, dict[str, Any]] = {
        "presidio_analyzer": {"AnalyzerEngine": FakeAnalyzer, "RecognizerRegistry": lambda **_: registry},
        "presidio_analyzer.nlp_engine": {"SpacyNlpEngine": SimpleNamespace},
        "spacy": {"blank": lambda _language: object(), "load": load},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(presidio, "is_installed", lambda: True)
    presidio._analyzer.cache_clear()
    yield
    presidio._analyzer.cache_clear()
    sensitive.cache_clear()


@pytest.mark.usefixtures("installed")
def test_what_presidio_is_sure_of_is_personal_and_redacted() -> None:
    text = "Ada has number 4010232137 and writes from ada@example.org"
    assert [span.what for span in sensitive(text)] == ["email"]
    found = sensitive(text, "", "blank")
    assert [(span.what, span.concern) for span in found] == [
        ("person", Concern.PERSONAL),
        ("uk-nhs", Concern.PERSONAL),
        ("email", Concern.PERSONAL),
    ]
    assert redact(text, {Concern.PERSONAL}, "", "blank")[0] == "[PERSON] has number [UK-NHS] and writes from [EMAIL]"


@pytest.mark.usefixtures("installed")
def test_a_model_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(PresidioFailed, match="cannot load 'nowhere'"):
        recognized("Ada", "nowhere")


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presidio, "is_installed", lambda: False)
    presidio._analyzer.cache_clear()
    with pytest.raises(PresidioFailed, match="adapterd\\[presidio\\]"):
        recognized("Ada", "blank")


@pytest.mark.skipif(not presidio.is_installed(), reason="the extra presidio is not installed")
def test_presidio_itself_knows_numbers_that_we_do_not(tmp_path: Path) -> None:
    assert [one.what for one in recognized("NHS number 401-023-2137 please", "blank")] == ["uk-nhs"]
    assert recognized("what is the capital of France? 12345", "blank") == []
    with pytest.raises(PresidioFailed):
        recognized("Ada", str(tmp_path))
