"""The hooks of mkdocs: add the pages that are not files of `docs/`, and make links between files links between pages."""

import re
from typing import Any

from documentation_site import commands, gallery, notebooks, reference
from documentation_site.links import REPOSITORY, SITE_PAGES, rewrite_links


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from other folders, the notebooks, and the pages that are made from the program."""
    from mkdocs.structure.files import File

    contents: dict[str, str | bytes] = {
        **{page: (REPOSITORY / path).read_text() for path, page in SITE_PAGES.items()},
        **notebooks.make_pages(),
        **gallery.make_pages(),
        "commands.md": commands.make_page(),
        "reference.md": reference.make_page(),
    }
    for path, content in contents.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page, which are written for the repository."""
    return rewrite_links(markdown, page.file.src_uri)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that loads a script, style, font or image from another host when it is viewed.

    Raises:
        ValueError: for such a page; the build fails.
    """
    foreign = re.findall(
        r"""<(?:script|link|img|iframe|audio|source)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^>]*>""", output
    )
    if foreign:
        raise ValueError(f"{page.file.src_uri} loads from another host: {foreign[0]}; put the file into docs/assets")
    return output
