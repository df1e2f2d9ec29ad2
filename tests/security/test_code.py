"""What the code itself must not do: read as a tree, every module of ours."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import Settings

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("rules", "streams") for path in (ROOT / package).rglob("*.py"))
EXECUTE_DATA = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
EXECUTE_TEXT = {"eval", "exec", "__import__"}
# Methods that build any object a YAML file names; `safe_load` and the node composer do not.
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
# Where a client's address may be named: the one place for each, and Faust's broker with the log line beside it.
CONNECT = {"streams/connecting.py", "streams/settings.py", "streams/application.py", "streams/store/redis.py"}
# Its servers are the demo's own, on a socket that only this user may open.
EMBEDDED = {"streams/demo/worker.py"}
SECRET_OPTIONS = {"password", "secret", "token", "key"}


def _nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(), filename=str(path)))


def _called(node: ast.AST) -> str:
    """`a.b.c` for a call of that name."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_data_is_executed(path: Path) -> None:
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]}
        else:
            names = set()
        assert not names & EXECUTE_DATA, f"{_name(path)}:{getattr(node, 'lineno', 0)}"
        assert _called(node) not in EXECUTE_TEXT, f"{_name(path)}:{getattr(node, 'lineno', 0)}"
        module, _, function = _called(node).rpartition(".")
        assert not (module == "yaml" and function in UNSAFE_YAML), f"{_name(path)}:{getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_listener_is_open_to_the_world(path: Path) -> None:
    """An empty host, 0.0.0.0 and :: are every address the machine has."""
    for node in _nodes(path):
        if isinstance(node, ast.Constant):
            assert node.value not in ("0.0.0.0", "::", "*:"), f"{_name(path)}:{node.lineno}"
        if _called(node).rpartition(".")[2] in ("TCPSite", "start_server", "create_server", "Server"):
            assert "''" not in ast.unparse(node), f"{_name(path)}:{getattr(node, 'lineno', 0)}"


def test_the_collector_listens_on_loopback_unless_told_otherwise() -> None:
    assert Settings.model_fields["collector_host"].default == "127.0.0.1"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_clients_are_made_with_the_options_that_secure_them(path: Path) -> None:
    """A client made with an address alone would connect in the clear, whatever the settings say."""
    if _name(path) in CONNECT | EMBEDDED:
        return
    for node in _nodes(path):
        place = f"{_name(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and _called(node).startswith("AIOKafka"):
            unpacked = [ast.unparse(each.value) for each in node.keywords if each.arg is None]
            assert any(each.startswith("kafka_options(") for each in unpacked), place
        assert not _called(node).endswith("from_url"), place
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node).rpartition("settings.")[2] not in ("kafka", "redis"), place


def test_secrets_are_no_options_of_commands() -> None:
    """Everybody on a machine can read the arguments of every process."""
    options = {
        argument.arg
        for file in (ROOT / "streams" / "commands").glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        for argument in node.args.kwonlyargs
    }
    assert {"email", "since", "log_level"} <= options
    assert not {option for option in options if SECRET_OPTIONS & set(option.split("_"))}
