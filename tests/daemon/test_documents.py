"""What scripts get."""

import inspect
from typing import Any

import pytest
from adapterd.daemon import documents
from adapterd.v1 import adapters_pb2, common_pb2, inference_pb2, learning_pb2

from . import fake_daemon

WIRE: dict[Any, tuple[Any, dict[str, str]]] = {
    documents.version: (adapters_pb2.Version, {"manifest_json": "manifest"}),
    documents.task: (adapters_pb2.Task, {"name": "task"}),
    documents.trial: (adapters_pb2.CanaryTrial, {}),
    documents.moved: (adapters_pb2.AliasMoved, {}),
    documents.drop: (learning_pb2.Drop, {"details_json": "details"}),
    documents.finding: (learning_pb2.Finding, {}),
    documents.forgotten: (learning_pb2.ForgetResponse, {"saw": "versions"}),
    documents.retraining: (learning_pb2.RetrainResponse, {}),
    documents.sampled: (learning_pb2.SampleRowsResponse.Row, {"row_json": "row"}),
    documents.job: (learning_pb2.Job, {}),
    documents.event: (common_pb2.Event, {"details_json": "details"}),
    documents.status: (learning_pb2.Status, {}),
    documents.served_by: (common_pb2.ServedBy, {}),
    documents.usage: (inference_pb2.Usage, {}),
}


@pytest.mark.parametrize("function", WIRE, ids=lambda function: function.__name__)
def test_document_has_every_field_of_its_message(function: Any) -> None:
    kind, renamed = WIRE[function]
    message = kind(manifest_json="{}") if kind is adapters_pb2.Version else kind()
    assert set(function(message)) == {renamed.get(field.name, field.name) for field in kind.DESCRIPTOR.fields}


def test_every_document_is_tried_here() -> None:
    returning = {
        function
        for _, function in inspect.getmembers(documents, inspect.isfunction)
        if inspect.signature(function).return_annotation is documents.Document
    }
    assert returning == set(WIRE)


def test_numbers_that_mean_none_are_null() -> None:
    document = documents.version(adapters_pb2.Version(task="mood", version=1))
    none = {name for name, value in document.items() if value is None}
    assert none == {"parent", "drop", "created", "verdict", "reason", "serving_error"}
    assert "manifest" not in document


def test_states_lose_their_prefix() -> None:
    assert documents.version_state(common_pb2.VERSION_STATE_RETIRED) == "retired"
    assert documents.serving_state(common_pb2.SERVING_STATE_UNSPECIFIED) == ""
    assert documents.drop_state(common_pb2.DROP_STATE_HELD) == "held"
    assert documents.job_state(learning_pb2.JOB_STATE_RUNNING) == "running"
    assert documents.finish_reason(inference_pb2.FINISH_REASON_LENGTH) == "length"


def test_state_of_a_newer_daemon_is_shown_by_its_number() -> None:
    assert documents.drop_state(77) == "unknown (77)"


def test_details_are_values_and_not_text() -> None:
    assert documents.drop(fake_daemon.drop(1))["details"] == {"duplicates": 3}
