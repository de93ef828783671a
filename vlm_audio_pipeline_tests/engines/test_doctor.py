import importlib.metadata
import os
import sys

import pytest

from vlm_audio_pipeline.engines import doctor
from vlm_audio_pipeline.engines.doctor import PACKAGES, MachineCheck, check_gpu, check_machine
from vlm_audio_pipeline.storage.data_folder import DataFolder


@pytest.mark.parametrize(
    ("name", "version", "can_use_gpu", "state", "words"),
    [
        (None, "2.13.0", False, "ok", ["no GPU", "torch 2.13.0", "processor"]),
        ("NVIDIA H200", "2.13.0+cu130", True, "ok", ["GPU NVIDIA H200", "torch 2.13.0+cu130 can use it"]),
        ("NVIDIA H200", "2.13.0+cpu", False, "warn", ["NVIDIA H200 is present", "2.13.0+cpu cannot use it", "install"]),
        (
            None,
            "2.13.0+rocm6",
            True,
            "ok",
            ["torch 2.13.0+rocm6 can use it"],
        ),  # no nvidia-smi: AMD, or a bare container
    ],
)
def test_the_state_of_a_gpu_depends_on_whether_torch_can_use_it(name, version, can_use_gpu, state, words):
    finding = check_gpu(name, version, can_use_gpu)
    assert finding.state == state
    assert all(word in finding.text for word in words)
    assert ("no GPU" in finding.text) == (name is None and not can_use_gpu)


def path_with_nvidia_smi(folder, text: str) -> str:
    """Write a fake nvidia-smi and return a PATH that begins with its folder."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("echo NVIDIA A100; echo NVIDIA H100", "NVIDIA A100"),
        ("echo NVIDIA-SMI has failed; exit 9", None),
        ("exit 0", None),
    ],
)
def test_the_gpu_name_comes_from_the_driver(tmp_path, monkeypatch, script, name):
    monkeypatch.setenv("PATH", path_with_nvidia_smi(tmp_path, script))
    assert doctor.gpu_name() == name


def test_an_nvidia_smi_that_cannot_run_is_reported_without_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", path_with_nvidia_smi(tmp_path, ""))
    (tmp_path / "nvidia-smi").write_text("#!/no/such/interpreter\n")
    assert "nvidia-smi failed" in doctor.gpu_name()


def test_an_nvidia_smi_that_hangs_is_reported_without_an_error(tmp_path, monkeypatch):
    run = doctor.subprocess.run
    monkeypatch.setenv("PATH", path_with_nvidia_smi(tmp_path, "exec sleep 60"))
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: run(*a, **k | {"timeout": 0.2}))
    assert "timed out" in doctor.gpu_name()


@pytest.mark.parametrize("error", [ImportError("no torch"), OSError("libcublas.so.12: cannot open")])
def test_a_torch_that_cannot_be_imported_is_bad(monkeypatch, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torch":
                raise error

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    finding = doctor._check_torch()
    assert finding.state == "bad"
    assert str(error) in finding.text


def data_finding(data_folder: DataFolder) -> MachineCheck:
    return next(f for f in doctor._check_data_folder(data_folder) if "data folder" in f.text)


def test_a_data_folder_that_does_not_exist_yet_is_ok(tmp_path):
    finding = data_finding(DataFolder(tmp_path / "not" / "yet"))
    assert finding.state == "ok"
    assert "does not exist yet" in finding.text
    assert not (tmp_path / "not").exists()
    assert data_finding(DataFolder(tmp_path)).text == f"data folder {tmp_path}"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_at_the_path_of_the_data_folder_is_bad(tmp_path, below):
    (tmp_path / "data").write_text("a file")
    finding = data_finding(DataFolder(tmp_path / "data" / below))
    assert finding.state == "bad"
    assert "is not a writable folder" in finding.text
    assert "--data" in finding.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_data_folder_that_cannot_be_written_is_bad(tmp_path, mode):
    locked = tmp_path / "locked"
    locked.mkdir(mode=mode)
    for root in (locked, locked / "data"):
        assert data_finding(DataFolder(root)).state == "bad"
    locked.chmod(0o700)


def test_little_free_disk_space_is_a_warning(tmp_path, monkeypatch):
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=4_000_000_000))
    assert MachineCheck("warn", "4 GB free on its disk") in doctor._check_data_folder(DataFolder(tmp_path))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=6_000_000_000))
    assert MachineCheck("ok", "6 GB free on its disk") in doctor._check_data_folder(DataFolder(tmp_path))


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("duckdb", "no-such-package-at-all"))
    ok, bad = doctor._check_packages()
    assert ok == MachineCheck("ok", f"duckdb {importlib.metadata.version('duckdb')}")
    assert bad.state == "bad"
    assert "no-such-package-at-all" in bad.text
    assert "pip install" in bad.text


def test_the_checked_packages_are_dependencies_of_this_package():
    required = {r.split(">")[0].split("=")[0].strip() for r in importlib.metadata.requires("vlm-audio-pipeline")}
    assert set(PACKAGES) <= required


@pytest.mark.slow
def test_every_part_of_the_machine_is_checked(data_folder):
    findings = check_machine(data_folder)
    words = " | ".join(f.text for f in findings)
    for word in ("Python 3", "cores", "duckdb", "torch", "free on its disk", "data folder"):
        assert word in words
    assert not data_folder.root.exists()
