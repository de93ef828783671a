"""Set-up of every test: no network outside this machine, no settings of the user, registries restored."""

import atexit
import gc
import ipaddress
import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import settings

from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.storage.data_folder import DataFolder

ESC10_DIR = os.environ.get("ESC10_DIR")  # read at import because tests may delete the variable
PACKAGE = "vlm_audio_pipeline"

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # set by `cmd &`; processes that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: a busy machine must not fail a test. The same examples each time: only a change of the code fails a test.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)  # `pytest --hypothesis-profile random` looks for new failures
settings.load_profile("repeatable")

COLLECTS_IN_REVERSE = os.environ.get("PYTEST_XDIST_WORKER", "gw0").endswith(("1", "3", "5", "7", "9"))

LONGEST_FILES = (
    "dagster_app/test_scheduled_reruns.py",
    "test_baselines.py",
    "test_processes.py",
    "dagster_app/test_ui.py",
    "test_faults.py",
    "planning/test_disturbances.py",
    "dagster_app/test_executor.py",
)
"""Files whose slow tests take longest. They start first, so that no worker waits for another at the end."""

_network_allowed = False


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without garbage collection, which would visit a million imported objects each time; exclude them later, too."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """Collect the files in reverse order in every second worker.

    On a clean clone, the workers compile all test modules at the same time, which takes longer than importing them. In this
    way each worker compiles half of them and finds the bytecode of the others.
    """
    report = yield
    if COLLECTS_IN_REVERSE and isinstance(collector, pytest.Directory):
        report.result.reverse()
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Sort the tests: the same order in all workers, and first the files with the longest slow tests."""
    items.sort(key=lambda item: item.path.parts)
    yield
    folder = Path(__file__).parent
    order = {folder / name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)) if item.get_closest_marker("slow") else len(order))


# DuckDB's binding reports remaining objects as leaks at exit. Before, pytest collects garbage several times, 0.5 s each.
atexit.register(gc.unfreeze)


def _is_loopback(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost", "0.0.0.0", "::"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse(host) -> None:
    if not _network_allowed and not _is_loopback(host):
        raise RuntimeError(f"tests must not use the network, got a connection to {host}; mark the test `network`")


@pytest.fixture(autouse=True, scope="session")
def network_guard():
    """Refuse every connection that leaves this machine, except in tests marked `network`."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guard(original):
        def call(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _refuse(address[0])
            return original(self, address)

        return call

    def resolve(host, *args, **kwargs):
        _refuse(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guard(connect))
        patch.setattr(socket.socket, "connect_ex", guard(connect_ex))
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


@pytest.fixture(autouse=True, scope="session")
def registrations():
    """List what is registered, as (registry, kind, class that held the kind before)."""
    register, log = Registry.register, []

    def register_and_log(self, kind):
        log.append((self, kind, self._classes.get(kind)))
        return register(self, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "register", register_and_log)
        yield log


@pytest.fixture(autouse=True)
def isolation(request, monkeypatch, registrations):
    """Remove settings of the machine, allow the network where marked, and undo what the test registers."""
    global _network_allowed
    _network_allowed = request.node.get_closest_marker("network") is not None
    for name in (
        "VLM_AUDIO_DATA",
        "VLM_AUDIO_STUDIES",
        "VLM_AUDIO_ENGINE",
        "DAGSTER_HOME",
        "COLUMNS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    registrations.clear()
    yield
    _network_allowed = False
    for registry, kind, before in reversed(registrations):
        cls = registry._classes.get(kind)
        if cls is None or cls.__module__.startswith(PACKAGE + "."):
            continue  # registrations of the package itself remain
        if before is None:
            del registry._classes[kind]
        else:
            registry._classes[kind] = before


@pytest.fixture(autouse=True, scope="session")
def direct_executor():
    """Make commands that are called within this process execute steps without Dagster."""

    def create():
        from vlm_audio_pipeline.planning.executor import DirectExecutor

        return DirectExecutor()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlm_audio_pipeline.cli.executor.command_executor", create)
        yield


@pytest.fixture
def dagster_executor(monkeypatch):
    """Make commands that are called within this process execute steps through Dagster, as in production."""
    from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor

    monkeypatch.setattr("vlm_audio_pipeline.cli.executor.command_executor", DagsterExecutor)


@pytest.fixture(scope="session")
def imported_librosa():
    """Import librosa without compiling its functions, which takes 20 s where numba's cache is empty."""
    from vlm_audio_pipeline.renderings.librosa_import import import_librosa

    import_librosa()


@pytest.fixture
def data_folder(tmp_path) -> DataFolder:
    """An empty data folder."""
    return DataFolder(tmp_path / "data")


@pytest.fixture
def esc10_dir() -> Path:
    """Folder with the real recordings of ESC-10."""
    if not ESC10_DIR:
        pytest.skip("set ESC10_DIR to a copy of ESC-10 to run this")
    return Path(ESC10_DIR)
