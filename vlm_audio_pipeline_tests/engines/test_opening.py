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


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("dask", None, r"--engine must be local, ray, ray://auto or ray://HOST:PORT, got 'dask'"),
        ("local://x", None, "--engine must be"),
        (None, "engine: spark", r"engine\.yaml: engine must be local"),
        (None, "- ray", r"engine\.yaml must be a mapping such as `engine: ray`"),
        (
            None,
            "engine: ray\nworker: 3",
            r"engine\.yaml has unknown keys \['worker'\]; the keys are engine, workers, patience_s",
        ),
        (None, "engine: ray\nworkers: 0", r"engine\.yaml: workers must be a positive number, got 0"),
        (None, "engine: [", r"engine\.yaml is not YAML"),
    ],
)
def test_mistakes_name_the_place(tmp_path, monkeypatch, option, file, message):
    monkeypatch.delenv("VLM_AUDIO_ENGINE", raising=False)
    if file:
        (tmp_path / "engine.yaml").write_text(file)
    with pytest.raises(VlmAudioError, match=message):
        read_engine_setting(option, tmp_path)


def test_the_local_engine_is_the_default_and_a_missing_ray_is_named(monkeypatch):
    assert isinstance(open_engine(EngineSetting()), LocalEngine)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)  # as if it were not installed
    with pytest.raises(NotAvailable, match=r"needs the package ray: pip install 'vlm-audio-pipeline\[ray\]'"):
        open_engine(EngineSetting("ray"))
