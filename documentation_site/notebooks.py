"""The pages of the notebooks, from their stored outputs: a build executes nothing. Tests execute the notebooks."""

import json
from pathlib import PurePosixPath
from typing import Any

from documentation_site.links import REPOSITORY

NOTEBOOKS = ("look_at_sounds", "compare_encoders", "ask_a_model")
"""In the order in which to read them."""

_TEMPLATE = """
{%- extends "markdown/index.md.j2" -%}
{% macro block_of(text) %}

``` { .text .output }
{{ text | trim("\n") }}
```

{% endmacro %}
{% block stream %}{{ block_of(output.text) }}{% endblock stream %}
{% block data_text %}{{ block_of(output.data["text/plain"]) }}{% endblock data_text %}
"""
"""Marks outputs, which nbconvert indents like any other code."""


def make_pages() -> dict[str, str | bytes]:
    """Return the page of each notebook, the images in its outputs, the notebook itself, and a page that lists all."""
    from nbconvert import MarkdownExporter

    create_exporter: Any = MarkdownExporter  # nbconvert has no types
    exporter = create_exporter(raw_template=_TEMPLATE)
    pages: dict[str, str | bytes] = {}
    entries = []
    for name in NOTEBOOKS:
        path = REPOSITORY / "docs" / "notebooks" / f"{name}.ipynb"
        title, *introduction = json.loads(path.read_text())["cells"][0]["source"]
        entries.append(f"## [{title.removeprefix('# ').strip()}]({name}.md)\n\n{''.join(introduction).strip()}")
        markdown, resources = exporter.from_filename(str(path), {"unique_key": name, "output_files_dir": name})
        pages[f"notebooks/{name}.md"] = markdown
        pages |= {str(PurePosixPath("notebooks") / image): data for image, data in resources["outputs"].items()}
    pages["notebooks/index.md"] = "# Notebooks\n\n" + "\n\n".join(entries) + "\n"
    return pages
