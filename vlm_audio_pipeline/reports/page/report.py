"""`write_report`: a study's tables, pictures and sounds as one page to read.

What belongs here: the order in which a report is written. What does not: what its parts are.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.reports.page import sections
from vlm_audio_pipeline.reports.page.known import Known, known
from vlm_audio_pipeline.reports.page.media import DRAWN, Media, write_media
from vlm_audio_pipeline.reports.page.place import EMBEDDED, MARK, Folder, Place, SingleFile, as_script
from vlm_audio_pipeline.reports.page.runs import (
    BASELINE,
    OUTCOMES,
    SCORES,
    Run,
    runs_of,
    scores_kept,
    write_predictions,
)
from vlm_audio_pipeline.reports.page.sentences import answers
from vlm_audio_pipeline.reports.page.wording import KINDS, asked, percent
from vlm_audio_pipeline.storage.layout import Layout

SCRIPTS = ("base", "cards", "clips", "flips", "maps", "reliability", "examples", "start")
"""The page's scripts, in the order in which they stand in it."""
_TABLES = ("contrasts", "reliability", "embedding_quality", "published", "leakage", "history")


def write_report(
    layout: Layout, study: str, out: Path, *, single_file: bool = False, progress: Progress = silent
) -> Path:
    """Write the report of a study; it opens from disk and asks nothing of a network.

    What is not there (classifiers not run, tables not made, recordings not on this machine) is said on the page.

    Args:
        layout: the data folder, a `Layout`.
        study: name of a study run there.
        out: the folder to write, which must be new, empty or an earlier report; or the file, for `single_file`.
        single_file: one file under 15 MB, with small pictures and sounds; big studies get them for some clips only.
        progress: told how far it is.

    Returns:
        What to open: `index.html` in the folder, or the file.

    Raises:
        VlmAudioError: when no such study was run, parts are damaged, or `out` holds something else.
    """
    about = known(layout, study)
    out = out.absolute()
    with (SingleFile if single_file else Folder)(out) as where:
        return where.finish(_written(about, where, progress))


def _written(about: Known, where: Place, progress: Progress) -> str:
    board = about.ask(
        "SELECT * FROM leaderboard WHERE study = $1 ORDER BY rank NULLS LAST, accuracy DESC NULLS LAST, classifier"
    )
    tables = {name: about.rows(name) for name in _TABLES}
    runs = runs_of(about, board)
    where.chunk("clips", ([clip[key] for key in ("clip", "fold", "source", "duration_s")] for clip in about.clips))
    write_predictions(about, runs, where, progress)
    projections = sections.write_projections(about, where)
    examples = sections.write_examples(about, runs, where)
    media = write_media(about, list(dict.fromkeys(run.pictures for run in runs if run.pictures)), where, progress)
    if (kept := scores_kept(runs, where)) < SCORES:
        media.notes.append(
            f"Of each prediction only the {kept} highest scores are in this file; the folder form has more."
        )
    found: dict[str, Any] = {
        **tables,
        "history": sections.changed(tables["history"]),
        "leakage": sections.findings(tables["leakage"]),
        "controls": sections.control_groups(runs, tables["contrasts"]),
        "costs": sections.costs(about),
        "projections": projections,
        "examples": examples,
        "flips": runs if len({run.name for run in runs if run.control == "none"}) > 1 else [],
    }
    view = sections.board_view(board, runs)
    return _page(
        study=about.study,
        about=about,
        answers=answers(about, runs, tables["contrasts"], found["leakage"], len(view["not_run"])),
        board=view,
        chance=1 / len(about.classes) if about.classes else None,
        found=found,
        measures=sections.measures(about, runs),
        quality=sections.quality_view(tables["embedding_quality"]),
        absent=[line for key, line in sections.ABSENT.items() if not found[key]],
        media=media,
        provenance=sections.provenance(about),
        sources=len({row["source"] for row in about.clips}),
        folds=sorted({row["fold"] for row in about.clips}),
        runs=runs,
        study_file=json.dumps(about.spec, indent=1, ensure_ascii=False),
        core=as_script(
            _core(about, runs, media)
            | {
                "reliability": _bins(runs, tables["reliability"]),
                "projections": projections,
                "examples": examples,
            }
        ),
        kind=where.kind,
    )


def _core(about: Known, runs: Sequence[Run], media: Media) -> dict[str, Any]:
    """Give what the scripts need from the start; predictions and points are loaded when they are looked at."""
    clips = range(len(about.clips))
    classifiers = list(dict.fromkeys(run.classifier for run in runs))
    return {
        "classes": about.classes,
        "outcomes": OUTCOMES,
        "labels": [about.class_number[row["label"]] for row in about.clips],
        "runs": [
            {**run.for_page(len(clips)), "data": f"predictions-{classifiers.index(run.classifier)}"} for run in runs
        ],
        "drawn": DRAWN,
        "pictures": {name: [names.get(i) for i in clips] for name, names in media.pictures.items()},
        "sounds": [media.sounds.get(i) for i in clips],
    }


def _bins(runs: Sequence[Run], reliability: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Give the bins of runs that the page shows: [run, variant, bin, count, confidence, accuracy]."""
    own = {(run.classifier, run.scoring, run.control): i for i, run in enumerate(runs)}
    numbered = ((own.get((row["classifier"], row["scoring"], row["control"])), row) for row in reliability)
    columns = ("variant", "bin", "count", "confidence", "accuracy")
    return [[run, *(row[column] for column in columns)] for run, row in numbered if run is not None]


def _page(**values: Any) -> str:
    """Fill in the template; every text is escaped but for the page's own scripts and styles."""
    import jinja2

    static = files(__package__) / "static"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "asked": asked}
    script = "\n".join((static / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    return environment.get_template("page.html").render(
        **values | {"core": Markup(values["core"])},
        style=Markup((static / "page.css").read_text("utf-8")),
        script=Markup(script),
        embedded=Markup(EMBEDDED),
        mark=MARK,
        kinds=KINDS,
        baseline=BASELINE,
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
