"""What holds for every test: no network beyond this machine, no settings from outside, registries as they were."""

import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.storage.layout import Layout

ESC10_DIR = os.environ.get("ESC10_DIR")  # at import: a test may clear the variable itself
PACKAGE = "vlm_audio_pipeline"

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in `cmd &`: processes started by tests would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ours", deadline=None)  # a busy machine is no defect
settings.load_profile("ours")


def _loopback(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost", "0.0.0.0", "::"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Refuse every connection that leaves this machine, unless the test is marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(host) -> None:
        if not _loopback(host):
            raise RuntimeError(f"tests must not use the network, got a connection to {host}; mark the test `network`")

    def guarded(original):
        def call(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0])
            return original(self, address)

        return call

    def resolve(host, *args, **kwargs):
        refuse(host)
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Take away what the machine may have set."""
    for name in ("VLM_AUDIO_DATA", "VLM_AUDIO_STUDIES", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")


def _registries() -> list[Registry]:
    modules = [m for name, m in list(sys.modules.items()) if name.startswith(PACKAGE + ".") and m is not None]
    return list({id(v): v for m in modules for v in vars(m).values() if isinstance(v, Registry)}.values())


@pytest.fixture(autouse=True)
def registries_as_they_were():
    """Take back what a test registered. What the package itself registered meanwhile, by being imported, stays."""
    before = {id(r): dict(r._classes) for r in _registries()}
    yield
    for registry in _registries():
        own = {k: c for k, c in registry._classes.items() if c.__module__.startswith(PACKAGE + ".")}
        registry._classes = own | before.get(id(registry), {})


@pytest.fixture
def layout(tmp_path) -> Layout:
    """An empty data folder."""
    return Layout(tmp_path / "data")


@pytest.fixture
def esc10_dir() -> Path:
    """The real recordings."""
    if not ESC10_DIR:
        pytest.skip("set ESC10_DIR to a copy of ESC-10 to run this")
    return Path(ESC10_DIR)
