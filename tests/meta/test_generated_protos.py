"""The committed protobuf code is what the compiler makes of `protos/`, and asks for no newer runtime than we do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATE = ROOT / "tools" / "generate_protos"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)


def why_no_compiler():
    """Why the pinned compiler cannot be had here; empty if it can."""
    if "MINIREDUCE_PROTOC_PYTHON" in os.environ:
        return ""
    if sys.version_info >= (3, 13):
        return "the pinned compiler has no wheels for this Python; set MINIREDUCE_PROTOC_PYTHON"
    pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    asked = run(*pip, "--dry-run", "--no-deps", "--target", "unused", "grpcio-tools==1.62.3")
    return "" if asked.returncode == 0 else f"the package registry cannot be reached: {asked.stderr.strip()[-200:]}"


@pytest.mark.timeout(300)
def test_the_generated_code_is_fresh(tmp_path):
    reason = why_no_compiler()
    if reason:
        pytest.skip(f"THE GENERATED CODE WAS NOT COMPARED: {reason}")
    checked = run(sys.executable, str(GENERATE), "--check", "--venv", str(tmp_path / "compiler"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_message_of_the_protos_is_in_the_generated_code():
    names = [
        (path, name)
        for path in sorted((ROOT / "protos").rglob("*.proto"))
        for name in re.findall(r"^(?:message|service) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) >= 50
    for path, name in names:
        described = import_module(f"minireduce.proto.{path.stem}_pb2").DESCRIPTOR
        assert name in {*described.message_types_by_name, *described.services_by_name}


def test_the_generated_code_carries_no_lower_bound_on_the_runtime():
    generated = sorted((ROOT / "minireduce" / "proto").glob("*_pb2.py"))
    assert len(generated) >= 5
    for path in generated:
        assert "runtime_version" not in path.read_text(encoding="utf-8"), path
