"""Table of a step's plan for the terminal."""

from __future__ import annotations

from rich.table import Table

from encodax.training.estimate.cost import Expected, StepPlan

NOTES = (
    "Compiled for CPU. Accelerators attend in another form and fuse otherwise, which changes what "
    "there is in between; and they may make a reduce-scatter of an all-reduce whose result is cut: "
    "half its bytes."
)


def table_of(plan: StepPlan, expected: Expected | None) -> Table:
    """Return a table of the memory and work of one device in a step, and of all devices."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan.mesh.items())
    title = f"a step of {plan.tokens:,} tokens on {plan.devices:,} devices ({mesh})"
    table = Table("", "each device", "all devices", title=title, caption=NOTES)
    for column in table.columns[1:]:
        column.justify = "right"

    def add(name: str, value: int | float, unit: str) -> None:
        table.add_row(name, amount(value, unit), amount(value * plan.devices, unit))

    rows = f"{plan.micro_batches} x {plan.rows} rows of {plan.row_tokens}"
    table.add_row("tokens", rows, f"{plan.tokens:,}")
    table.add_row("parameters", "", f"{plan.parameter_count:,}")
    table.add_section()
    add("parameters held", plan.parameter_bytes, "B")
    add("optimizer state", plan.optimizer_bytes, "B")
    add("batch", plan.batch_bytes, "B")
    add("activations, gradients, gathered parameters", plan.temporary_bytes, "B")
    add("held at most", plan.held_bytes, "B")
    table.add_section()
    add("products of matrices", plan.flops, "FLOP")
    for kind, size in plan.sent.items():
        add(f"sent, {kind}", size, "B")
    add("sent in all", plan.sent_bytes, "B")
    table.add_section()
    if expected is None:
        table.add_row("time", "--peak-tflops and --bandwidth-gbs give it", "")
        return table
    table.add_row("time of products", amount(expected.compute, "s"), "")
    table.add_row("time of sending", amount(expected.exchange, "s"), "")
    between = f"{amount(expected.overlapped, 's')} .. {amount(expected.apart, 's')}"
    speed = f"{plan.tokens / expected.apart:,.0f} .. {plan.tokens / expected.overlapped:,.0f}"
    table.add_row("time of a step, tokens/s", between, speed)
    return table


def amount(value: int | float, unit: str) -> str:
    """Format a number with three digits and a prefix: 2,937,328,080 B are `2.94 GB`.

    >>> amount(2_937_328_080, "B"), amount(0.0031, "s"), amount(12, "B")
    ('2.94 GB', '3.1 ms', '12 B')
    """
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    if value == 0 or unit != "s":
        return f"{value:.3g} {unit}"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"
