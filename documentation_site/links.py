"""Links between files of the repository become links between pages of the site."""

import os
import re
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).parents[1]

SITE_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "data/README.md": "data-folder.md",
}
"""File of the repository outside `docs/` -> page of the site."""

_CODE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def rewrite_links(markdown: str, page: str) -> str:
    """Return the Markdown of a page with links to pages of the site.

    A link to a file that is not on the site, such as a program, becomes its text.

    Args:
        markdown: the text, with links relative to the file in the repository.
        page: path of the page on the site, such as "index.md".
    """

    def rewrite(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        file = os.path.normpath(PurePosixPath(repository_path(page)).parent / path)
        if not (REPOSITORY / file).exists():
            return match[0]  # mkdocs reports it
        target_page = site_page(file)
        if target_page is None:
            return text
        relative = os.path.relpath(target_page, PurePosixPath(page).parent)
        return f"{mark}[{text}]({relative}{hash_sign}{anchor})"

    parts = _CODE.split(markdown)  # every second part is code
    return "".join(part if i % 2 else _LINK.sub(rewrite, part) for i, part in enumerate(parts))


def repository_path(page: str) -> str:
    """Return the path in the repository of a page, relative to the repository's root."""
    for path, other_page in SITE_PAGES.items():
        if other_page == page:
            return path
    return f"docs/{page}"


def site_page(path: str) -> str | None:
    """Return the page of the site that shows a file or folder of the repository; None if no page does."""
    if path in SITE_PAGES:
        return SITE_PAGES[path]
    if path == "docs/notebooks":
        return "notebooks/index.md"
    if not path.startswith("docs/"):
        return None
    return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
