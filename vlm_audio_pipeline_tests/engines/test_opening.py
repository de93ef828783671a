import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.engines.opening import EngineSetting, open_engine, read_engine_setting


@pytest.mark.parametrize(
    ("option", "variable", "file", "expected"),
    [
        (None, None, None, EngineSetting("local")),
        ("ray", None, None, EngineSetting("ray", "auto")),
        ("ray://auto", None, None, EngineSetting("ray", "auto")),
        ("ray://10.0.0.1:6379", None, None, EngineSetting("ray", "10.0.0.1:6379")),
        (None, "ray", "engine: local", EngineSetting("ray", "auto")),
        ("local", "ray", "engine: ray", EngineSetting("local")),
        (None, None, "engine: ray://h:1\nworkers: 3", EngineSetting("ray", "h:1", {"workers": 3})),
        (None, None, "engine: ray\nfiles: shipped", EngineSetting("ray", "auto", {"files": "shipped"})),
        ("ray", None, "patience_s: 60", EngineSetting("ray", "auto", {"patience_s": 60})),
    ],
)
def test_the_option_comes_before_the_variable_and_the_file(tmp_path, monkeypatch, option, variable, file, expected):
    monkeypatch.delenv("VLM_AUDIO_ENGINE", raising=False)
    if variable:
        monkeypatch.setenv("VLM_AUDIO_ENGINE", variable)
    if file:
        (tmp_path / "engine.yaml").write_text(file)
    assert read_engine_setting(option, tmp_path) == expected


ENGINES = "local, ray, ray://HOST:PORT, ray://auto"


@pytest.mark.parametrize(
    ("option", "variable", "message"),
    [
        ("dask", None, f"--engine: must be one of the engines, got 'dask'; options: {ENGINES}"),
        ("Ray", None, f"--engine: must be one of the engines, got 'Ray'; did you mean 'ray'? options: {ENGINES}"),
        ("", None, "--engine: must be one of local, ray, ray://auto, ray://HOST:PORT, got nothing"),
        ("local://x", None, "--engine: must be local without an address, got 'local://x'; write local"),
        (None, "spark", f"VLM_AUDIO_ENGINE: must be one of the engines, got 'spark'; options: {ENGINES}"),
        *(
            (
                address,
                None,
                f"--engine: must have the host and the port of the cluster's head, such as ray://10.0.0.1:6379, got '{address}'; "
                "write ray:// with HOST:PORT, or only ray for the cluster of this machine",
            )
            for address in (
                "ray://",
                "ray://head",
                "ray://head:",
                "ray://:6379",
                "ray://head:x",
                "ray://a b:1",
                "ray://h:1/x",
            )
        ),
        (
            "ray://head:70000",
            None,
            "--engine: must have a port from 1 to 65535, got 'ray://head:70000'; `ray status` on the head shows its address",
        ),
    ],
)
def test_a_mistake_names_the_option_or_the_variable(tmp_path, monkeypatch, option, variable, message):
    monkeypatch.delenv("VLM_AUDIO_ENGINE", raising=False)
    if variable:
        monkeypatch.setenv("VLM_AUDIO_ENGINE", variable)
    with pytest.raises(VlmAudioError) as error:
        read_engine_setting(option, tmp_path)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine: spark", f":1: engine: must be one of the engines, got 'spark'; options: {ENGINES}"),
        ("engine:", ":1: engine: must be one of local, ray, ray://auto, ray://HOST:PORT, got nothing"),
        ("engine: [ray]", ":1: engine: must be one of local, ray, ray://auto, ray://HOST:PORT, got ['ray']"),
        ("# cluster\nengine: ray://h", ":2: engine: must have the host and the port of the cluster's head"),
        (
            "engine: ray\nworker: 3",
            ":2: worker: unknown key; did you mean 'workers'? options: engine, files, patience_s, workers",
        ),
        ("engine: ray\nworkers: 0", ":2: workers: must be a whole number of 1 or more, got 0; leave the key out"),
        ("workers: '3'", ":1: workers: must be a whole number of 1 or more, got '3'"),
        ("workers: true", ":1: workers: must be a whole number of 1 or more, got True"),
        ("workers: 2.0", ":1: workers: must be a whole number of 1 or more, got 2.0"),
        (
            "patience_s: -1",
            ":1: patience_s: must be a number of seconds greater than 0, got -1; leave the key out for 300",
        ),
        ("patience_s: .nan", ":1: patience_s: must be a number of seconds greater than 0, got nan"),
        ("patience_s: .inf", ":1: patience_s: must be a number of seconds greater than 0, got inf"),
        ("patience_s: 5 min", ":1: patience_s: must be a number of seconds greater than 0, got '5 min'"),
        ("engine: ray\nengine: local", ":2: engine: occurs twice, first in line 1; remove one of them"),
        ("- ray", ": must be a mapping such as `engine: ray`, with the keys engine, workers, patience_s, files"),
        ("", ": must be a mapping such as `engine: ray`"),
        ("workers: 1\nengine: [", ":2: this is not valid YAML: "),
        ("workers: 2026-13-45", ": this is not valid YAML: month must be in 1..12; write lines such as `engine: ray`"),
        ("[" * 5000, ": this is not valid YAML: "),
        (b"engine: ray\xff", ": this is not UTF-8 text (invalid start byte at byte 11); save it as UTF-8"),
    ],
)
def test_a_mistake_in_the_file_names_file_line_and_key(tmp_path, monkeypatch, text, message):
    monkeypatch.delenv("VLM_AUDIO_ENGINE", raising=False)
    path = tmp_path / "engine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(VlmAudioError) as error:
        read_engine_setting(None, tmp_path)
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def test_one_error_lists_every_mistake_of_the_file(tmp_path):
    path = tmp_path / "engine.yaml"
    path.write_text("engine: spark\nworker: 3\npatience_s: 0\n")
    with pytest.raises(VlmAudioError) as error:
        read_engine_setting(None, tmp_path)
    assert [line.removeprefix(f"{path}:").split(": ")[:2] for line in str(error.value).splitlines()] == [
        ["1", "engine"],
        ["2", "worker"],
        ["3", "patience_s"],
    ]


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    (tmp_path / "engine.yaml").mkdir()
    with pytest.raises(VlmAudioError, match=r"engine\.yaml cannot be read: Is a directory; correct"):
        read_engine_setting(None, tmp_path)


def test_the_local_engine_is_the_default_and_a_missing_ray_is_named(monkeypatch):
    assert isinstance(open_engine(EngineSetting()), LocalEngine)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)  # as if it were not installed
    with pytest.raises(NotAvailable, match=r"needs the package ray: pip install 'vlm-audio-pipeline\[ray\]'"):
        open_engine(EngineSetting("ray"))
