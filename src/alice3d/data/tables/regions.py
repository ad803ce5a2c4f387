"""Names of single label values from nnU-Net's regions, which are unions of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alice3d.errors import UserError


def region_names(regions: Mapping[str, Sequence[Any]], known: Mapping[int, str], where: str) -> dict[int, str]:
    """Label value to name, for all values of some regions.

    A value is named after the smallest region that holds it: by the region's name where it has no other value, as
    `A_without_B` where the region is otherwise made of smaller ones, else with its number, `A_label_2`.

    Args:
        regions: name to values.
        known: names of single values, which stay.
        where: for messages.

    Raises:
        UserError: a value that is not an integer from 1 to 32,767, or a name that two values would have.
    """
    values_of = {name: frozenset(_value(value, name, where) for value in values) for name, values in regions.items()}
    names = dict(known)
    for value in sorted(frozenset().union(*values_of.values()) - set(known)):
        name = min((name for name, held in values_of.items() if value in held), key=lambda one: len(values_of[one]))
        parts = {other: held for other, held in values_of.items() if held < values_of[name]}
        parts |= {known[one]: frozenset({one}) for one in values_of[name] & set(known)}
        if values_of[name] == {value}:
            names[value] = name
        elif values_of[name].difference(*parts.values()) == {value}:
            largest = [one for one, held in parts.items() if not any(held < other for other in parts.values())]
            names[value] = f"{name}_without_{'_'.join(largest)}"
        else:
            names[value] = f"{name}_label_{value}"
    if len(set(names.values())) < len(names):
        raise UserError(f"{where}: two label values have the same name")
    return dict(sorted(names.items()))


def _value(value: Any, name: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip().isdigit():
        raise UserError(f"{where}: label value {value!r} of {name!r} is not an integer from 1 to 32767")
    if not 1 <= int(value) <= 32767:
        raise UserError(f"{where}: label value {value!r} of {name!r} is not an integer from 1 to 32767")
    return int(value)
