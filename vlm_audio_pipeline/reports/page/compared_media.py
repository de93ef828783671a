"""The images and audio of a page that compares results.

Images are those of each study, so that a clip has two images where the renderings differ; files with the same content are one file.
Images of earlier results are not stored. Audio is that of the first study.
"""

from collections.abc import Sequence

from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.reports.page.compared_results import ComparedResults
from vlm_audio_pipeline.reports.page.media import Media, write_media
from vlm_audio_pipeline.reports.page.page_images import PAGE_IMAGES
from vlm_audio_pipeline.reports.page.report_writer import ReportWriter
from vlm_audio_pipeline.reports.page.runs import PageRun


def write_compared_media(
    compared: Sequence[ComparedResults],
    runs: Sequence[PageRun],
    selected: Sequence[int],
    writer: ReportWriter,
    progress: Progress,
) -> Media:
    """Write the images that the runs received, and the audio.

    Args:
        compared: the compared results.
        runs: their runs; `image_set` is "NAME/RENDERING", with the name of the compared results, and `folds` holds their number.
        selected: numbers of the clips in the first study, the most important first.
        writer: the writer of the page.
        progress: callback `(done, total, description)`.

    Returns:
        The media, with image sets as in `runs`, and with clip numbers of the first study.
    """
    first = compared[0].results
    media = Media()
    for number, side in enumerate(compared):
        sets = sorted({run.image_set for run in runs if run.image_set and run.folds == (number,)})
        names = [name.partition("/")[2] for name in sets]
        if not names and number:
            continue
        clip_numbers = side.results.clip_number
        own = {clip_numbers[row["clip"]]: i for i, row in enumerate(first.clips) if row["clip"] in clip_numbers}
        their_clips = [theirs for theirs, ours in own.items() if ours in set(selected)]
        written = write_media(side.results, names, writer, progress, selected=their_clips)
        for name, files in written.images.items():
            key = name if name == PAGE_IMAGES else f"{side.name}/{name}"
            media.images[key] = {own[clip]: file for clip, file in files.items() if clip in own}
            media.axes[key] = written.axes[name]
        if number == 0:
            media.audio = {own[clip]: file for clip, file in written.audio.items()}
            media.notes = written.notes
    if len(selected) < len(first.clips):
        media.notes.insert(
            0,
            f"Images and audio of {len(selected):,} of {len(first.clips):,} clips are on this page: those with different predictions come first.",
        )
    return media
