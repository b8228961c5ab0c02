"""Break each facility by a named mutation and see its proof fail: `check_proofs.py [ROW...]`.

`tests/proofs.toml` says which test proves a row of the perlipc manual page, and which change of the sources it
has to notice. The change is made in a copy of the installed package (of the sources, where it is in the
native room); a proof that passes all the same proves nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import hornpipe

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(hornpipe.__file__).parent
PATIENCE = 120.0
"""Seconds after which a broken facility has hung its proof: noticed as well, but nobody should wait for that."""
TESTS_FAILED = 1
"""pytest's exit status; any other but 0 means that the tests could not be run."""
HUNG = -1


class Proof(NamedTuple):
    """One row: its test, and what is done to see it fail."""

    row: str
    test: str
    breaks: str
    file: str
    old: str
    new: str

    @property
    def is_native(self) -> bool:
        """Whether the change has to be compiled."""
        return self.file.endswith((".pyx", ".pxi", ".c", ".h"))


def main(rows: list[str]) -> int:
    """The number of rows whose proof does not hold; 1 at the most."""
    proofs = [Proof(**entry) for entry in tomllib.loads((ROOT / "tests/proofs.toml").read_text())["proof"]]
    if unknown := set(rows) - {proof.row for proof in proofs}:
        sys.exit(f"no such row: {', '.join(sorted(unknown))}")
    wanted = [proof for proof in proofs if not rows or proof.row in rows]
    print(f"{len(wanted)} proofs, as they are: ", end="", flush=True)
    if run(PACKAGE.parent, *{proof.test: None for proof in wanted}) != 0:
        print("not all pass")
        return 1
    print("all pass")
    failed = 0
    for proof in wanted:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hornpipe-proof-") as folder:
            outcome = run(mutated(proof, Path(folder)), proof.test, "-x")
        noticed = outcome == TESTS_FAILED
        failed += not noticed
        verdict = {0: "PASSES ALL THE SAME", TESTS_FAILED: "fails, as it should"}.get(outcome, f"cannot run: {outcome}")
        print(f"{proof.row:5} {proof.breaks}: {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return int(failed > 0)


def mutated(proof: Proof, folder: Path) -> Path:
    """Where the broken package can be imported from."""
    if not proof.is_native:
        shutil.copytree(PACKAGE, folder / "hornpipe", ignore=shutil.ignore_patterns("__pycache__"))
        change(folder / "hornpipe" / proof.file, proof)
        return folder
    for name in ("src", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    change(folder / "src/hornpipe" / proof.file, proof)
    build = [sys.executable, "setup.py", "-q", "build", "--build-lib", "built"]
    # Where no bytecode is to be written, setuptools complains of that.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(build, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
    return folder / "built"


def change(file: Path, proof: Proof) -> None:
    """Make the change, which has to have exactly one place."""
    text = file.read_text()
    if text.count(proof.old) != 1:
        sys.exit(f"{proof.row}: what is to be changed stands {text.count(proof.old)} times in {proof.file}")
    file.write_text(text.replace(proof.old, proof.new))


def run(package: Path, *arguments: str) -> int:
    """Run tests against a package, in a session of their own: pytest's exit status."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(package)
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    child = subprocess.Popen(
        pytest,
        cwd=ROOT / "tests",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return HUNG
    if package == PACKAGE.parent and child.returncode:
        print(output)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
