"""Loading of classes that wrap a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self


class Loading:
    """Base of classes whose first argument is a model: they load a model directory themselves."""

    @classmethod
    def _loader(cls) -> Callable[..., Any]:
        """Return the function that loads the model, with the arguments of `Model.load`."""
        raise NotImplementedError

    @classmethod
    def load(
        cls,
        path_or_id: Path | str,
        *,
        revision: str | None = None,
        token: str | None = None,
        **options: Any,
    ) -> Self:
        """Load a model directory or a model of the Hub, and wrap it.

        Args:
            path_or_id: a directory, or an id on the Hub such as
                `sentence-transformers/all-MiniLM-L6-v2`.
            revision: a branch, tag or commit of the Hub repository.
            token: access token for a private repository.
            **options: keyword arguments of the class.

        Raises:
            EncodaxError: the model cannot be loaded, see `Model.load`.
        """
        model = cls._loader()(path_or_id, revision=revision, token=token)
        return cls(model, **options)  # type: ignore[call-arg]
