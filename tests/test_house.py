"""The rules of the house: who may import whom, what stays light, and that the map of files is complete."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "speechscale"

# Which rooms a room may import, besides itself and `errors`. Every room is listed after the ones that it imports.
DOORS: dict[str, set[str]] = {
    "records": set(),
    "compute": {"records"},
    "workers": {"records", "compute"},
    "speech": {"records", "compute"},
    "datasets": {"records", "speech"},
    "units": {"records", "compute"},
    "tokens": {"records"},
    "model": {"records", "compute"},
    "train": {"records", "compute", "tokens", "model"},
    "evals": {"records", "model"},
    "laws": {"records"},
    "plan": {"records", "laws"},
    "report": {"records", "laws"},
    "jobs": {
        "records",
        "compute",
        "workers",
        "speech",
        "datasets",
        "units",
        "tokens",
        "model",
        "train",
        "evals",
    },
    "study": {
        "records",
        "compute",
        "workers",
        "speech",
        "units",
        "tokens",
        "model",
        "train",
        "laws",
        "report",
        "jobs",
    },
    "cli": {
        "records",
        "compute",
        "workers",
        "units",
        "train",
        "evals",
        "laws",
        "plan",
        "report",
        "jobs",
        "study",
    },
}

# The doors of each file of the two rooms that bring others together, besides `records`, `workers` and `errors`.
FILE_DOORS: dict[str, set[str]] = {
    "jobs/__init__": set(),
    "jobs/convert": {"units"},
    "jobs/encode": {"compute", "speech", "units"},
    "jobs/evaluate": {"compute", "evals"},
    "jobs/evaluate_loss": {"compute", "train"},
    "jobs/null_scores": {"compute", "evals", "model"},
    "jobs/evaluate_text": {"compute", "datasets", "evals", "model"},
    "jobs/generate": {"compute", "model", "speech", "train", "units"},
    "jobs/interchange": {"model", "train", "units"},
    "jobs/learn_units": {"compute", "speech", "units"},
    "jobs/list_corpus": {"datasets"},
    "jobs/load_model": {"compute", "model", "train"},
    "jobs/prepare_benchmark": {"compute", "datasets"},
    "jobs/samples": {"speech", "units"},
    "jobs/synthesize": {"compute", "speech"},
    "jobs/tokenize": {"compute", "tokens"},
    "jobs/train_run": {"train"},
    "jobs/verify": {"units"},
    "study/__init__": set(),
    "study/branching": {"jobs", "train"},
    "study/folder": set(),
    "study/ladder": {"train"},
    "study/run": {"jobs", "laws", "report", "speech", "units"},
    "study/series": {"compute", "jobs", "tokens"},
    "study/shards": {"jobs", "tokens", "train"},
    "study/spec": {
        "compute",
        "model",
        "speech",
        "tokens",
        "train",
        "units",
    },  # their specs, as tables of the TOML
    "study/status": {"jobs", "train"},
    "study/summary": {"train"},
}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("speechscale."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.split(".")[1] for alias in node.names if alias.name.startswith("speechscale.")
            }
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    """Modules of this package that a file imports; a package is what its own `__init__` holds."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("speechscale"):
            for alias in node.names:
                place = SOURCE.parent / (node.module or "").replace(".", "/") / alias.name
                inside = place.with_suffix(".py").exists() or place.is_dir()
                found.add(f"{node.module}.{alias.name}" if inside else str(node.module))
    return found - {module_of(path)}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_rooms_import_only_through_their_doors(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "errors"):
        assert not imported_rooms(path)
        return
    assert imported_rooms(path) <= DOORS[room] | {room, "errors"}


@pytest.mark.parametrize("name", sorted(FILE_DOORS))
def test_files_of_jobs_and_study_import_only_through_their_own_doors(name: str) -> None:
    room = name.split("/")[0]
    found = imported_rooms(SOURCE / f"{name}.py") - {room, "records", "workers", "errors"}
    assert found == FILE_DOORS[name]


def test_every_file_of_jobs_and_study_has_its_doors() -> None:
    files = {f"{room}/{path.stem}" for room in ("jobs", "study") for path in (SOURCE / room).glob("*.py")}
    assert files == FILE_DOORS.keys()


@pytest.mark.parametrize("path", sorted((SOURCE / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_command_file_imports_one_job(path: Path) -> None:
    jobs = {module for module in imported_modules(path) if module.startswith("speechscale.jobs")}
    assert len(jobs) <= 1


def test_no_room_imports_a_later_one() -> None:
    order = list(DOORS)
    assert all(order.index(door) < order.index(room) for room, doors in DOORS.items() for door in doors)


def test_module_imports_have_no_circle() -> None:
    """No circle, not even one that is hidden in a function or under TYPE_CHECKING."""
    graph = {module_of(path): imported_modules(path) for path in SOURCE.rglob("*.py")}
    TopologicalSorter(graph).prepare()


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import speechscale",
        "import speechscale.cli",
        "import speechscale.laws, speechscale.plan",
        "import speechscale.report",
        "import speechscale.study.spec, speechscale.study.ladder, speechscale.study.summary, speechscale.study.status",
    ],
)
def test_light_rooms_do_not_import_torch(statement: str) -> None:
    assert "torch" not in loaded_by(statement)


def test_help_loads_nothing_heavy() -> None:
    assert not {"numpy", "polars", "altair", "scipy", "pydantic"} & loaded_by("import speechscale.cli")


def test_architecture_maps_every_file() -> None:
    """One line per file, so that the map is the table of contents."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    files = [path for path in SOURCE.rglob("*") if path.suffix in {".py", ".toml", ".css", ".js", ".html"}]
    files += [
        *(ROOT / "studies").glob("*.toml"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "docs").glob("*.md"),
    ]
    names = {
        str(path.relative_to(SOURCE)) if path.is_relative_to(SOURCE) else str(path.relative_to(ROOT))
        for path in files
        if path.name != "__init__.py"
    }
    missing = sorted(name for name in names if f"`{name}`" not in page)
    assert not missing, f"not in the map of files: {missing}"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_architecture_describes_modules_as_their_docstrings_do(path: Path) -> None:
    """The line of a file is the first paragraph of its docstring, so neither becomes outdated."""
    if path.name == "__init__.py":
        return
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    summary = docstring.split("\n\n")[0].replace("\n", " ")
    assert f"- `{path.relative_to(SOURCE)}`: {summary}\n" in page


def test_architecture_names_only_existing_files() -> None:
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("- `")]
    assert named and not [name for name in named if not ((SOURCE / name).exists() or (ROOT / name).exists())]


def test_functions_named_in_the_architecture_exist() -> None:
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_/]+\.py):(\w+)`", page)
    assert len(named) > 30
    missing = [
        f"{file}:{name}"
        for file, name in named
        if not re.search(rf"^(def|class) {name}\b", (SOURCE / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not missing


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    """At most 400 lines a file; outside the command files 60 lines a function, and seven parameters."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    if room_of(path) == "cli":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            arguments = [
                each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            ]
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
            assert len([name for name in arguments if name not in ("self", "cls")]) <= 7, node.name
