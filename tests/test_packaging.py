"""What is developed, what is type-checked and what is shipped are the same modules; what is installed is pinned."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]
SHIPPED = {".py", ".pyi", ".proto", ".typed", ".jsonl"}

GPU_BUILDS_BRING = ("nvidia-", "cuda-", "triton")
"""Names that only torch's GPU builds require, in the versions that it names itself."""


def developed() -> set[str]:
    """Every file that ought to be shipped, as the wheel names it."""
    return {
        f"{name.replace('.', '/')}/{file.name}"
        for name, folder in PACKAGES.items()
        for file in (ROOT / folder).iterdir()
        if file.suffix in SHIPPED or file.name == "py.typed"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline from a copy: setuptools leaves a `build` folder where it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in PACKAGES.values():
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", *offline, "--wheel-dir", str(out), str(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_holds_the_modules_that_are_developed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert files == developed()


def test_the_wheel_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = {name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist()}
    assert metadata["LICENSE"] == (ROOT / "LICENSE").read_text("utf-8")
    assert "adapterd = adapterd.daemon.cli:main" in metadata["entry_points.txt"]
    assert "License-Expression: Apache-2.0" in metadata["METADATA"]


def test_every_package_is_listed_and_has_its_link_for_the_type_checkers() -> None:
    links = ROOT / ".links" / "adapterd"
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(PACKAGES)
    top = {name: folder for name, folder in PACKAGES.items() if name.count(".") == 1}
    assert {f"adapterd.{link.name}" for link in links.iterdir()} == set(top)
    for name, folder in top.items():
        link = links / name.rpartition(".")[2]
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert link.resolve() == ROOT / folder


def test_no_package_has_an_unlisted_package_inside() -> None:
    """It would import in development and be missing from the wheel."""
    listed = {ROOT / folder for folder in PACKAGES.values()}
    inside = {path.parent for folder in PACKAGES.values() for path in (ROOT / folder).glob("*/**/*.py")}
    assert inside <= listed


def test_the_namespace_stays_open() -> None:
    """An `__init__.py` above the four packages would hide whichever of them lies elsewhere."""
    assert not (ROOT / "proto" / "adapterd" / "__init__.py").exists()
    assert not (ROOT / ".links" / "adapterd" / "__init__.py").exists()


def pins() -> dict[str, Version]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())
    named = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): Version(version) for name, version in named}


def direct() -> list[Requirement]:
    """What the project itself asks for where it is developed: with the extras that `dev` names, itself left out."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    lines = [Requirement(line) for line in extras["dev"]]
    named = {extra for line in lines if line.name == project["name"] for extra in line.extras}
    asked = [*project["dependencies"], *extras["dev"], *(line for extra in sorted(named) for line in extras[extra])]
    return [line for line in map(Requirement, asked) if line.name != project["name"]]


def closure() -> set[str]:
    """The names of everything that the project pulls in on this machine."""
    names: set[str] = set()
    todo = [(requirement, {""} | requirement.extras) for requirement in direct()]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement, extras = todo.pop()
        name = canonicalize_name(requirement.name)
        names.add(name)
        for extra in {extra for extra in extras if (name, extra) not in seen}:
            seen.add((name, extra))
            try:
                below = [Requirement(line) for line in requires(requirement.name) or []]
            except PackageNotFoundError as error:
                raise AssertionError(f"{name} is not installed: run `make setup`") from error
            wanted = (line for line in below if line.marker is None or line.marker.evaluate({"extra": extra}))
            todo.extend((line, {""} | line.extras) for line in wanted)
    return names


def imported(file: Path) -> Iterator[str]:
    """The names, as far as they tell whose they are, that a module imports from elsewhere."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top != "adapterd" and top not in sys.stdlib_module_names:
                yield ".".join(name.split(".")[:2]) if top == "google" else top


def test_what_is_imported_is_asked_for() -> None:
    """Else it is there only because something else happens to want it."""
    google = {"google.protobuf": ["protobuf"], "google.rpc": ["googleapis-common-protos"]}
    owners = {**packages_distributions(), **google}
    asked = {canonicalize_name(Requirement(line).name) for line in PYPROJECT["project"]["dependencies"]}
    extra = {
        canonicalize_name(Requirement(line).name) for line in PYPROJECT["project"]["optional-dependencies"]["tune"]
    }
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for folder in PACKAGES.values()
        for file in (ROOT / folder).glob("*.py")
        for name in imported(file)
        if (asked | (extra if file.name == "tuning.py" else set())).isdisjoint(
            canonicalize_name(owner) for owner in owners.get(name, [])
        )
    }
    assert missing == set()


def test_every_dependency_has_its_reason_in_the_documentation() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    names = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
    assert names - table == set()


def test_every_requirement_is_pinned_to_a_version_that_it_allows() -> None:
    pinned = pins()
    wrong = [str(line) for line in direct() if not line.specifier.contains(pinned[canonicalize_name(line.name)])]
    assert wrong == []


def test_everything_that_gets_installed_is_pinned() -> None:
    unpinned = {name for name in closure() if not name.startswith(GPU_BUILDS_BRING)} - pins().keys()
    assert unpinned <= {"pip"}, "pip comes with the virtual environment"


@pytest.mark.skipif(
    (sys.version_info[:2], sys.platform) != ((3, 11), "linux"), reason="elsewhere some packages are not needed"
)
def test_nothing_is_pinned_that_nobody_needs() -> None:
    assert pins().keys() - closure() == set()
