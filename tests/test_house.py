"""Rules of the house that no other tool checks: sizes, loading, safety, docstrings, what is committed."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "src" / "swath"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400

# Modules whose loaders run code, or can run code, that a file chooses.
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
UNSAFE_CALLS = {
    "torch.load": "reads pickles; use safetensors",
    "torch.hub.load": "runs code from the network",
    "yaml.load": "use yaml.safe_load",
    "yaml.unsafe_load": "use yaml.safe_load",
    "yaml.full_load": "use yaml.safe_load",
    "pd.read_pickle": "reads pickles",
    "pandas.read_pickle": "reads pickles",
    "eval": "runs text as code",
    "exec": "runs text as code",
    "__import__": "imports by a name",
    "os.system": "runs a shell",
}
# These import by names that are written in the code, never by names read from a file.
MAY_IMPORT_BY_NAME = {"__init__.py", "cli.py", "registry.py"}


def _place(path: Path, node: ast.AST | None = None) -> str:
    line = "" if node is None else f":{getattr(node, 'lineno', '?')}"
    return f"{path.relative_to(PROJECT)}{line}"


def _nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            yield path, node


def _python(code: str) -> str:
    """Runs code in a fresh interpreter in which every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {}
    for folder in ("src", "tests", "benchmarks"):
        for path in (PROJECT / folder).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MOST_LINES:
                long[_place(path)] = lines
    assert not long, f"over {MOST_LINES} lines; split them by what they are about: {long}"


def test_no_drawer_for_everything() -> None:
    drawers = [
        _place(path) for path in MODULES if path.stem in {"utils", "util", "helpers", "common", "misc"}
    ]
    assert not drawers, f"name the file after what it holds: {drawers}"


def test_every_folder_of_the_package_is_a_package() -> None:
    bare = sorted({_place(path.parent) for path in MODULES if not (path.parent / "__init__.py").is_file()})
    assert not bare, f"folders without __init__.py are left out by some tools: {bare}"


def test_import_swath_loads_only_the_standard_library() -> None:
    loaded = _python(
        "import sys; before = set(sys.modules); import swath;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    ).split()
    strangers = set(loaded) - set(sys.stdlib_module_names) - {"swath"}
    assert not strangers, f"load these when a name is used, not at import: {sorted(strangers)}"


def test_import_swath_takes_under_150_milliseconds() -> None:
    # CPU time of the import alone, the best of five: a busy machine does not change it much.
    code = "import time; start = time.process_time(); import swath; print(time.process_time() - start)"
    assert min(float(_python(code)) for _ in range(5)) < 0.15


def test_help_loads_no_heavy_library() -> None:
    heavy = _python(
        "import contextlib, io, sys\n"
        "from swath.cli import main\n"
        "sys.argv = ['swath', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "print(*sorted({'torch', 'timm', 'pandas', 'sklearn', 'rasterio', 'matplotlib'} & set(sys.modules)))"
    )
    assert heavy == "", f"swath --help loads {heavy}"


def test_nothing_read_from_a_file_chooses_code() -> None:
    found = []
    for path, node in _nodes():
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module.split(".")[0]]
        found += [f"{_place(path, node)}: import {name}" for name in names if name in UNSAFE_MODULES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in UNSAFE_CALLS:
            found.append(f"{_place(path, node)}: {called}: {UNSAFE_CALLS[called]}")
        if called.endswith("import_module") and path.name not in MAY_IMPORT_BY_NAME:
            found.append(f"{_place(path, node)}: {called}: imports by a name")
        if called.endswith(("extractall", ".unpack_archive")):
            found.append(f"{_place(path, node)}: {called}: writes wherever the archive says")
        for keyword in node.keywords:
            if keyword.arg in {"allow_pickle", "shell"} and ast.unparse(keyword.value) != "False":
                found.append(f"{_place(path, node)}: {called}({keyword.arg}=...)")
    assert not found, "\n".join(found)


def test_user_input_is_checked_with_errors_not_with_assert() -> None:
    # swath.testing is test code that plug-in authors reuse: there an assert is the point.
    own = PACKAGE / "testing"
    found = [
        _place(path, node)
        for path, node in _nodes()
        if isinstance(node, ast.Assert) and own not in path.parents
    ]
    assert not found, f"python -O removes assert; raise a class from swath.errors: {found}"


def test_no_handler_catches_everything_and_goes_on() -> None:
    found = []
    for path, node in _nodes():
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        # Cleaning up and raising again is allowed.
        if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            found.append(_place(path, node))
    assert not found, f"name the exceptions that can really happen: {found}"


def test_public_names_are_documented_with_an_example() -> None:
    import swath

    undocumented, without_example = [], []
    for name in swath.__all__:
        thing = getattr(swath, name)
        if isinstance(thing, str | int):  # __version__ and the label states
            continue
        text = inspect.getdoc(thing) or ""
        if not text:
            undocumented.append(name)
            continue
        is_error = inspect.isclass(thing) and issubclass(thing, Exception)
        if callable(thing) and not is_error and not re.search(r"^Examples?:", text, re.MULTILINE):
            without_example.append(name)
    assert not undocumented
    assert not without_example


def test_every_lower_bound_says_why() -> None:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    core = text.split("\ndependencies = [")[1].split("\n]")[0].strip().splitlines()
    silent = [line.strip() for line in core if not re.fullmatch(r'\s*"[^"]+>=[^"<]+",\s+# .{5,}', line)]
    assert not silent


def test_nothing_of_one_machine_is_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    # Absolute paths of somebody's machine, and the hosts one machine installs from.
    personal = re.compile(
        r"(?<![\w.:/~-])/(?:work|root|home|Users|tmp)/[\w.]|pypi\.|python[h]osted", re.IGNORECASE
    )
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = PROJECT / name
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # a picture, or removed but not yet committed
            continue
        found += [
            f"{name}:{number}: {match.group()}"
            for number, line in enumerate(text.splitlines(), 1)
            if (match := personal.search(line))
        ]
    assert not found, "\n".join(found)
