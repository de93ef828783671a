import importlib.metadata
import os
import sys

import pytest

from vlm_audio_pipeline.engines import doctor
from vlm_audio_pipeline.engines.doctor import PACKAGES, Finding, examine, gpu_finding
from vlm_audio_pipeline.storage.layout import Layout


@pytest.mark.parametrize(
    ("name", "version", "sees", "state", "says"),
    [
        (None, "2.13.0", False, "ok", ["no GPU", "torch 2.13.0", "processor"]),
        ("NVIDIA H200", "2.13.0+cu130", True, "ok", ["GPU NVIDIA H200", "torch 2.13.0+cu130 sees it"]),
        ("NVIDIA H200", "2.13.0+cpu", False, "warn", ["NVIDIA H200 is there", "2.13.0+cpu cannot see it", "install"]),
        (None, "2.13.0+rocm6", True, "ok", ["torch 2.13.0+rocm6 sees it"]),  # no nvidia-smi: AMD, or a bare container
    ],
)
def test_a_gpu_is_judged_by_whether_torch_uses_it(name, version, sees, state, says):
    finding = gpu_finding(name, version, sees)
    assert finding.state == state
    assert all(word in finding.what for word in says)
    assert ("no GPU" in finding.what) == (name is None and not sees)


def smi(folder, text: str) -> str:
    """Put an nvidia-smi of our own first on the path."""
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
def test_the_driver_names_the_gpu(tmp_path, monkeypatch, script, name):
    monkeypatch.setenv("PATH", smi(tmp_path, script))
    assert doctor._gpu_here() == name


def test_a_driver_that_cannot_be_asked_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", smi(tmp_path, ""))
    (tmp_path / "nvidia-smi").write_text("#!/no/such/interpreter\n")
    assert "nvidia-smi gave no answer" in doctor._gpu_here()


def test_a_driver_that_hangs_stops_nothing(tmp_path, monkeypatch):
    run = doctor.subprocess.run
    monkeypatch.setenv("PATH", smi(tmp_path, "exec sleep 60"))
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: run(*a, **k | {"timeout": 0.2}))
    assert "timed out" in doctor._gpu_here()


@pytest.mark.parametrize("error", [ImportError("no torch"), OSError("libcublas.so.12: cannot open")])
def test_a_torch_that_cannot_be_imported_is_bad(monkeypatch, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torch":
                raise error

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    finding = doctor._torch()
    assert finding.state == "bad"
    assert str(error) in finding.what


def data_finding(layout: Layout) -> Finding:
    return next(f for f in doctor._data(layout) if "data folder" in f.what)


def test_a_data_folder_that_can_be_made_is_fine(tmp_path):
    finding = data_finding(Layout(tmp_path / "not" / "yet"))
    assert finding.state == "ok"
    assert "not made yet" in finding.what
    assert not (tmp_path / "not").exists()
    assert data_finding(Layout(tmp_path)).what == f"data folder {tmp_path}"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_place_of_the_data_folder_is_bad(tmp_path, below):
    (tmp_path / "data").write_text("a file")
    finding = data_finding(Layout(tmp_path / "data" / below))
    assert finding.state == "bad"
    assert "must be a writable folder" in finding.what
    assert "--data" in finding.what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_data_folder_that_cannot_be_written_is_bad(tmp_path, mode):
    locked = tmp_path / "locked"
    locked.mkdir(mode=mode)
    for root in (locked, locked / "data"):
        assert data_finding(Layout(root)).state == "bad"
    locked.chmod(0o700)


def test_little_disk_is_a_warning(tmp_path, monkeypatch):
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=4_000_000_000))
    assert Finding("warn", "4 GB of disk free there") in doctor._data(Layout(tmp_path))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=6_000_000_000))
    assert Finding("ok", "6 GB of disk free there") in doctor._data(Layout(tmp_path))


@pytest.mark.parametrize(
    ("value", "state", "says"),
    [
        (None, "ok", "downloaded when first needed"),
        ("", "ok", "downloaded when first needed"),
        ("/no/such/folder", "bad", "ESC10_DIR must be a folder, got /no/such/folder; correct or unset it"),
        (__file__, "bad", "must be a folder"),
        (os.path.dirname(__file__), "ok", f"ESC-10 from {os.path.dirname(__file__)}"),
    ],
)
def test_where_esc10_is(monkeypatch, value, state, says):
    monkeypatch.delenv("ESC10_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("ESC10_DIR", value)
    finding = doctor._esc10()
    assert finding.state == state
    assert says in finding.what


def test_where_esc10_is_may_start_at_home(monkeypatch, tmp_path):
    (tmp_path / "esc10").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ESC10_DIR", "~/esc10")
    assert doctor._esc10() == Finding("ok", f"ESC-10 from {tmp_path / 'esc10'}")


def test_a_missing_package_is_named_with_what_mends_it(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("duckdb", "no-such-package-at-all"))
    ok, bad = doctor._packages()
    assert ok == Finding("ok", f"duckdb {importlib.metadata.version('duckdb')}")
    assert bad.state == "bad"
    assert "no-such-package-at-all" in bad.what
    assert "pip install" in bad.what


def test_the_packages_looked_at_are_those_we_depend_on():
    required = {r.split(">")[0].split("=")[0].strip() for r in importlib.metadata.requires("vlm-audio-pipeline")}
    assert set(PACKAGES) <= required


@pytest.mark.slow
def test_all_of_this_machine_is_looked_at(layout):
    findings = examine(layout)
    words = " | ".join(f.what for f in findings)
    for word in ("Python 3", "cores", "duckdb", "torch", "disk free", "data folder", "ESC"):
        assert word in words
    assert not layout.root.exists()
