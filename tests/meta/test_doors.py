"""The tables of doors are whole, and what comes through a door does not become part of a path."""

from __future__ import annotations

import ast
from pathlib import Path

from minireduce.auth import policy
from minireduce.auth.policy import Kind
from minireduce.proto import services_pb2

PACKAGE = Path(__file__).parents[2] / "minireduce"


def methods():
    services = services_pb2.DESCRIPTOR.services_by_name.values()
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


def test_every_method_has_a_row_and_every_row_a_method():
    assert len(methods()) >= 10
    assert sorted(policy.RPCS) == sorted(methods())


def test_no_method_is_open_to_everybody():
    for method in methods():
        assert Kind.NOBODY not in policy.RPCS[method], method


JOINED = {
    # made of what `ids` parsed, or of numbers
    ("attempt/places.py", "data_dir"): "the daemon's own directory",
    ("attempt/places.py", "attempt.task.job"): "an attempt comes over the wire through parse_attempt_id",
    ("attempt/places.py", "str(attempt)"): "the same",
    ("worker/outputs.py", "str(source)"): "the same",
    ("worker/outputs.py", "job"): "is_job_id is asked first",
    ("worker/replica_files.py", "f'{self.replica.block_id % FOLDERS:02x}'"): "a number",
    (
        "worker/replica_files.py",
        "f'{self.replica.block_id}.{self.replica.generation}.{suffix}'",
    ): "numbers and our suffix",
    ("worker/replica_writing.py", "f'.{self.replica.block_id}.{self._serial}.{suffix}'"): "the same",
    ("master/store.py", "f'{path.name}.new'"): "a name that stands in the code",
    # found in our own directories
    ("worker/outputs.py", "name"): "what the directory of a job or attempt lists",
    ("worker/outputs.py", "attempt"): "the same",
    ("worker/block_store.py", "folder_name"): "what the directory of blocks lists",
    ("worker/block_store.py", "name"): "the same",
    # one of a few names that stand in the code
    ("worker/block_server.py", "name"): "one of LOG_NAMES, asked first",
    ("worker/printing.py", "stream"): "stdout and stderr",
    ("worker/outputs.py", "f'{number}.runs'"): "the number of a fetch, and our suffix",
    ("worker/outputs.py", "f'{ASIDE_PREFIX}{job}.{secrets.token_hex(4)}'"): "a job's id, checked, and chance",
    ("worker/control_groups.py", "f'{TASK_PREFIX}{pid}'"): "a number",
    ("worker/control_groups.py", "name"): "files of /proc and of a control group that stand in the code",
    ("worker/control_groups.py", "Path(path).relative_to(root)"): "what the kernel says of this very process",
    ("worker/identity.py", "f'{path.name}.new'"): "the draft of a file whose name stands in the code",
    ("attempt/shipped_files.py", "file.name"): "a name without a directory, which is asked when the program is loaded",
    ("attempt/progress.py", "self.bytes_total"): "a division of numbers",
    ("worker/link_rates.py", "seconds"): "the same",
    ("worker/scrubbing.py", "self._limits.bytes_per_s"): "the same",
}
"""What daemons join to a path, by file, and why it may be: nothing here is text of a request."""


def joined_to_paths(text):
    """What a source puts behind a path: operands of `/`, arguments of calls that join; no literals, no CONSTANTS."""
    for node in ast.walk(ast.parse(text)):
        operands = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            operands = [node.right]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"joinpath", "with_name", "with_stem", "join"} and "path" in ast.unparse(node.func).lower():
                operands = node.args
            elif called in {"Path", "PurePath"}:
                operands = node.args[1:]
        for operand in operands:
            if not isinstance(operand, ast.Constant) and not ast.unparse(operand).isupper():
                yield ast.unparse(operand)


def test_the_search_finds_every_way_of_joining():
    text = "a / b\nPath(a, c)\npath.joinpath(d)\nos.path.join(a, e)\npath.with_name(f)\na / 'x'\na / NAME\n"
    assert sorted(joined_to_paths(text)) == ["a", "b", "c", "d", "e", "f"]


def test_only_names_that_were_parsed_are_joined_to_paths_in_daemons():
    found = {
        (path.relative_to(PACKAGE).as_posix(), operand)
        for folder in ("worker", "attempt", "master", "web")
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for operand in joined_to_paths(path.read_text(encoding="utf-8"))
    }
    assert found - set(JOINED) == set(), "say in JOINED why this may be joined to a path"
    assert set(JOINED) - found == set(), "this is joined no more"
