"""Raise KeyboardInterrupt after a Dagster run that was interrupted by Ctrl-C.

Dagster handles the signal itself: inside a step, the run fails; between two steps, the signal may be lost.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block if SIGINT or SIGTERM arrived during it (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        with hide_tracebacks_of(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        os.close(writer)
        with open(reader, "rb") as file:
            received_signals = {signal.SIGINT, signal.SIGTERM} & set(file.read() or b"")
    if received_signals:
        raise KeyboardInterrupt


@contextmanager
def hide_tracebacks_of(*interrupts: type[BaseException]) -> Iterator[None]:
    """Suppress tracebacks of interrupts that arrive where Python cannot raise them: in a finaliser, or when a connection is closed."""
    hook = sys.unraisablehook

    def print_unless_interrupt(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, interrupts):
            hook(unraisable)

    def is_not_interrupt(record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, interrupts)

    sys.unraisablehook = print_unless_interrupt
    if logging.lastResort:
        logging.lastResort.addFilter(is_not_interrupt)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if logging.lastResort:
            logging.lastResort.removeFilter(is_not_interrupt)
