"""The toy runs compile in haste."""

from toys import quick_compiler

__all__ = ["quick_compiler"]
