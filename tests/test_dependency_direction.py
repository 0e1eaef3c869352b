"""Who may import whom: the core knows no simulator and no method, and they do not know each other."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Modules that cost seconds, or that a reader of results need not have.
HEAVY = {"torch", "torchvision", "mujoco", "metaworld", "libero", "robosuite", "cv2", "pybullet", "ai2thor", "OpenGL"}


def sources(folder):
    """Yield (path, syntax tree) of every module under a folder, not following the links to the other two."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if not any(parent.is_symlink() for parent in path.relative_to(ROOT).parents for parent in [ROOT / parent]):
            yield path, ast.parse(path.read_text(), filename=str(path))


def imported(tree):
    """Yield (line number, dotted name) of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def import_strings(tree):
    """Yield (line number, text) of string constants that name a module of ours, such as "flowbench.envs.toy:TOY"."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.fullmatch(r"flowbench\.(envs|agents)\.[\w.]+(:\w+)?", text):
            yield node.lineno, text


def at_module_level(tree):
    """Return the part of a tree that runs on import: no function bodies and no `if TYPE_CHECKING`."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    return Strip().visit(tree)


def violations(folder, forbidden, names):
    return [
        f"{path.relative_to(ROOT)}:{line} uses {name}"
        for path, tree in sources(folder)
        for line, name in names(tree)
        if name.startswith(forbidden)
    ]


@pytest.mark.parametrize("names", [imported, import_strings])
@pytest.mark.parametrize(
    "folder, forbidden",
    [
        # Entry points in pyproject.toml are the one place where the core's names meet the others'.
        ("flowbench", ("flowbench.envs", "flowbench.agents")),
        ("envs", ("flowbench.agents",)),
        ("agents", ("flowbench.envs",)),
    ],
)
def test_imports_go_one_way(folder, forbidden, names):
    assert violations(folder, forbidden, names) == []


def test_no_module_imports_the_folders_by_their_short_names():
    short = ("envs.", "agents.", "tests.")
    assert violations("flowbench", short, imported) == []
    assert violations("envs", short, imported) == []
    assert violations("agents", short, imported) == []


def test_the_core_imports_nothing_heavy_at_module_level():
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, tree in sources("flowbench")
        for line, name in imported(at_module_level(tree))
        if name.split(".")[0] in HEAVY
    ]
    assert found == []


def test_listing_suites_and_reading_results_loads_no_simulator():
    code = (
        "import sys, flowbench, flowbench.tables, flowbench.table_formats, flowbench.store, flowbench.doctor\n"
        "from flowbench.registry import get_suite, suite_names\n"
        "[get_suite(name) for name in suite_names()]\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


def test_the_checks_see_something():
    names = {path.name for path, _ in sources("flowbench")}
    assert {"env.py", "tables.py", "store.py"} <= names
    assert not any("envs" in path.relative_to(ROOT).parts for path, _ in sources("flowbench")), "links are not followed"
    tree = ast.parse(
        "import torch.nn\nfrom flowbench import envs\ndef f():\n    import mujoco\nX = 'flowbench.envs.toy:T'"
    )
    assert [name for _, name in imported(tree)] == ["torch.nn", "flowbench.envs", "mujoco"]
    assert [name for _, name in import_strings(tree)] == ["flowbench.envs.toy:T"]
    assert [name for _, name in imported(at_module_level(tree))] == ["torch.nn", "flowbench.envs"]
