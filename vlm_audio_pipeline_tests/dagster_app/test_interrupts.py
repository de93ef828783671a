"""What is said of an interrupt that nobody can raise: nothing; of everything else, all."""

import logging
import sys

import pytest

from vlm_audio_pipeline.dagster_app.interrupts import hide_tracebacks_of


class Dying:
    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


@pytest.fixture
def unraised(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: heard.append(unraisable.exc_type))
    return heard


def test_an_interrupt_in_a_finaliser_is_not_printed_and_all_else_is(unraised):
    with hide_tracebacks_of(KeyboardInterrupt):
        for error in (KeyboardInterrupt(), ValueError()):
            Dying(error)
    assert unraised == [ValueError]
    Dying(KeyboardInterrupt())
    assert unraised == [ValueError, KeyboardInterrupt], "as before, once it is over"


def test_an_interrupt_that_a_library_logs_is_not_printed_and_all_else_is(capsys):
    log = logging.Logger("a.library.without.handlers")
    with hide_tracebacks_of(KeyboardInterrupt):
        for error in (KeyboardInterrupt(), ValueError()):
            try:
                raise error
            except (KeyboardInterrupt, ValueError):
                log.exception("closing %s", type(error).__name__)
    said = capsys.readouterr().err
    assert "closing ValueError" in said and "KeyboardInterrupt" not in said
    assert logging.lastResort.filters == []
