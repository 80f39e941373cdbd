"""Costs read from HLO as text."""

from __future__ import annotations

import pytest

from encodax.training.estimate.hlo import costs_of

PROGRAM = """
HloModule jit_step, num_partitions=8

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {{
  %p = (s32[], /*index=1*/f32[4,8]{{1,0}}) parameter(0)
  %x = f32[4,8]{{1,0}} get-tuple-element(%p), index=1
  %w = f32[8,8]{{1,0}} constant({{...}})
  %y = f32[4,8]{{1,0}} dot(%x, %w), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
  ROOT %t = (s32[], f32[4,8]{{1,0}}) tuple(%i, %y)
}}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {{
  %a = f32[4,8]{{1,0}} parameter(0)
  %loop = (s32[], f32[4,8]{{1,0}}) while(%start), condition=%body, body=%body{trips}
  ROOT %sum = {type} {kind}(%a), channel_id=1, {groups}, metadata={{op_name="sum"}}
}}
"""
TRIPS = ', backend_config={"known_trip_count":{"n":"5"}}'
OF_BODY = 2 * 4 * 8 * 8


def program(
    kind: str = "all-reduce",
    type: str = "f32[4,8]{1,0}",
    groups: str = "replica_groups={}",
    trips: str = TRIPS,
) -> str:
    return PROGRAM.format(kind=kind, type=type, groups=groups, trips=trips)


def test_a_body_counts_as_often_as_it_runs() -> None:
    costs = costs_of(program())
    assert (costs.flops, costs.unknown_loops) == (5 * 2 * OF_BODY, 0)  # as condition and body
    unknown = costs_of(program(trips=""))
    assert (unknown.flops, unknown.unknown_loops) == (2 * OF_BODY, 1)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={}", 8),
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}", 4),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'data','fsdp'}", 8),
        ("replica_groups=mesh['a'=8] {'a':(1)2}", 2),
    ],
)
def test_groups_are_read_in_every_form(groups: str, size: int) -> None:
    assert costs_of(program(groups=groups)).sent == {"all-reduce": 2 * (size - 1) / size * 128}


@pytest.mark.parametrize(
    ("kind", "type", "sent"),
    [
        ("all-gather", "f32[4,8]{1,0}", 7 / 8 * 128),
        ("reduce-scatter", "f32[4]{0}", 7 * 16),
        ("all-to-all", "(bf16[8]{0}, /*index=1*/pred[8]{0})", 7 / 8 * 24),
        ("collective-permute", "f32[]", 4),
    ],
)
def test_each_kind_sends_what_its_ring_sends(kind: str, type: str, sent: float) -> None:
    assert costs_of(program(kind, type)).sent == {kind: sent}
