import socket

import pytest

from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec


def test_network_connections_are_refused_by_address_and_by_name():
    with socket.socket() as s, pytest.raises(RuntimeError, match=r"192\.0\.2\.1"):  # TEST-NET-1, RFC 5737
        s.connect(("192.0.2.1", 80))
    with socket.socket() as s, pytest.raises(RuntimeError, match="must not use the network"):
        s.connect_ex(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match=r"example\.org"):
        socket.create_connection(("example.org", 80))


def test_loopback_and_unix_sockets_are_allowed(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


@pytest.mark.parametrize("repetition", [1, 2])
def test_registrations_of_a_test_are_removed_before_the_next(repetition):
    assert "only_here" not in ENCODERS.all()

    @ENCODERS.register("only_here")
    class OnlyHere(EncoderSpec):
        pass

    assert "only_here" in ENCODERS.all()
    assert "scripted" in ENCODERS.all()
