"""What the docs point to is there."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, anchors, code_places, defined, links, pages, paths

PAGES = pages()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PLACES = sorted({place for page in PAGES for place in code_places(page)})


def test_there_are_places_to_check():
    assert len(PLACES) > 25
    assert {"README.md", "docs/protocol.md", "docs/server.md"} <= set(NAMES)


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_code_is_where_the_docs_say(file, name):
    assert (ROOT / file).is_file()
    assert name in defined(ROOT / file)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_are_there(page):
    assert [path for path in paths(page) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    lost = []
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []
