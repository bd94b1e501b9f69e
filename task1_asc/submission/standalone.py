"""Names of this project and everything that they need, as the source of one module that stands alone."""

import ast
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

OWN_PACKAGES = ("common", "task1_asc")


class _Module:
    """The names that a module defines and imports at its top level."""

    def __init__(self, name: str) -> None:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        self.source = Path(spec.origin).read_text(encoding="utf-8")
        self.defined: dict[str, ast.stmt] = {}
        self.imported: dict[str, tuple[str, str | None]] = {}  # name -> module, name in there (None: the module)
        for node in ast.parse(self.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.defined[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    self.defined |= {leaf.id: node for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
            elif isinstance(node, ast.ImportFrom):
                self.imported |= {a.asname or a.name: (node.module or "", a.name) for a in node.names}
            elif isinstance(node, ast.Import):
                self.imported |= {a.asname or a.name.split(".")[0]: (a.name, None) for a in node.names}

    def text(self, node: ast.stmt) -> str:
        """The source of a statement, decorators included."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        return "\n".join(self.source.split("\n")[first - 1 : node.end_lineno])


class _Collector:
    def __init__(self) -> None:
        self.module = cache(_Module)
        self.home: dict[str, str] = {}  # name -> the module that it comes from
        self.imports: set[str] = set()
        self.statements: dict[tuple[str, int], str] = {}  # (module, line) -> source, in the order of need

    def add(self, module: str, name: str) -> None:
        """The definition or import of a name, after all that it needs itself."""
        of = self.module(module)
        if name in of.imported:
            source, original = of.imported[name]
            if original is not None and source.split(".")[0] in OWN_PACKAGES:
                if original != name:
                    raise ValueError(f"{module}: {original} is imported as {name}, which one module cannot follow")
                self.add(source, name)
            elif original is None:
                self.imports.add(f"import {source}" + (f" as {name}" if name != source.split(".")[0] else ""))
            else:
                self.imports.add(f"from {source} import {original}" + (f" as {name}" if name != original else ""))
            return
        if name not in of.defined:
            return  # a builtin or a local variable
        if self.home.setdefault(name, module) != module:
            raise ValueError(f"{name} is defined in {module} and in {self.home[name]}")
        node = of.defined[name]
        key = (module, node.lineno)
        if key in self.statements:
            return
        self.statements[key] = ""  # marks it for those that need it and that it needs
        for leaf in ast.walk(node):
            if isinstance(leaf, ast.Name) and leaf.id != name:
                self.add(module, leaf.id)
        del self.statements[key]  # its place is after what it needs
        self.statements[key] = of.text(node)


def standalone_source(roots: Sequence[tuple[str, str]], docstring: str) -> str:
    """The source of a module with the names `roots`, [(module, name), ...], and all they need of this project.

    Imports of other packages stay imports. Followed are names at the top level of modules; an import inside a
    function is not. ValueError for two different things of one name.
    """
    collector = _Collector()
    for module, name in roots:
        collector.add(module, name)
    parts = [f'"""{docstring}"""', "\n".join(sorted(collector.imports)), *collector.statements.values()]
    return "\n\n\n".join(parts) + "\n"
