"""Every check of `vlm-audio doctor`, for the command and for Python."""

from vlm_audio_pipeline.datasets.local_copies import check_local_copies
from vlm_audio_pipeline.engines.data_doctor import check_data
from vlm_audio_pipeline.engines.doctor import check_machine
from vlm_audio_pipeline.engines.machine_check import MachineCheck
from vlm_audio_pipeline.engines.opening import check_engine, read_engine_setting
from vlm_audio_pipeline.storage.data_folder import DataFolder


def run_all_checks(data_folder: DataFolder, engine: str | None = None) -> list[MachineCheck]:
    """Check this machine, the local copies of datasets, a data folder and the nodes of a cluster. Nothing is changed.

    Args:
        data_folder: the data folder, of any format version, because that is one of the checks.
        engine: see `read_engine_setting`.

    Raises:
        VlmAudioError: for an unknown engine.
    """
    setting = read_engine_setting(engine, data_folder.root)
    return [*check_machine(data_folder), *check_local_copies(), *check_data(data_folder), *check_engine(setting)]
