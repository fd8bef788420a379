from __future__ import annotations

import ast
from pathlib import Path

from minireduce import failpoints

PACKAGE = Path(failpoints.__file__).parent


def names_hit(text):
    """The names in calls of `hit`; None for a name that is computed."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in {"failpoints.hit", "hit"}:
            continue
        name = node.args[0]
        yield name.value if isinstance(name, ast.Constant) else None


def test_every_site_is_declared_and_every_declared_site_is_in_the_code():
    hit = [name for path in sorted(PACKAGE.rglob("*.py")) for name in names_hit(path.read_text(encoding="utf-8"))]
    assert set(hit) == failpoints.SITES
    assert len(hit) == len(set(hit)), "one name, one place"


def test_calls_are_found_wherever_they_stand():
    text = "def f():\n    failpoints.hit('a.b')\n    hit('c.d')\n    failpoints.hit(name)\n    self.hit('e.f')"
    assert list(names_hit(text)) == ["a.b", "c.d", None]
