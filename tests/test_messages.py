"""Messages of errors: each is one line that names a thing, and the limit or a way out."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import encodax

PACKAGE = Path(encodax.__file__).parent
BASE = "EncodaxError"
MOST_VARIANTS = 32
"""Largest number of texts of one message that are looked at, if its parts have alternatives."""

MADE_ELSEWHERE: Mapping[str, str] = {
    "{written.error}": "a message of another process, which was one of these there",
    "{place}: {'; '.join(problems)}": "each problem names a tensor and what is wrong with it",
    "{self._values.where}: {key} = {shown(self[key])} {problem}": "the callers say what is wanted",
}
"""Messages whose parts are made elsewhere, out of the sight of this test -> why they are good."""

THINGS = (
    "adapter", "beams", "context", "data set", "example", "file", "model", "path", "query",
    "ranges", "sampling", "standard input", "standard output", "steps", "student", "teacher",
    "text", "tokenizer", "training data",
)  # fmt: skip
"""Nouns that name what a user has given, or can look at."""
NAMES = (
    r"\{.+\}",  # a value
    r"'[^']+'", r'"[^"]+"', r"`[^`]+`",
    r"--[a-z]",  # an option
    r"\b[a-z]+\w*[_.=]\w+",  # a field, a key or a file
    r"\b\w*[a-z]\d*[A-Z]\w*", r"\b[A-Z]{2,}\b",  # a class, or another name
    r"\bint8\b",
    r"\bpip install \S",
)  # fmt: skip

VERBS = "|".join((
    "add", "allow", "ask", "bring", "call", "choose", "convert", "copy", "correct", "cut", "fetch",
    "freeze", "give", "install", "keep", "leave", "load", "lowercase", "make", "merge", "move",
    "name", "pickle", "pip install", "put", "raise", "remove", "rename", "resume", "run", "save",
    "scale", "see", "send", "set", "shorten", "start", "train", "try", "unpack", "use", "wait",
    "write",
))  # fmt: skip
WAY_OUT = (
    rf"(^|[:;,.?(] )({VERBS})\b",  # a clause that begins with an imperative
    rf"\b(and|or|then|to) ({VERBS})\b",
    r"--[a-z]", r"`encodax ", r"\b\w+=\)",
    r"\?($|[),])",  # a question that names the likely mistake
)  # fmt: skip
LIMIT = (
    r"\b(above|at least|at most|below|only|(less|longer|more|older) than)\b", r">= ", r"\.\.",
    r"\bfrom .+ to\b", r"\bmultiple of\b", r"\bone of\b", r"\b(known|supported)\b",
    r"\b(are|columns|has|knows|labels|options): ",
)  # fmt: skip
WANTED = (
    r"\b(must|needs?|such as|takes)\b", r"\bis (for|neither)\b", r", not ",
    r"\bnot (a|an|at|finite|in|JSON|left|null|of|the|true|Unicode|UTF-8)\b", r"\bis not \{\}$",
)  # fmt: skip
MISSING = (r"\b(empty|missing|no|none)\b", r"\bnot (exist|installed)\b")
CONTRADICTORY = (
    r"\b(agree|another|contradicts|different|overlaps|same|share|twice)\b", r"\bnot both\b",
    r", and (here|id2label|in|the|there|these|this|those) ",
)  # fmt: skip
HELPS = re.compile("|".join((*WAY_OUT, *LIMIT, *WANTED, *MISSING, *CONTRADICTORY)))
COMPUTED = re.compile(r"\{[^{}]+\}")
NAMES_A_THING = re.compile("|".join((*NAMES, rf"\b({'|'.join(THINGS)})s?\b")))


@dataclass(frozen=True)
class Message:
    """A message as it stands in the source: what is computed is in braces, as in an f-string."""

    where: str
    text: str
    causes: frozenset[str] = frozenset()
    """Names of the exceptions that are at hand where the message is made."""


@dataclass
class Scope:
    """What the names in an expression stand for."""

    constants: Mapping[str, ast.expr]
    """Constants of the package."""
    functions: Mapping[str, ast.FunctionDef]
    """Functions of the file."""
    local: Mapping[str, list[ast.expr]] = field(default_factory=dict)
    """All values that the function assigns to a name."""

    def inside(self, function: ast.AST) -> Scope:
        """Return the scope of a function's body."""
        local: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            for target, value in _assignments(node):
                local.setdefault(target.id, []).append(value)
        return Scope(self.constants, self.functions, local)

    def made_of(self, names: frozenset[str]) -> frozenset[str]:
        """Return these names, and those of values that are computed from them."""
        return names | {
            target
            for target, values in self.local.items()
            for value in values
            if any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(value))
        }

    def texts(self, node: ast.expr, depth: int = 4) -> list[str]:
        """Return the texts that an expression can have."""
        for part in [] if depth == 0 else self._meanings(node):
            return [text for each, scope in part for text in scope.texts(each, depth - 1)]
        match node:
            case ast.Constant(value=str() as text):
                return [text]
            case ast.JoinedStr(values=values):
                return _joined([self.texts(value, depth) for value in values])
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _joined([self.texts(left, depth), self.texts(right, depth)])
            case ast.IfExp(body=body, orelse=orelse):
                return self.texts(body, depth) + self.texts(orelse, depth)
            case ast.FormattedValue(value=value):
                return self.texts(value, depth)
            case _:
                return [f"{{{ast.unparse(node)}}}"]

    def _meanings(self, node: ast.expr) -> Iterator[list[tuple[ast.expr, Scope]]]:
        """Yield the strings that a name, a call or an entry of a table stands for, if known."""
        found: list[tuple[ast.expr, Scope]] = []
        match node:
            case ast.Name(id=name):
                constant = [self.constants[name]] if name in self.constants else []
                found = [(value, self) for value in self.local.get(name, constant)]
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                function = self.functions[name]
                own = self.inside(function)
                found = [
                    (each.value, own)
                    for each in ast.walk(function)
                    if isinstance(each, ast.Return) and each.value is not None
                    # Without a text there is no error.
                    if not (isinstance(each.value, ast.Constant) and each.value.value == "")
                ]
            case ast.Subscript(value=ast.Name(id=name)):
                table = self.constants.get(name)
                found = (
                    [(each, self) for each in table.values] if isinstance(table, ast.Dict) else []
                )
        if found and all(self._is_string(each) for each, _ in found):
            yield found

    def _is_string(self, node: ast.expr) -> bool:
        called = (
            node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        )
        return called in self.functions or isinstance(
            node, ast.BinOp | ast.Constant | ast.IfExp | ast.JoinedStr
        )


def _joined(parts: list[list[str]]) -> list[str]:
    return ["".join(each) for each in itertools.islice(itertools.product(*parts), MOST_VARIANTS)]


def _is_error(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id.endswith(("Error", "Exception"))


class _Finder(ast.NodeVisitor):
    """Collector of the messages that a file gives to errors of these classes."""

    def __init__(self, where: str, classes: set[str], scope: Scope):
        self.found: list[Message] = []
        self._where, self._classes, self._scope = where, classes, scope
        self._function: ast.FunctionDef | None = None
        self._errors: frozenset[str] = frozenset()
        self._is_error_class = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = self._function, self._errors
        self._function = node
        self._errors = frozenset(each.arg for each in node.args.args if _is_error(each.annotation))
        self.generic_visit(node)
        self._function, self._errors = before

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        before = self._errors
        self._errors |= {node.name} if node.name else set()
        self.generic_visit(node)
        self._errors = before

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._is_error_class = node.name in self._classes
        self.generic_visit(node)
        self._is_error_class = False

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if node.args and (name in self._classes or (self._is_error_class and name == "cls")):
            where = f"{self._where}:{node.lineno}"
            scope = self._scope if self._function is None else self._scope.inside(self._function)
            for text in dict.fromkeys(scope.texts(node.args[0])):
                self.found.append(Message(where, text, scope.made_of(self._errors)))
        self.generic_visit(node)


def messages_of(sources: Mapping[str, str]) -> list[Message]:
    """Return the messages of all errors that source files make: name -> content."""
    classes = {BASE}
    bases = dict(
        each
        for text in sources.values()
        for each in re.findall(r"^class (\w+)\((\w+)\)", text, re.M)
    )
    while more := {name for name, base in bases.items() if base in classes} - classes:
        classes |= more
    raising = re.compile(rf"\b({'|'.join(classes)})\b")
    trees = {name: ast.parse(text) for name, text in sources.items() if raising.search(text)}
    constants = {
        target.id: value
        for tree in trees.values()
        for node in tree.body
        for target, value in _assignments(node)
        if target.id.isupper()
    }
    found = []
    for name, tree in trees.items():
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        finder = _Finder(name, classes, Scope(constants, functions))
        finder.visit(tree)
        found += finder.found
    return found


def _assignments(node: ast.AST) -> Iterator[tuple[ast.Name, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name() as target], value=value):
            yield target, value
        case (
            ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value)
            | ast.NamedExpr(target=ast.Name() as target, value=value)
        ):
            yield target, value


def faults(message: Message) -> list[str]:
    """Return what is wrong with a message; nothing if it is good."""
    text = message.text
    if text in MADE_ELSEWHERE:
        return []
    bare = text
    while bare != (bare := COMPUTED.sub("{}", bare)):  # code is no part of the message
        pass
    found = []
    if "\n" in text or "\r" in text:
        found.append("is more than one line")
    if text.endswith(".") and not text.endswith("..."):
        found.append("ends with a full stop")
    if re.match(r"[A-Z][a-z]*\b", text):  # BLEU and NomicBERT are names
        found.append("starts with a capital letter")
    if not NAMES_A_THING.search(text):
        found.append("names no thing")
    if not HELPS.search(bare) and not _passes_on(message):
        found.append("names neither the limit nor a way out")
    return found


def _passes_on(message: Message) -> bool:
    """Return whether a message has that of the system or of a library in it."""
    computed = " ".join(re.findall(r"\{([^{}]+)\}", message.text))
    return any(word in message.causes for word in re.findall(r"\w+", computed))


def test_every_error_names_the_thing_and_the_limit_or_a_way_out() -> None:
    sources = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    messages = messages_of(sources)
    assert len({message.where for message in messages}) > 500  # the search still finds them
    wrong = [(each.where, fault, each.text) for each in messages for fault in faults(each)]
    assert wrong == []
    assert MADE_ELSEWHERE.keys() <= {message.text for message in messages}


MODULE = """
class BadInput(EncodaxError): pass
class BadFile(BadInput):
    @classmethod
    def of(cls, path):
        return cls(f"{path}: broken")
HINT = "use another"
REASONS = {"a": "it is old"}
def way_out():
    return "start again"
def read(path, is_file):
    try:
        pass
    except OSError as error:
        raise BadFile(f"{path}: {error}")
    what = "one" if is_file else "two"
    raise BadInput(f"{what}: {HINT}; " "or " + way_out())
    raise ValueError("no message of ours")
    raise EncodaxError(f"{REASONS[path]}: {unknown()}")
"""


def test_messages_are_found() -> None:
    assert [(each.where, each.text) for each in messages_of({"a.py": MODULE})] == [
        ("a.py:6", "{path}: broken"),
        ("a.py:15", "{path}: {error}"),
        ("a.py:17", "one: use another; or start again"),
        ("a.py:17", "two: use another; or start again"),
        ("a.py:19", "it is old: {unknown()}"),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{path} does not exist\ngive another", "is more than one line"),
        ("{path} does not exist.", "ends with a full stop"),
        ("Give --steps or --epochs, not both", "starts with a capital letter"),
        ("something is missing", "names no thing"),
        ("give another one", "names no thing"),
        ("{path} is broken", "names neither the limit nor a way out"),
        ("the model failed: {reason}", "names neither the limit nor a way out"),
        ("width = {width} is not right", "names neither the limit nor a way out"),
        ("cannot read the file", "names neither the limit nor a way out"),
    ],
)
def test_bad_messages_are_found(text: str, fault: str) -> None:
    assert faults(Message("a.py:1", text)) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "give steps or epochs, not both",
        "{name} = {value} is not above 0",
        "BLEU needs sacrebleu: pip install 'encodax[train]'",
        "config.json: the key {key} is missing",
        "precision int8 is not for training: choose float32 or bfloat16",
    ],
)
def test_good_messages_pass(text: str) -> None:
    assert faults(Message("a.py:1", text)) == []


def test_the_message_of_the_system_may_be_passed_on() -> None:
    text = "{path} cannot be read: {error.strerror or error}"
    assert faults(Message("a.py:1", text, frozenset({"error"}))) == []
    assert faults(Message("a.py:1", text)) != []
