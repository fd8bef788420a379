from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lint_imports(*arguments, cwd=ROOT):
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_imports_keep_to_every_contract_of_the_project_file():
    done = lint_imports()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_an_import_that_goes_up_would_be_found(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "attic.py").touch()
    (package / "cellar.py").write_text("from house import attic\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["house"]\n[[tool.importlinter.contracts]]\nname = "Down only"\n'
        'type = "layers"\ncontainers = ["house"]\nlayers = ["attic", "cellar"]\n',
        encoding="utf-8",
    )
    done = lint_imports(cwd=tmp_path)
    assert done.returncode == 1
    assert "house.cellar is not allowed to import house.attic" in done.stdout
