from __future__ import annotations

from minireduce.auth import policy
from minireduce.auth.policy import Kind
from minireduce.proto import services_pb2


def methods():
    services = services_pb2.DESCRIPTOR.services_by_name.values()
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


def test_every_method_has_a_row_and_every_row_a_method():
    assert len(methods()) >= 10
    assert sorted(policy.RPCS) == sorted(methods())


def test_no_method_is_open_to_everybody():
    for method in methods():
        assert Kind.NOBODY not in policy.RPCS[method], method
