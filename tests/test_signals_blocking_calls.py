"""The list of everything in the public face that may wait, read off the source and never kept by hand.

A call graph over the whole package, with the types that its annotations and assignments give away, says which public
functions and methods reach the one place that blocks. Each of them has a test in ``test_signals_never_late.py``; one
that is missing there fails here (perlipc:S13, gotcha:SIG17).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hornpipe
from hornpipe import expect, signals, sysv
from hornpipe.expect import fdpexpect, popen_spawn, pxssh, replwrap, socket_pexpect

PACKAGE = Path(hornpipe.__file__).parent
SINKS = {"one", "on", "on_any", "until", "fill", "read_on", "child", "suspend"}
SINKS |= {"open_path", "open_renewed", "lock_file"}
NATIVE_SINKS = {f"ReadBuffer.{name}" for name in ("exchange", "await_line", "fill_when_ready")}
NATIVE_SINKS |= {"ByteSink.fill_when_ready", "Intake.read_on"}
NATIVE_SINKS |= {"Semaphores.op", "Queue.send", "Queue.receive", "hornpipe._native.signals:take_blocked"}
NATIVE_SINKS |= {"hornpipe._native.run:run"}
NATIVE_SINKS |= {f"OneSemaphore.{name}" for name in ("acquire", "wait_for_zero", "__enter__")}
# What native code calls back, which no source here shows.
NATIVE_CALLS = {"LineReader.__next__": ["Lines._refill", "Lines._at_end"]}
# Waits that are bounded whatever is asked for, and so are no calls that a signal could be late for.
BOUNDED = {
    "Child._recover": "50 ms, for a status that somebody else has taken",
    "spawn.take_raw": "it takes what is there",
    "hornpipe.reexec:restart_on_hup": "what keep= names is not looked into, a listener's clients least of all",
    "hornpipe.expect.replwrap:zsh": "as bash, with a program that need not be here",
}
PASSING_ON = {"list", "tuple", "sorted", "reversed", "enumerate", "zip", "dict", "set", "iter", "next", "cast", "min"}

Types = frozenset[str]
NOTHING: Types = frozenset()
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Class(NamedTuple):
    module: str
    bases: list[str]
    methods: dict[str, FunctionNode]
    attributes: dict[str, Types]


class Package:
    """Every class and function, who calls whom, and what is known of types: class names, containers looked through."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.trees = {module: ast.parse(text) for module, text in sources.items()}
        self.classes: dict[str, Class] = {}
        self.functions: dict[str, tuple[str, FunctionNode]] = {}
        self.names: dict[str, dict[str, tuple[str, str]]] = {}
        self.globals: dict[str, dict[str, Types]] = {module: {} for module in sources}
        for module, tree in self.trees.items():
            self.names[module] = dict(self._imported(tree))
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    methods = {item.name: item for item in node.body if isinstance(item, FunctionNode)}
                    bases = [word for base in node.bases for word in words(base)]
                    self.classes[node.name] = Class(module, bases, methods, {})
                elif isinstance(node, FunctionNode):
                    self.functions[f"{module}:{node.name}"] = module, node
        self.calls: dict[str, set[str]] = {}
        self.returned: dict[str, Types] = {}
        for _ in range(3):  # an attribute's type may come from another attribute's
            for module, tree in self.trees.items():
                self._read_globals(module, tree)
            for name, (module, node) in self.functions.items():
                self._read_body(name, module, "", node)
            for name, found in self.classes.items():
                for method, node in found.methods.items():
                    self._read_body(f"{name}.{method}", found.module, name, node)
        self.calls.update({name: set(called) for name, called in NATIVE_CALLS.items()})

    def _read_body(self, name: str, module: str, own: str, node: FunctionNode) -> None:
        body = Body(self, module, own, node)
        self.calls[name] = body.called
        # What the annotation says; where that is Any, what is seen to be returned.
        self.returned[name] = self.annotated(node.returns, own) or body.returned

    def _imported(self, tree: ast.AST) -> Iterator[tuple[str, tuple[str, str]]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hornpipe":
                for alias in node.names:
                    yield alias.asname or alias.name, (node.module or "", alias.name)

    def _read_globals(self, module: str, tree: ast.Module) -> None:
        body = Body(self, module, "", None)
        for node in tree.body:
            if not isinstance(node, FunctionNode | ast.ClassDef):
                body.visit_statement(node)
        self.globals[module] = body.known

    def annotated(self, node: ast.expr | None, own: str) -> Types:
        found = set(words(node)) if node is not None else set()
        return frozenset((found | ({own} if "Self" in found else set())) & self.classes.keys())

    # Asked for again and again, and all the same once the classes are known.

    @cache  # noqa: B019  as long as the test
    def ancestry(self, name: str) -> tuple[str, ...]:
        if name not in self.classes:
            return ()
        return (name, *(each for base in self.classes[name].bases for each in self.ancestry(base)))

    @cache  # noqa: B019
    def family(self, name: str) -> tuple[str, ...]:
        """Itself, and whatever may be in its place: subclasses, and for a protocol those who have all of it."""
        own = self.classes[name]
        protocol = "Protocol" in own.bases
        return tuple(
            other
            for other, found in self.classes.items()
            if name in self.ancestry(other) or (protocol and own.methods.keys() <= found.methods.keys())
        )

    @cache  # noqa: B019
    def methods(self, name: str, method: str) -> tuple[str, ...]:
        each_of_them = [*self.ancestry(name), *self.family(name)]
        return tuple(f"{each}.{method}" for each in each_of_them if method in self.classes[each].methods)

    def node(self, name: str) -> tuple[str, FunctionNode] | None:
        if name in self.functions:
            return self.functions[name]
        owner, _, method = name.rpartition(".")
        found = self.classes.get(owner)
        return (found.module, found.methods[method]) if found and method in found.methods else None

    def reaching(self) -> set[str]:
        """Every function from which the waiting can be reached."""
        found = {f"hornpipe.wait:{name}" for name in SINKS} | NATIVE_SINKS
        while True:
            more = {name for name, called in self.calls.items() if called & found} - found - BOUNDED.keys()
            if not more:
                return found
            found |= more


def words(node: ast.expr | None) -> Iterator[str]:
    """The names in an annotation, those in strings too."""
    for each in ast.walk(node) if node is not None else ():
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr
        elif isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.isidentifier():
            yield each.value


class Body:
    """One function's body: what it calls, and the types of its variables (of a module's, with no function)."""

    def __init__(self, package: Package, module: str, own: str, node: FunctionNode | None) -> None:
        self.package, self.module, self.own = package, module, own
        self.known: dict[str, Types] = {}
        self.called: set[str] = set()
        self.returned: Types = NOTHING
        if node is not None:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            for argument in arguments:
                self.known[argument.arg] = package.annotated(argument.annotation, own)
            if own and arguments:
                self.known[arguments[0].arg] = frozenset([own])
            for _ in range(2):
                for statement in node.body:
                    self.visit_statement(statement)

    def visit_statement(self, statement: ast.stmt) -> None:
        for node in ast.walk(statement):
            match node:
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        self.assign(target, self.types(value))
                case ast.AnnAssign(target=target, annotation=annotation, value=value):
                    self.assign(target, self.package.annotated(annotation, self.own))
                    self.types(value)
                case ast.NamedExpr(target=target, value=value):
                    self.assign(target, self.types(value))
                case ast.For(target=target, iter=over) | ast.comprehension(target=target, iter=over):
                    kinds = self.types(over)
                    self.call_all(kinds, "__iter__", "__next__")
                    self.assign(target, kinds)
                case ast.withitem(context_expr=value, optional_vars=target):
                    kinds = self.types(value)
                    self.call_all(kinds, "__enter__", "__exit__", "_begin", "_end")
                    if target is not None:
                        self.assign(target, kinds)
                case ast.Return(value=value):
                    self.returned |= self.types(value)
                case ast.Call() | ast.Attribute():
                    self.types(node)

    def call_all(self, kinds: Types, *methods: str) -> None:
        for kind in kinds:
            for method in methods:
                self.called.update(self.package.methods(kind, method))

    def assign(self, target: ast.expr, kinds: Types) -> None:
        match target:
            case ast.Name(id=name):
                self.known[name] = self.known.get(name, NOTHING) | kinds
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self.assign(part, kinds)
            case ast.Starred(value=value):
                self.assign(value, kinds)
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if self.own and self.known.get(name) == {self.own}:
                attributes = self.package.classes[self.own].attributes
                attributes[attr] = attributes.get(attr, NOTHING) | kinds

    def types(self, node: ast.AST | None) -> Types:
        """The classes that the value of an expression may have; on the way, what is called is noted."""
        match node:
            case ast.Name(id=name):
                return self.known.get(name) or self.global_types(name)
            case ast.Attribute(value=value, attr=attr):
                return self.attribute(value, attr)
            case ast.Call():
                return self.call(node)
            case ast.Subscript(value=value) | ast.Starred(value=value) | ast.NamedExpr(value=value):
                return self.types(value)
            case ast.IfExp(body=one, orelse=other):
                return self.types(one) | self.types(other)
            case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Dict(values=parts):
                return NOTHING.union(*map(self.types, parts))
            case ast.BinOp(left=one, right=other):
                return self.types(one) | self.types(other)
            case ast.ListComp(elt=part) | ast.GeneratorExp(elt=part) | ast.SetComp(elt=part) | ast.DictComp(value=part):
                return self.types(part)
        return NOTHING

    def global_types(self, name: str) -> Types:
        module, real = self.package.names[self.module].get(name, (self.module, name))
        return self.package.globals.get(module, {}).get(real, NOTHING)

    def attribute(self, value: ast.expr, attr: str) -> Types:
        kinds, found, known = self.types(value), NOTHING, False
        for kind in kinds:
            for each in self.package.ancestry(kind):
                if attr in self.package.classes[each].attributes:
                    found, known = found | self.package.classes[each].attributes[attr], True
            for name in self.package.methods(kind, attr):
                known = True
                _, node = self.package.node(name) or ("", None)
                if node and any("property" in words(decorator) for decorator in node.decorator_list):
                    self.called.add(name)
                    found |= self.package.annotated(node.returns, name.split(".")[0])
        return found if known else kinds  # what a container's own method gives may be what is in it

    def call(self, node: ast.Call) -> Types:
        given = NOTHING.union(*map(self.types, [*node.args, *(keyword.value for keyword in node.keywords)]))
        names: set[str] = set()
        made: Types = NOTHING
        match node.func:
            case ast.Name(id="super"):
                return frozenset(self.package.classes[self.own].bases) & self.package.classes.keys()
            case ast.Name(id=name):
                module, real = self.package.names[self.module].get(name, (self.module, name))
                names, made = self.named(module, real)
                if name in PASSING_ON:
                    return given
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in self.package.names[self.module]:
                module, real = self.package.names[self.module][name]
                names, made = self.named(f"{module}.{real}", attr)
                if real in self.package.classes:
                    names |= set(self.package.methods(real, attr))
                names |= {each for kind in self.types(node.func.value) for each in self.package.methods(kind, attr)}
            case ast.Attribute(value=value, attr=attr):
                names = {each for kind in self.types(value) for each in self.package.methods(kind, attr)}
                if not names:
                    return self.attribute(value, attr)
        # With a deadline of 0 it only looks.
        if not (node.args and isinstance(node.args[-1], ast.Constant) and node.args[-1].value == 0):
            self.called |= names
        return made.union(*(self.package.returned.get(name, NOTHING) for name in names))

    def named(self, module: str, name: str) -> tuple[set[str], Types]:
        if name in self.package.classes:
            return set(self.package.methods(name, "__init__")), frozenset([name])
        # A package's names come from its parts.
        for part in (module, *(each for each in self.package.trees if each.startswith(f"{module}."))):
            if f"{part}:{name}" in self.package.functions:
                return {f"{part}:{name}"}, NOTHING
        return set(), NOTHING


def whole_package() -> Package:
    sources = {}
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.glob("_native/*.pyi")]:
        parts = ["hornpipe", *path.relative_to(PACKAGE).with_suffix("").parts]
        if parts[1] not in ("cli", "testing") and parts != ["hornpipe", "__init__"]:
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return Package(sources)


FACES: list[tuple[Any, list[str]]] = [(module, module.__all__) for module in (hornpipe, signals, sysv, expect)]
FACES += [(fdpexpect, ["fdspawn"]), (popen_spawn, ["PopenSpawn"]), (socket_pexpect, ["SocketSpawn"])]
FACES += [(replwrap, ["REPLWrapper", "bash", "python", "zsh"]), (pxssh, ["pxssh"])]
DUNDERS = {"__enter__", "__exit__", "__iter__", "__next__", "__getitem__", "__setitem__", "__or__", "__contains__"}


def public(package: Package) -> Iterator[tuple[str, str]]:
    """Everything a user can call, by the name it is told under: that name, and that of the function behind it."""
    for module, names in FACES:
        for name in names:
            value = getattr(module, name)
            kind = value if inspect.isclass(value) else type(value)
            if inspect.isfunction(value):
                yield name, f"{value.__module__}:{value.__name__}"
            elif kind.__module__.startswith("hornpipe"):
                for attr in dir(kind):
                    if not attr.startswith("_") or attr in DUNDERS:
                        # A scope's ends are native, and call these.
                        behind = {"__enter__": "_begin", "__exit__": "_end"}
                        for real in {attr, behind.get(attr, attr)}:
                            owner = next(
                                (o for o in package.ancestry(kind.__name__) if real in package.classes[o].methods), ""
                            )
                            if owner:
                                yield f"{kind.__name__ if owner == 'LineReader' else owner}.{attr}", f"{owner}.{real}"


TABLES = {"PROCESSES", "STREAMS", "SOCKETS", "TERMINALS", "SERVICES", "FINAL"}


def names_in_the_tables() -> set[str]:
    """The names in the keys of the tables in the file beside this one."""
    tree = ast.parse(Path(__file__).with_name("test_signals_never_late.py").read_text())
    tables = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and set(words(node.target)) & TABLES]
    return {
        name for table in tables if isinstance(table, ast.Dict) for key in table.keys for name in ast.literal_eval(key)
    }  # type: ignore[arg-type]


SAMPLE = """
from hornpipe import wait
from hornpipe.other import made, Base

class Inner(Base):
    def look(self): return wait.one(1, 2, 0)
    def sit(self): return wait.one(1, 2, self.deadline)

class Outer:
    def __init__(self, inner: Inner | None) -> None:
        self._inners = [inner]
    def direct(self):
        for each in self._inners: each.sit()
    def looks(self): return [each.look() for each in self._inners]
    @property
    def hidden(self): return [each.sit() for each in self._inners]
    def by_property(self): return self.hidden
    def by_function(self): return made().sit()
    def by_base(self): return self._inners[0].inherited()
    def never(self): return self._inners.pop()
    def in_a_block(self):
        with self._inners[0]: pass
"""
OTHER = """
class Base:
    def inherited(self): return self.sit()
    def sit(self): pass
    def __exit__(self, *error): self.sit()
def made() -> "Any":
    from hornpipe.sample import Inner
    return Inner()
"""


def test_a_call_that_waits_is_found_wherever_it_hides():
    wait = "def one(fd, events, deadline): ..."
    package = Package({"hornpipe.wait": wait, "hornpipe.sample": SAMPLE, "hornpipe.other": OTHER})
    found = {name.removeprefix("Outer.") for name in package.reaching() if name.startswith("Outer.")}
    assert found == {"direct", "hidden", "by_property", "by_function", "by_base", "in_a_block"}


def test_every_call_that_may_wait_is_tested_for_being_late():
    """perlipc:S13, gotcha:SIG17"""
    package = whole_package()
    reaching = package.reaching()
    waiting = {name for name, behind in public(package) if behind in reaching}
    assert len(waiting) > 30
    assert waiting - names_in_the_tables() == set(), (
        "may wait, and no test in test_signals_never_late.py sends it signals"
    )
    assert names_in_the_tables() - waiting == set(), "has a test, and cannot wait"
