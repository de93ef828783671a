"""The file system of a data folder: SQLite and its locks need a local one.

SQLite's write-ahead log works only if all processes run on one computer, and the locks of network file systems are
unreliable (https://www.sqlite.org/wal.html, https://www.sqlite.org/faq.html#q5).
"""

from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError

NETWORK_FILE_SYSTEMS = frozenset(
    [
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.ceph",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs3",
        "nfs4",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
        "webdav",
        "wekafs",
    ]
)
"""Types of file systems, as the operating system names them, whose files lie on another computer."""


def require_local_file_system(folder: Path) -> None:
    """Refuse a data folder on a network file system.

    Args:
        folder: the data folder, which need not exist.

    Raises:
        VlmAudioError: if it lies on one.
    """
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise VlmAudioError(
            f"the data folder {folder} lies on a network file system ({kind}), where SQLite can lose results, because its locks "
            "and its write-ahead log need a local disk; choose a folder on a local disk with --data or VLM_AUDIO_DATA, and copy "
            "finished data folders to the network"
        )


def file_system(path: Path) -> str | None:
    """Return the type of the file system of a path, such as "ext4", or None if the operating system does not list it."""
    import psutil

    path = path.resolve()
    mounts = {
        Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)
    }  # the last mount hides others
    return next((mounts[folder] for folder in (path, *path.parents) if folder in mounts), None)
