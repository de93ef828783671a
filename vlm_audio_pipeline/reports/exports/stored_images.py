"""Stored images of a rendering, looked up by clip with a bounded number of images in memory."""

from collections import OrderedDict

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.page.study_results import StudyResults

_MAX_IMAGES = 512
"""Maximum number of images in memory: enough for a few row groups and for the examples of a prompt, which every request repeats."""


class StoredImages:
    """The images of one rendering, as models received them.

    Args:
        results: the study.
        rendering: name of a rendering, also of a control (`<rendering>__<control>`).
    """

    def __init__(self, results: StudyResults, rendering: str):
        self.rendering = rendering
        folds = sorted({row["fold"] for row in results.clips})
        paths = (results.data_folder.partition_file("spectrograms", results.study, rendering, fold) for fold in folds)
        self._paths = [path for path in paths if path.is_file()]
        self._recent: OrderedDict[str, ImagePart] = OrderedDict()
        self._position: dict[str, tuple[int, int]] = {}  # clip -> number of the file and of its row group
        for number, path in enumerate(self._paths):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    clips = file.read_row_group(group, columns=["clip"])["clip"].to_pylist()
                    self._position.update(dict.fromkeys(clips, (number, group)))

    def __len__(self) -> int:
        return len(self._position)

    def __contains__(self, clip: object) -> bool:
        return clip in self._position

    def image(self, clip: str) -> ImagePart:
        """Return the image of a clip.

        Raises:
            VlmAudioError: if there is none, or its file is damaged.
        """
        if clip not in self._recent:
            if clip not in self._position:
                raise VlmAudioError(f"clip {clip} has no image of {self.rendering}; run the study again")
            self._read_group(*self._position[clip])
        self._recent.move_to_end(clip)
        return self._recent[clip]

    def _read_group(self, number: int, group: int) -> None:
        path = self._paths[number]
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                rows = file.read_row_group(group, columns=["clip", "image", "media_type", "image_sha256"]).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise VlmAudioError(f"{path} is damaged ({error}); delete it and run the study again") from error
        for row in rows:
            self._recent[row["clip"]] = ImagePart(row["image"], row["media_type"], row["image_sha256"])
            self._recent.move_to_end(row["clip"])
        while len(self._recent) > _MAX_IMAGES:
            self._recent.popitem(last=False)
