"""Links from the UI to report pages, and the page that the UI opens on."""

import urllib.request

from vlm_audio_pipeline.dagster_app.pages import PAGES_URL, page_link, serve_pages
from vlm_audio_pipeline.dagster_app.serving import group_path
from vlm_audio_pipeline.storage.data_folder import DataFolder


def test_report_pages_are_served_and_the_asset_links_to_them(bench, monkeypatch):
    graph = bench.graph()
    page = bench.data_folder.report("bench") / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>the page</p>")
    with serve_pages(bench.data_folder.reports) as url:
        monkeypatch.setenv(PAGES_URL, url)
        link = page_link(graph, graph.steps["report"])
        with urllib.request.urlopen(link["page"].value, timeout=10) as reply:
            assert reply.read() == b"<p>the page</p>"
    assert link["file"].value == str(page)
    assert page_link(graph, graph.steps["leaderboard"]) == {}


def test_without_a_server_the_asset_has_the_path_of_its_page(bench, monkeypatch):
    monkeypatch.delenv(PAGES_URL, raising=False)
    assert set(page_link(bench.graph(), bench.graph().steps["report"])) == {"file"}


def test_the_ui_opens_on_the_graph_of_a_study(tmp_path, done):
    empty = DataFolder(tmp_path / "empty")
    location = "/locations/vlm_audio_pipeline.dagster_app.definitions/asset-groups"
    assert group_path(empty, ["second", "first"]) == f"{location}/second/lineage"
    assert group_path(done.data_folder, []) == f"{location}/bench/lineage"  # it was run there
    (done.data_folder.studies / "a_damaged.json").write_text("{")
    assert group_path(done.data_folder, []) == f"{location}/bench/lineage"
    assert group_path(empty, []) == f"{location}/demo/lineage"
