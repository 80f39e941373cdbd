"""Labels of a published configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encodax.errors import EncodaxError
from encodax.storage.json_files import shown


def labels_of(published: Mapping[str, Any], where: str = "config.json") -> tuple[str, ...]:
    """Return the names of the classes, in order.

    Published configurations leave out the names of two classes, their default.

    Args:
        published: configuration with `id2label`, or `num_labels`, or neither.
        where: the file, for error messages.

    Raises:
        EncodaxError: numbers are not 0, 1, ...; a name is missing, not text, or repeated; or
            `label2id` contradicts `id2label`.
    """
    names = published.get("id2label")
    if names is None:
        count = published.get("num_labels", 2)
        if not isinstance(count, int) or not 0 < count < 1_000_000:
            raise EncodaxError(f"{where}: num_labels = {count!r} is not in 1..1000000")
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(names, Mapping):
        raise EncodaxError(f"{where}: id2label must be an object, not {shown(names)}")
    if published.get("num_labels") not in (None, len(names)):  # which the published class prefers
        raise EncodaxError(
            f"{where}: num_labels = {published['num_labels']!r} contradicts the {len(names)} names "
            "of id2label"
        )
    if {str(number) for number in names} != {str(index) for index in range(len(names))}:
        raise EncodaxError(
            f"{where}: id2label numbers its labels {', '.join(map(str, names))}, not 0, 1, 2 and "
            "so on"
        )
    labels = [names[number] for number in sorted(names, key=int)]
    places: dict[str, int] = {}
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label:
            raise EncodaxError(
                f"{where}: id2label names the class {index} {shown(label)}: give it a name"
            )
        if places.setdefault(label, index) != index:
            raise EncodaxError(
                f"{where}: id2label names two classes {label!r}, {places[label]} and {index}: give "
                "each its own name"
            )
    _check_numbers(published.get("label2id"), places, where)
    return tuple(labels)


def count_of_labels(published: Mapping[str, Any]) -> Any:
    """Return the number of classes in a configuration."""
    names = published.get("id2label")
    return len(names) if isinstance(names, Mapping) else published.get("num_labels", 2)


def _check_numbers(numbers: Any, places: Mapping[str, int], where: str) -> None:
    """Refuse a `label2id` that contradicts `id2label`; default names like LABEL_0 are ignored.

    Raises:
        EncodaxError: it is not an object, or has another number for a name.
    """
    if numbers is None:
        return
    if not isinstance(numbers, Mapping):
        raise EncodaxError(f"{where}: label2id must be an object, not {shown(numbers)}")
    for label, number in numbers.items():
        is_default = label not in places and label == f"LABEL_{number}"
        if not is_default and str(places.get(label)) != str(number):
            raise EncodaxError(
                f"{where}: label2id numbers {label!r} {shown(number)}, and id2label "
                f"{places.get(label, 'has no such name')}: keep the one that the model was trained "
                "with"
            )
