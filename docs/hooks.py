"""Pages of the site that lie outside docs/, and links to files."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    'README.md': 'index.md',
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
}
"""Pages of the site by their files in the checkout."""
SOURCES = {page: source for source, page in PAGES.items()}
ROLE = re.compile(r':(?:py:)?\w+:<code>~?([\w.]+)(?:\(\))?</code>')
LINK = re.compile(r'(!?)\[([^]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)')


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and the files of the checkout that pages link to."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=text))
    for file in [*files.documentation_pages()]:
        for match in LINK.finditer(file.content_string):
            path = _find(match[3], file.src_uri)
            place = _place(path)
            if (ROOT / path).is_file() and place not in files.src_uris:
                content = (ROOT / path).read_bytes()
                files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: Any, files: Files
) -> str:
    """Point links to the site's places; unlink folders."""

    def replace(match: re.Match) -> str:
        path = _find(match[3], page.file.src_uri)
        if not (ROOT / path).is_file():
            return match[2] if (ROOT / path).is_dir() else match[0]
        here = posixpath.dirname(page.file.src_uri)
        target = posixpath.relpath(_place(path), here or '.')
        return f'{match[1]}[{match[2]}]({target}{match[4] or ""})'

    return LINK.sub(replace, markdown)


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Link the names of Sphinx roles in docstrings."""
    return ROLE.sub(
        r'<autoref optional identifier="\1"><code>\1</code></autoref>', html
    )


def _find(link: str, page: str) -> str:
    """Return the path in the checkout that a page's link means."""
    source = SOURCES.get(page, f'docs/{page}')
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _place(path: str) -> str:
    """Return the path in the site of a file of the checkout."""
    return PAGES.get(path, path.removeprefix('docs/'))
