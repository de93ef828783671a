"""The pages that the documentation site makes; `make docs` builds the site and checks all links and anchors."""

import re

import pytest
import typer

import vlm_audio_pipeline as vap
from documentation_site import commands, reference
from documentation_site.hooks import on_post_page
from documentation_site.links import SITE_PAGES, rewrite_links
from documentation_site.notebooks import NOTEBOOKS
from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline_tests.readme import README


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "[text](docs/studies.md#datasets)", "[text](studies.md#datasets)"),
        ("index.md", "![text](docs/images/report.png)", "![text](images/report.png)"),
        ("index.md", "[`notebooks`](docs/notebooks)", "[`notebooks`](notebooks/index.md)"),
        ("index.md", "[text](#use)", "[text](#use)"),
        ("index.md", "[text](https://arxiv.org/abs/2411.12058)", "[text](https://arxiv.org/abs/2411.12058)"),
        ("troubleshooting.md", "[text](../README.md#gpu)", "[text](index.md#gpu)"),
        ("operations.md", "[the changes](../CHANGELOG.md)", "[the changes](changes.md)"),
        ("notebooks/look_at_sounds.md", "[next](ask_a_model.ipynb)", "[next](ask_a_model.md)"),
        ("data-folder.md", "[text](../docs/sql.md)", "[text](sql.md)"),
    ],
)
def test_links_between_files_become_links_between_pages(page, link, expected):
    assert rewrite_links(f"a {link} b", page) == f"a {expected} b"


def test_a_link_to_a_program_becomes_text():
    assert rewrite_links("[the benchmark](../benchmarks/language_models.py) measures", "language-models.md") == (
        "the benchmark measures"
    )


def test_code_and_links_that_lead_nowhere_are_unchanged():
    code = "```python\nx[0](docs/studies.md)\n```\n"
    assert rewrite_links(code, "index.md") == code
    assert rewrite_links("[text](docs/absent.md)", "index.md") == "[text](docs/absent.md)"  # mkdocs reports it


def test_every_page_outside_docs_exists():
    assert [path for path in SITE_PAGES if not (README.parent / path).is_file()] == []
    stems = {path.stem for path in (README.parent / "docs" / "notebooks").glob("*.ipynb")}
    assert stems == set(NOTEBOOKS)


def test_the_navigation_has_every_page():
    """mkdocs checks it too, but only when the site is built."""
    navigation = (README.parent / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = {*(path.name for path in (README.parent / "docs").glob("*.md")), *SITE_PAGES.values()}
    assert [page for page in sorted(pages) if f" {page}\n" not in navigation] == []


def test_the_reference_has_every_public_name_once():
    names = [name for group in reference.GROUPS.values() for name in group]
    assert sorted(names) == sorted(set(vap.__all__) - {"__version__"})
    assert re.findall(r"^::: vlm_audio_pipeline\.(\w+)$", reference.make_page(), re.MULTILINE) == names


def test_the_page_of_commands_has_every_command_and_option():
    page = commands.make_page()
    program = typer.main.get_command(cli.app)
    assert program.epilog.startswith("Exit codes: 0: ")
    assert page.count(program.epilog) == 1
    for name, command in program.commands.items():
        [section] = [s for s in page.split("\n### ") if s.startswith(f"`vlm-audio {name}`")]
        options = [option for p in command.params if p.param_type_name == "option" for option in p.opts]
        words = re.findall(r"(?<![\w-])--?[a-z][\w-]*", section)
        assert [option for option in options if option not in words] == []


class PageStub:
    """A page of mkdocs as far as the hooks look at it."""

    class file:  # noqa: N801
        src_uri = "index.md"


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="//example.org/a.css">',
        '<img alt="x" src="http://example.org/a.png">',
    ],
)
def test_a_page_that_loads_from_another_host_is_refused(html):
    with pytest.raises(ValueError, match=r"index\.md loads from another host"):
        on_post_page(f"<p>{html}</p>", PageStub)


def test_a_page_may_link_to_other_hosts_and_load_its_own_files():
    html = '<a href="https://example.org">x</a><img src="images/a.png"><script src="assets/a.js"></script>'
    assert on_post_page(html, PageStub) == html
