"""Fill the templates of the pages. Every value is escaped, except the pages' own scripts and styles."""

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.advice import name_study
from vlm_audio_pipeline.contracts.escapes import escape_html
from vlm_audio_pipeline.contracts.number_text import points_text, rounded_text
from vlm_audio_pipeline.evaluation.result_names import result_name, result_title
from vlm_audio_pipeline.evaluation.significance import p_text, p_value_text
from vlm_audio_pipeline.reports.page.report_writer import DATA_PLACEHOLDER, META_NAME
from vlm_audio_pipeline.reports.page.wording import (
    DEFAULT_SCORINGS,
    KINDS,
    SCORINGS_NOTE,
    SECTION_TITLES,
    group_thousands,
    interval_scope,
    join_words,
    percent,
    use_non_breaking_spaces,
)


def fill_template(name: str, scripts: Iterable[str], *, core: str, study: str | None = None, **values: Any) -> str:
    """Return a page.

    Args:
        name: name of the template.
        scripts: names of the page's scripts, in the order in which they run.
        core: the data that the scripts need when the page opens, as `report_writer.as_script` writes them.
        study: name of the study, which advice such as `vlm-audio fetch STUDY` then names; None for a page about several studies.
        values: values of the template.
    """
    import jinja2

    static = files(__package__) / "static"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        finalize=lambda value: Markup(escape_html(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval_scope": interval_scope,
        "join_words": lambda words: join_words([Markup(escape_html(word)) for word in words]),
        "thousands": group_thousands,
        "rounded": rounded_text,
        "points": points_text,
        "p_value": p_value_text,
        "p_text": lambda p: use_non_breaking_spaces(p_text(p)),
        "use_non_breaking_spaces": use_non_breaking_spaces,
        "name_study": name_study,
    }
    page = environment.get_template(name).render(
        **values,
        study=study,
        core=Markup(core),
        style=Markup((static / "page.css").read_text("utf-8")),
        script=Markup("\n".join((static / f"{script}.js").read_text("utf-8") for script in scripts)),
        data_placeholder=Markup(DATA_PLACEHOLDER),
        meta_name=META_NAME,
        kinds=KINDS,
        default_scorings=DEFAULT_SCORINGS,
        scorings_note=SCORINGS_NOTE,
        result_name=result_name,
        result_title=result_title,
        section_titles=SECTION_TITLES,
        version=__version__,
        written_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return page if study is None else name_study(page, study)
