"""The README and the pages of docs/ do what they show.

Every block marked `python` runs, the blocks of a page one after another in one namespace, in an
empty folder. Lines with `>>>` are compared with their output, others only have to succeed. A block
that cannot run here (it would replace this process, or needs a tree of sources) is marked
`python no-run` and has to parse.
"""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.is_file()]
FENCE = re.compile(
    r"^(?P<indent> *)```python\b *(?P<how>[^\n]*)\n(?P<body>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """One block of code of a page."""

    line: int
    how: str
    text: str


def blocks(page: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(page):
        indent = len(match["indent"])
        text = "".join(line[indent:] or "\n" for line in match["body"].splitlines(keepends=True))
        found.append(Block(page.count("\n", 0, match.start("body")), match["how"].strip(), text))
    return found


def run(name: str, page: str) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        assert block.how in {"", "no-run"}, f"{name}:{block.line}: what does `python {block.how}` mean?"
        if block.how == "no-run":
            ast.parse(block.text, name)
        elif re.search(r"^\s*>>> ", block.text, re.MULTILINE):
            test = doctest.DocTestParser().get_doctest(block.text, namespace, name, name, block.line)
            said: list[str] = []
            runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
            runner.run(test, out=said.append, clear_globs=False)
            namespace = test.globs
            assert runner.failures == 0, "".join(said)
        else:
            # The empty lines make a traceback name the line of the page.
            exec(compile("\n" * block.line + block.text, name, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_work(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(str(page), page.read_text())


def test_blocks_of_a_page_share_their_names():
    first = "```python\nx = 1\n```\n"
    indented = "- a point\n\n  ```python\n  >>> x + 1\n  2\n  >>> y = 3\n  ```\n"
    run("page", f"{first}\n{indented}\n```python\nassert y == 3\n```\n")


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```python\n>>> 1 + 1\n3\n```\n", AssertionError),
        ("```python\n1 / 0\n```\n", ZeroDivisionError),
        ("```python no-run\ndef (\n```\n", SyntaxError),
        ("```python sometimes\nx = 1\n```\n", AssertionError),
    ],
)
def test_an_example_that_does_not_work_is_seen(page, error):
    with pytest.raises(error):
        run("page", page)


def test_the_readme_has_the_figures_of_the_page_on_performance(monkeypatch):
    """They are put there with the page, by `make bench ARGS=--page`."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import page

    readme = page.README.read_text()
    assert len(page._ROW.findall(readme)) > 5
    assert page.in_readme(readme, page.PAGE.read_text()) == readme
