"""The rules of QVIM 2025 for a notebook, as far as reading it can tell; nothing of it is run."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from common.run.errors import UserError, brief
from common.run.submission.violations import Severity, Violation
from qbv.submission.meta import MARK, PLACES, Notebook, read_notebook

PYTHON = (3, 10)  # of the organisers' machine
CLASS, METHOD, ARGUMENTS = "QVIMModel", "compute_similarities", ("items", "queries")
Where = Literal["shell", "magic", "call", "text", "path", "address"]


class Rule(NamedTuple):
    """What a team's cells may not hold. Of a thing the first rule of its kind counts whose pattern is found in it.

    where: shell, the words after `!`; magic, those after `%`; call, a function's dotted name; text, a string of the
    code; path, one that is joined to a path; address, scheme://... in strings and shell words. Without a name the thing
    is right.
    """

    where: Where
    pattern: str
    name: str | None = None
    message: str = ""
    severity: Severity = "error"


INSTALL = r"^(sudo )?((python3? -m )?(uv )?pip3? install|(apt|apt-get|conda|mamba)( -\S+)* install)\b"
NO_SHELL = "a shell command that is no install"
NO_CHANGE = "changes the directory"
BY_SHELL = (
    "a download by the shell: wget and git are named as ways, but shell commands are to be installs; Python can too"
)
OUTPUT = "ROOT_PATH/output belongs to the evaluation, nothing else goes there"
RULES = (
    *(Rule(where, INSTALL) for where in ("shell", "magic")),
    *(Rule(where, r"^(cd|pushd|popd)\b", "chdir", NO_CHANGE) for where in ("shell", "magic")),
    Rule("shell", r"^(wget|curl|gdown|git (-C \S+ )?(clone|checkout))\b", "shell-download", BY_SHELL, "warning"),
    Rule("shell", r"", "shell", NO_SHELL),
    Rule("magic", r"^%?(bash|sh|script|sx|sc|system|writefile|perl|ruby)\b", "shell", NO_SHELL),
    Rule("call", r"^(os\.f?chdir|contextlib\.chdir)$", "chdir", NO_CHANGE),
    Rule("call", r"^(os\.(system|popen|exec\w+|(posix_)?spawn\w*)|subprocess\.\w+|pty\.spawn)$", "shell", NO_SHELL),
    Rule("call", r"^(IPython\.)?get_ipython$", "shell", NO_SHELL),
    Rule("text", r"/output(/|$)|^output/", "output", OUTPUT),
    Rule("path", r"^output$", "output", OUTPUT),
    Rule(
        "text", r"^(/|~|[A-Za-z]:[\\/])[\w.]", "path", "an absolute path, expected one below the two PATHs", "warning"
    ),
    Rule("text", r"^\.\.(/|$)", "path", "leads out of ROOT_PATH and DATA_PATH", "warning"),
    Rule("address", r"^(?!(git\+)?https://)", "url-https", "expected a public https address"),
    Rule("address", r"//[^/@]*@", "url-public", "carries a name or token, expected a public address"),
    Rule(
        "address",
        r"//(localhost|[^./:]+|(127|10|192\.168|172\.(1[6-9]|2\d|3[01]))(\.\d+)+)(:\d+)?(/|$)",
        "url-public",
        "an address of a machine or its network, expected a public one",
    ),
    Rule("address", r"^git\+(?!.*@[0-9a-f]{7,40}\b)", "git-pinned", "no commit, expected git+https://...@COMMIT"),
    Rule(
        "address",
        r"(\.(7z|rar|tgz|tbz2?|txz|zst|bz2|lzma)|(?<!\.tar)\.[gx]z)([?#]|$)",
        "url-archive",
        "expected .zip, .tar, .tar.gz or .tar.xz",
    ),
    Rule(
        "address",
        r"//([\w-]+\.)*(example\.(org|com|net)|example|invalid)(/|$)",
        "url-placeholder",
        "a placeholder, nobody can fetch anything there",
        "warning",
    ),
)
ADDRESS = re.compile(r"(?:git\+)?[A-Za-z][A-Za-z0-9.-]*://[^\s\"'<>\\)\]}]+")
PATH_CALLS = ("join", "joinpath", "Path", "mkdir", "makedirs", "open", "exists")
IPYTHON = re.compile(r"^([ \t]*)(?:[\w, ]+=[ \t]*)?([!%])(.*)", re.MULTILINE)
PINNED = re.compile(r"^git\b.*\bcheckout\b.*\b[0-9a-f]{7,40}\b")


@dataclass
class Code:
    """What the code of some cells holds: (cell number, thing) by kind; assigned, used: names at any depth."""

    things: list[tuple[int, Where, str]] = field(default_factory=list)
    assigned: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)  # of the class of the interface
    has_class: bool = False


def check_notebook(text: str, file: str, template: Notebook | None = None) -> tuple[list[Violation], Notebook | None]:
    """All violations in the text of a notebook, and the notebook; file: for messages.

    template: the organisers': cells without its mark must stand unchanged, those with it are the team's. Without it the
    team's are the cells with the mark.
    """
    found: list[Violation] = []

    def report(name: str, message: str, severity: Severity = "error") -> None:
        found.append(Violation(file, None, name, message, severity))

    try:
        notebook = read_notebook(text)
    except UserError as error:
        report("notebook", str(error))
        return found, None
    if template is not None:
        found += [Violation(file, None, *of) for of in _changed(notebook, template)]
    marked = [MARK in source for _, source in (template or notebook).cells]
    if not any(marked):
        report("todo", f"no cell with {MARK}: every cell counts as the team's", "warning")
    whole, own = Code(), Code()
    for number, (kind, source) in enumerate(notebook.cells, 1):
        if kind != "code":
            continue
        is_own = not any(marked) or (number <= len(marked) and marked[number - 1])
        for code in (whole, own) if is_own else (whole,):
            try:
                _read_cell(number, source, code)
            except (SyntaxError, ValueError, RecursionError) as error:
                if code is whole:
                    line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
                    report("python", f"cell {number}{line}: not Python {PYTHON[0]}.{PYTHON[1]} ({str(error)[:100]})")
    found += [Violation(file, None, *of) for of in (*_broken(own), *_interface(whole), *_places(whole))]
    return found, notebook


Finding = tuple[str, str] | tuple[str, str, Severity]  # rule, message, severity


def _changed(notebook: Notebook, template: Notebook) -> Iterator[Finding]:
    if len(notebook.cells) != len(template.cells):
        yield "cells", f"{len(notebook.cells)} cells, expected the {len(template.cells)} of the template"
        return
    for number, (mine, given) in enumerate(zip(notebook.cells, template.cells, strict=True), 1):
        if MARK not in given[1] and (mine[0], mine[1].rstrip()) != (given[0], given[1].rstrip()):
            yield "cell-changed", f"cell {number} differs from the template's, which has no {MARK}"


def _broken(code: Code) -> Iterator[Finding]:
    for cell, where, thing in code.things:
        rule = next((rule for rule in RULES if rule.where == where and re.search(rule.pattern, thing)), None)
        if rule is not None and rule.name is not None:
            yield rule.name, f"cell {cell}: {brief(thing)}: {rule.message}", rule.severity
    shell = [(cell, thing) for cell, where, thing in code.things if where == "shell"]
    if not any(PINNED.search(thing) for _, thing in shell):
        for cell, thing in shell:
            if re.search(r"^git\b.*\bclone\b", thing):
                yield "git-pinned", f"cell {cell}: {brief(thing)}: no commit is checked out"


def _interface(code: Code) -> Iterator[Finding]:
    form = f"class {CLASS} with {METHOD}(self, {', '.join(ARGUMENTS)})"
    if not code.has_class:
        yield "interface", f"no {form}"
    elif METHOD not in code.methods:
        yield "interface", f"{CLASS} has no {METHOD}, expected {form}"
    else:
        given = code.methods[METHOD].args
        names = [of.arg for of in (*given.posonlyargs, *given.args)]
        needed = names[: len(names) - len(given.defaults)]
        if names[1:3] != list(ARGUMENTS) or len(needed) > 3 or None in given.kw_defaults:
            yield "interface", f"{METHOD}({', '.join(names)}), expected {form}"


def _places(code: Code) -> Iterator[Finding]:
    for name in PLACES:
        if name not in code.used:
            yield "place", f"{name} is not used, expected all files below the two PATHs"
        if code.assigned.count(name) > 1:
            yield "place", f"{name} is set {code.assigned.count(name)} times, expected the template's alone"


def _read_cell(number: int, source: str, code: Code) -> None:
    """Note what a cell holds. Raises SyntaxError."""
    try:
        tree = ast.parse(source, feature_version=PYTHON)
    except SyntaxError:
        if not IPYTHON.search(source):
            raise
        python = _without_ipython(number, source.replace("\\\n", " "), code)
        tree = ast.parse(python, feature_version=PYTHON)
    _read_tree(number, tree, code)


def _without_ipython(number: int, source: str, code: Code) -> str:
    """The Python of a cell; what else is in it, `!words` and `%words`, is noted."""
    lines = []
    for line in source.splitlines():
        match = IPYTHON.match(line)
        if match is None:
            lines.append(line)
            continue
        indent, sign, words = match.groups()
        parts = [words] if sign == "%" else re.split(r"&&|\|\|?|;", words.lstrip("!"))
        where: Where = "magic" if sign == "%" else "shell"
        code.things += [(number, where, part.strip()) for part in parts if part.strip()]
        code.things += [(number, "address", of) for of in ADDRESS.findall(words)]
        if not lines and re.match(r"%(?!time|capture|prun)", words):
            return ""  # the cell is in another language
        lines.append(f"{indent}pass")
    return "\n".join(lines)


def _read_tree(number: int, tree: ast.AST, code: Code) -> None:
    nodes, known = list(ast.walk(tree)), _imported(tree)
    for node in nodes:
        if isinstance(node, ast.Call) and (name := _dotted(node.func)):
            first, _, rest = name.partition(".")
            code.things.append((number, "call", known.get(first, first) + (f".{rest}" if rest else "")))
            code.things += [(number, "path", of) for of in map(_text, node.args) if of and name.endswith(PATH_CALLS)]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and (joined := _text(node.right)):
            code.things.append((number, "path", joined))
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                code.used.add(node.id)
            else:
                code.assigned.append(node.id)
        elif isinstance(node, ast.ClassDef) and node.name == CLASS:
            code.has_class = True
            code.methods |= {of.name: of for of in node.body if isinstance(of, ast.FunctionDef)}
    for text in _strings(nodes):
        addresses = ADDRESS.findall(text)
        code.things += [(number, "address", of) for of in addresses]
        code.things += [] if addresses else [(number, "text", text)]


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _imported(tree: ast.AST) -> dict[str, str]:
    """What names of a cell stand for: {"sp": "subprocess", "chdir": "os.chdir"}."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {of.asname: of.name for of in node.names if of.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {of.asname or of.name: f"{node.module}.{of.name}" for of in node.names}
    return found


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else None
    return node.id if isinstance(node, ast.Name) else None


def _strings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Texts of the code, without docstrings and what the PATHs are set to."""
    nodes = list(nodes)
    skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Assign) and any(isinstance(of, ast.Name) and of.id in PLACES for of in node.targets):
            skipped |= {id(of) for of in ast.walk(node.value)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value
