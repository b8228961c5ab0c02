"""The compiled half of the build: the native room's modules and the supervisor's tiny program.

What the project is stands in pyproject.toml; only what needs a compiler is here.
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import LinkError

NATIVE = Path("src/hornpipe/_native")

# C that a module needs besides its own .pyx. A .pxi is a part of a .pyx, which includes it.
EXTRA_SOURCES = {
    "brood": ["client.c"],
    "run": ["birth.c", "child.c", "launch.c"],
    "spawn": ["child.c", "launch.c"],
    "signals": ["rings.c"],
    "sysv": ["debts.c"],
    "timed_call": ["births.c", "clock.c", "guard.c"],
    "wait": ["waiters.c"],
}
SUPERVISOR_SOURCES = ["supervisor.c", "arguments.c", "cgroup.c", "family.c", "child.c", "launch.c"]

STRICT = os.environ.get("HORNPIPE_WERROR") == "1"
# -g0: Python's own flags ask for debug information, which is nine tenths of the file; symbols stay.
# Hidden: a module's entry is all that Python looks for; what its files call of each other needs no table then.
C_FLAGS = ["-O2", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra", *(["-Werror"] if STRICT else [])]
Options.warning_errors = STRICT

DIRECTIVES = {
    "language_level": 3,
    # No function of the native room keeps state that two threads could tear.
    "freethreading_compatible": True,
    # Real signatures for help() and inspect; doctests and pickling of functions come with it.
    "binding": True,
    "embedsignature": False,
    "always_allow_keywords": True,
    # Indexes run over buffers whose length was just checked, integers over C types we chose.
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}


def extensions() -> list[Extension]:
    """One module for each .pyx of the native room."""
    headers = sorted(str(path) for kind in ("*.h", "*.pxd", "*.pxi") for path in NATIVE.glob(kind))
    return [
        Extension(
            f"hornpipe._native.{pyx.stem}",
            [str(pyx), *(str(NATIVE / name) for name in EXTRA_SOURCES.get(pyx.stem, []))],
            include_dirs=[str(NATIVE)],
            extra_compile_args=C_FLAGS,
            depends=["setup.py", *headers],
        )
        for pyx in sorted(NATIVE.glob("*.pyx"))
    ]


class BuildNative(build_ext):
    """Builds the modules, then the supervisor beside them; modules whose source is gone are cleared out."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.parallel = os.cpu_count()

    def run(self) -> None:
        self.generate()
        built = {Path(self.get_ext_fullpath(extension.name)) for extension in self.extensions}
        for old in self.supervisor().parent.glob("*.so"):
            if old not in built:
                old.unlink()
        super().run()
        if (NATIVE / SUPERVISOR_SOURCES[0]).exists():
            self.build_supervisor()

    def generate(self) -> None:
        """Turn .pyx into C, in the build folder and not beside the sources.

        Done before the modules are compiled, as those are compiled in parallel and Cython is not made for threads.
        """
        made = cythonize(
            self.extensions,
            build_dir=self.build_temp,
            include_path=["src"],  # one module's cimport of another's .pxd
            compiler_directives=DIRECTIVES,
            force=bool(self.force),
            quiet=True,
        )
        sources = {extension.name: extension.sources for extension in made}
        for extension in self.extensions:
            extension.sources = sources[extension.name]

    def supervisor(self) -> Path:
        """Where the program goes: it is looked up beside the modules."""
        return Path(self.get_ext_fullpath("hornpipe._native.supervisor")).parent / "supervisor"

    def build_supervisor(self) -> None:
        target = self.supervisor()
        sources = [str(NATIVE / name) for name in SUPERVISOR_SOURCES]
        target.parent.mkdir(parents=True, exist_ok=True)
        objects = self.compiler.compile(
            sources,
            output_dir=str(Path(self.build_temp, "supervisor")),
            include_dirs=[str(NATIVE)],
            extra_postargs=C_FLAGS,
        )
        # A static program starts in half the time of a dynamic one: no loader, no relocations.
        # Where there is no static libc, the ordinary kind does the same work.
        link = {"target_desc": "executable", "objects": objects, "output_filename": target.name}
        link["output_dir"] = str(target.parent)
        try:
            self.compiler.link(**link, extra_postargs=["-static", "-s"])
        except LinkError:
            self.compiler.link(**link, extra_postargs=["-s"])
        target.chmod(0o755)

    def get_outputs(self) -> list[str]:
        return [*super().get_outputs(), str(self.supervisor())]


class BuildPure(build_py):
    """Copies the package after clearing out what a former build left.

    The build folder is kept to save compiling; without this a deleted module would live on in wheels.
    """

    def run(self) -> None:
        for old in Path(self.build_lib, "hornpipe").rglob("*"):
            if old.suffix in {".py", ".pyi", ".typed"} and old.is_file():
                old.unlink()
        super().run()


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative, "build_py": BuildPure})
