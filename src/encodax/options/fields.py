"""Declaration of a setting that is a command's option too."""

from __future__ import annotations

import dataclasses
from typing import Any

CHECKPOINTS = "Checkpoints"
DEVICES = "Devices"
LOSS = "Loss"
MONITORING = "Monitoring"
PARTIAL = "Partial fine-tuning"


def option(
    default: Any,
    help: str,
    *,
    panel: str | None = None,
    name: str | None = None,
    type: Any = None,
    show_default: bool = False,
) -> Any:
    """Return a dataclass field, with its description as a command's option.

    Args:
        default: value of the field by default.
        help: description in `--help`; it also says the default, where that is worth saying.
        panel: heading under which `--help` shows it.
        name: name of the option, if it is not the field's: `dropout` is `--dropout`.
        type: type on the command line, if it is not that of the field.
        show_default: whether the command has the default, and not None for "not given".
    """
    described = {
        "help": help,
        "panel": panel,
        "name": name,
        "type": type,
        "show_default": show_default,
    }
    return dataclasses.field(default=default, metadata=described)
