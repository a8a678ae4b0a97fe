"""The documentation: every page has its place, every link leads somewhere, what is made by a script is current."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.program import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, *sorted(ROOT.glob("*.md")), ROOT / "chatcore" / "models" / "demo" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def load(file: Path):
    """Import a script by its file."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchor(heading: str) -> str:
    """Return the name under which a heading can be linked to."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain))


def test_every_page_has_its_place_in_the_navigation():
    listed = re.findall(r":\s+([\w./-]+\.md)\s*$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        target, _, part = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        assert file.is_relative_to(ROOT), link
        if part and file.suffix == ".md":
            headings = HEADING.findall(FENCE.sub("", file.read_text("utf-8")))
            assert part in {anchor(heading) for heading in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_of_the_site_link_only_inside_it(page):
    """The site holds docs/ alone: a link to a file beside it would lead nowhere there."""
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if "://" not in link:
            assert (page.parent / link.partition("#")[0]).resolve().is_relative_to(DOCS), link


def test_the_picture_of_the_architecture_is_that_of_the_imports():
    script = load(DOCS / "images" / "make_architecture_picture.py")
    assert script.PICTURE.read_text("utf-8") == script.draw(), "run: python docs/images/make_architecture_picture.py"


def test_the_licences_are_those_of_the_locks():
    script = load(DOCS / "make_licences.py")
    rows = {}
    for line in script.PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3:
            rows[cells[0]] = cells[1:]
    locked = script.locked_packages()
    assert set(rows) - {"package", "---"} == set(locked), "run: python docs/make_licences.py"
    for package, locks in locked.items():
        assert rows[package][1] == ", ".join(locks), "run: python docs/make_licences.py"
        if importlib.util.find_spec(package.replace("-", "_")):
            assert rows[package][0] == script.licence_of(package), "run: python docs/make_licences.py"


class Addresses(HTMLParser):
    """What a page loads by itself, as against what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        loads = {"script": "src", "img": "src", "iframe": "src", "link": "href"}.get(tag)
        if loads and named.get(loads) and named.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(named[loads])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; no proxy and no address leads anywhere while it is built."""
    pytest.importorskip("mkdocs", reason="make docs installs what the site needs")
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_the_site_loads_nothing_from_other_hosts(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        parser = Addresses()
        parser.feed(page.read_text("utf-8"))
        assert [address for address in parser.loaded if "//" in address] == [], page.name
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text("utf-8")


def test_the_reference_holds_what_scripts_import(site):
    text = (site / "reference.html").read_text("utf-8")
    for name in ("VLLMWrapper", "PromptBuilder", "read_memory_needs", "PromptTooLongError", "stream_chat"):
        assert name in text
