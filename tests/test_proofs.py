"""Every row of the perlipc manual page has a proof, and every proof can fail.

`tests/proofs.toml` names for each row a test and a change of the sources that it has to notice; `make check-proofs`
makes each change and sees that it does. Here the table itself is held: it is whole, what it names exists, and
docs/perlipc.md shows each row with its proof.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parent / "src" / "hornpipe"
PAGE = HERE.parent / "docs" / "perlipc.md"
PROOFS = {proof["row"]: proof for proof in tomllib.loads((HERE / "proofs.toml").read_text())["proof"]}


def found(test: str) -> str:
    """All that is written above a test: the docstrings of its module, its classes and itself."""
    file, *names = test.split("::")
    node: ast.AST = ast.parse((HERE / file).read_text())
    said = []
    for name in names:
        said.append(ast.get_docstring(node) or "")  # type: ignore[arg-type]
        node = next(
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == name
        )
    return "\n".join([*said, ast.get_docstring(node) or ""])  # type: ignore[arg-type]


def rows_named(text: str) -> set[str]:
    named = re.findall(r"perlipc:([A-Z]\d+b?(?:, ?[A-Z]\d+b?\b)*)", text)
    return {row for group in named for row in re.findall(r"[A-Z]\d+b?", group)}


def shown(proof: dict[str, str]) -> str:
    file, *names = proof["test"].split("::")
    return f"Proof: [`{'::'.join(names)}`](../tests/{file}); it fails when {proof['breaks']}."


def section(row: str) -> str:
    """What the page says on a row: it may have a heading with others."""
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        if row in re.split(r"[,:] ?", part.partition(":")[0]):
            return part
    raise AssertionError(f"docs/perlipc.md has no section on {row}")


@pytest.mark.parametrize("row", PROOFS)
def test_the_test_of_a_row_exists_and_names_it(row: str) -> None:
    assert row in rows_named(found(PROOFS[row]["test"]))


@pytest.mark.parametrize("row", PROOFS)
def test_what_breaks_a_row_has_one_place(row: str) -> None:
    proof = PROOFS[row]
    assert proof["old"] != proof["new"]
    assert (SOURCES / proof["file"]).read_text().count(proof["old"]) == 1


@pytest.mark.parametrize("row", PROOFS)
def test_the_page_shows_the_proof_of_a_row(row: str) -> None:
    assert shown(PROOFS[row]) in section(row)


def test_rows_may_be_named_together() -> None:
    assert rows_named("perlipc:S1, S10b, gotcha:SP1, perlipc:O2; B1") == {"S1", "S10b", "O2"}


def numbered(area: str, last: int) -> list[str]:
    return [f"{area}{number}" for number in range(1, last + 1)]


def test_no_row_of_the_page_is_without_a_proof() -> None:
    rows = [
        *numbered("S", 22),
        "S10b",
        "S11b",
        *numbered("D", 4),
        *numbered("F", 3),
        *numbered("O", 15),
        *numbered("B", 5),
        *numbered("N", 20),
        *numbered("V", 6),
    ]
    assert sorted(PROOFS) == sorted(rows)
