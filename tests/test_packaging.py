"""The packages that pyproject lists are the ones that exist; each is found under one name."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edgec._version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
LINKED = ("passes", "targets", "calibration", "devices")


def packages_on_disk() -> set[str]:
    """The dotted name of every folder with an `__init__.py`, links not followed."""
    found = set()
    for package, folder in SETUPTOOLS["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            if package != "edgec" or below[:1] not in [(name,) for name in LINKED]:
                found.add(".".join((package, *below)))
    return found


def test_pyproject_lists_every_package() -> None:
    listed = SETUPTOOLS["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages_on_disk()


def test_every_folder_of_code_is_a_package() -> None:
    """A folder without `__init__.py` works in a checkout and is missing from the wheel."""
    tops = [ROOT / "edgec", *(ROOT / name for name in LINKED)]
    folders = {file.parent for top in tops for file in top.rglob("*.py")}
    assert [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", LINKED)
def test_link_points_home(name: str) -> None:
    link = ROOT / "edgec" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert SETUPTOOLS["package-dir"][f"edgec.{name}"] == name


def test_no_bare_name_is_importable(tmp_path: Path) -> None:
    """`import passes` would be a second copy of `edgec.passes`, with classes of its own."""
    program = f"""if True:
        from importlib.util import find_spec
        print([name for name in {LINKED!r} if find_spec(name)])
        print([name for name in {LINKED!r} if not find_spec("edgec." + name)])
    """
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["[]", "[]"]


def test_every_data_file_is_packaged() -> None:
    """Whatever is not Python beside the code is matched by a package-data pattern."""
    tracked = subprocess.run(
        ["git", "ls-files", "edgec", *LINKED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    package_of = {folder: package for package, folder in SETUPTOOLS["package-dir"].items()}
    missed = []
    for path in map(Path, tracked):
        if path.suffix == ".py" or (ROOT / path).is_symlink():
            continue
        package = ".".join((package_of[path.parts[0]], *path.parts[1:-1]))
        patterns = SETUPTOOLS["package-data"].get(package, [])
        if not any(path.match(pattern) for pattern in patterns):
            missed.append(str(path))
    assert missed == []


def test_one_version() -> None:
    """The installed version is the source's, and the changelog knows it."""
    version = edgec._version.__version__
    assert importlib.metadata.version("edgec") == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_direct_dependency() -> None:
    """Each requirement in pyproject has one exact, portable pin."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", pin), pin
    names = [pin.split("==")[0].lower().replace("_", "-") for pin in pins]
    assert len(names) == len(set(names))
    project = PYPROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = {re.split(r"[^A-Za-z0-9._-]", need)[0].lower() for group in groups for need in group}
    assert asked - {"edgec"} <= set(names)
