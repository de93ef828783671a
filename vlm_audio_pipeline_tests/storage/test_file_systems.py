from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.engines.data_doctor import check_data
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.file_systems import file_system

Mount = namedtuple("Mount", "mountpoint fstype")


@pytest.fixture
def mount(monkeypatch):
    """Replace the operating system's list of mounted file systems: (folder, type) in the order of mounting."""

    def replace(*mounts: tuple[Path, str]) -> None:
        rows = [Mount(str(folder), kind) for folder, kind in mounts]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: rows if all else [])

    return replace


def test_this_machine_names_the_file_system_of_proc():
    if not Path("/proc/self").exists():
        pytest.skip("only Linux has /proc")
    assert file_system(Path("/proc/self/fd")) == "proc"


def test_the_innermost_and_last_mount_counts(mount):
    mount((Path("/"), "ext4"), (Path("/home"), "nfs4"), (Path("/home/me"), "xfs"), (Path("/home/me"), "lustre"))
    assert file_system(Path("/var/data")) == "ext4"
    assert file_system(Path("/home/you/data")) == "nfs4"
    assert file_system(Path("/home/me/data")) == "lustre"
    assert file_system(Path("/homes")) == "ext4"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "lustre", "cifs", "smb3", "fuse.sshfs"])
def test_a_data_folder_on_a_network_file_system_is_refused(mount, tmp_path, kind):
    folder = tmp_path / "share"
    folder.mkdir()
    mount((Path("/"), "ext4"), (folder.resolve(), kind))
    with pytest.raises(
        VlmAudioError, match=rf"lies on a network file system \({kind}\).*choose a folder on a local disk"
    ):
        DataFolder(folder / "data").create()
    assert list(folder.iterdir()) == []


def test_doctor_names_a_data_folder_on_a_network_file_system(mount, tmp_path):
    data_folder = DataFolder(tmp_path).create()
    mount((Path("/"), "ext4"), (tmp_path.resolve(), "lustre"))
    assert [check.state for check in check_data(data_folder) if "network file system (lustre)" in check.text] == ["bad"]


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "apfs", "tmpfs", "overlay", "virtiofs"])
def test_a_local_file_system_is_used(mount, tmp_path, kind):
    mount((Path("/"), kind))
    assert DataFolder(tmp_path / "data").create().format_file.exists()
