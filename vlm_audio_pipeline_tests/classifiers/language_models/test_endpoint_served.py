"""The backend with a real server: `transformers serve` with a Janus that is trained on colours."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Message, Request, Sampling
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline_tests.classifiers.language_models.checkpoints import (
    COLOURS,
    LABELS,
    QUESTION,
    TRAINED_ON_COLOURS,
    WRITERS,
    colour_image,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def model_server(tmp_path_factory):
    """Start the server; return its address and the name of the model on it."""
    import torch

    folder = tmp_path_factory.mktemp("served")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (folder / "janus").mkdir()
        WRITERS[TRAINED_ON_COLOURS](folder / "janus")
    (folder / "hub").mkdir()  # without it, the server answers the request for its models with status 500
    number, model = free_port(), str(folder / "janus")
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*command, "--port", str(number), "--device", "cpu", "--dtype", "float32"],
        stdout=log,
        stderr=log,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "OMP_NUM_THREADS": "1"},
    )
    try:
        until = time.monotonic() + 180
        while not is_alive(f"http://127.0.0.1:{number}/health"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{number}/v1", model
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def is_alive(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def question(image: ImagePart) -> Request:
    parts = (QUESTION, image)  # as in training
    return Request((Message("user", parts),), LABELS, frozenset({"generation"}), Sampling(max_tokens=12))


def test_images_are_classified_correctly_and_reproducibly(model_server):
    """Twelve images of three colours: every response is correct, has token counts, and is equal in a second run."""
    url, model = model_server
    expected = list(COLOURS) * 4
    requests = [question(colour_image(label)) for label in expected]
    for _ in range(2):
        replies_by_position = {}
        backend = EndpointBackend(model, Endpoint(url=url, concurrency=2), None, "janus")
        assert backend.ask(requests, replies_by_position.__setitem__) is None
        replies = [replies_by_position[i] for i in range(12)]
        assert [r.error for r in replies] == [None] * 12
        assert [r.text.strip() for r in replies] == expected
        assert {r.model for r in replies} == {f"{model}@main"}
        assert backend.dialect.rejected_parameters == ()
        assert all(r.usage.input_tokens > 30 and 1 <= r.usage.output_tokens <= 12 for r in replies)
        assert {r.usage.usd for r in replies} == {None}


def test_another_model_than_the_served_one_is_not_available(model_server):
    url, _ = model_server
    replies_by_position = {}
    backend = EndpointBackend("another/model", Endpoint(url=url), None, "janus")
    with pytest.raises(NotAvailable, match="pinned"):
        backend.ask([question(colour_image("rain"))], replies_by_position.__setitem__)
    assert not replies_by_position
