"""Interrupts in finalisers and library logs are not printed; other errors are."""

import logging
import sys

import pytest

from vlm_audio_pipeline.dagster_app.interrupts import hide_tracebacks_of


class RaisesInFinaliser:
    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


@pytest.fixture
def unraised(monkeypatch):
    error_types = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: error_types.append(unraisable.exc_type))
    return error_types


def test_an_interrupt_in_a_finaliser_is_hidden_and_other_errors_are_printed(unraised):
    with hide_tracebacks_of(KeyboardInterrupt):
        for error in (KeyboardInterrupt(), ValueError()):
            RaisesInFinaliser(error)
    assert unraised == [ValueError]
    RaisesInFinaliser(KeyboardInterrupt())
    assert unraised == [ValueError, KeyboardInterrupt], "the hook is restored at the end"


def test_an_interrupt_logged_by_a_library_is_hidden_and_other_errors_are_printed(capsys):
    log = logging.Logger("a.library.without.handlers")
    with hide_tracebacks_of(KeyboardInterrupt):
        for error in (KeyboardInterrupt(), ValueError()):
            try:
                raise error
            except (KeyboardInterrupt, ValueError):
                log.exception("closing %s", type(error).__name__)
    output = capsys.readouterr().err
    assert "closing ValueError" in output and "KeyboardInterrupt" not in output
    assert logging.lastResort.filters == []
