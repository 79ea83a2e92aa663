"""What the pages show works: commands are accepted by the command line, names in examples exist."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if found[1] == language:
                yield page.relative_to(PROJECT).as_posix(), found[2]


def _commands() -> list[tuple[str, str]]:
    """Each `$ swath ...` line with its page, continued lines joined, comments cut."""
    return sorted(
        {
            (page, line[2:].strip())
            for page, text in _blocks("console")
            for line in text.replace("\\\n", " ").splitlines()
            if line.startswith("$ swath ")
        }
    )


def test_there_are_commands_to_check() -> None:
    assert {"train", "evaluate", "predict", "compare", "quickstart"} <= {
        command.split()[1] for _, command in _commands()
    }


@pytest.mark.parametrize(("page", "command"), _commands())
def test_commands_are_accepted(
    page: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from swath.cli import main

    words = shlex.split(command, comments=True)[1:]
    if "--config" in words:  # it is read while parsing, so it has to be there
        config = tmp_path / words[words.index("--config") + 1]
        config.parent.mkdir(parents=True)
        config.write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    try:
        # The options are parsed and printed; nothing is run.
        status = main([*words, "--print_config"])
    except SystemExit as ended:
        status = ended.code
    assert status in (0, None), f"{page}: {command}\n{capsys.readouterr().err}"


@pytest.mark.parametrize(
    ("page", "code"),
    [pytest.param(*block, id=f"{block[0]}-{n}") for n, block in enumerate(_blocks("python"))],
)
def test_names_in_examples_exist(page: str, code: str) -> None:
    import swath

    for node in ast.walk(ast.parse(code, page)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("swath"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "swath":
            assert node.attr in swath.__all__, f"swath.{node.attr} is not public"
