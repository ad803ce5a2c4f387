"""Quality control of a store: its contents, outliers, three planes of every case on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console
from alice3d.config import CommandConfig, Reads, Writes

GROUPS = 10
"""Of equal scans that are printed; the page holds more."""
OF_KIND = 3
"""Remarks of one kind that are printed."""


class InspectConfig(CommandConfig):
    """`alice inspect STORE [--page FILE.html]`."""

    positional: ClassVar[tuple[str, ...]] = ("store",)
    store: Annotated[Path, Reads()]
    """Folder that `alice prepare` filled."""
    page: Annotated[Path | None, Writes(file=True, within={"store": "*.html"})] = None
    """HTML file to write; left out, inspect.html in the store."""
    thumbnails: Annotated[int, Field(ge=0)] = 1000
    """Maximum number of cases with pictures, sampled evenly."""


def run(config: InspectConfig) -> dict[str, Any]:
    """Write the page; returns counts, duplicates and outliers."""
    from alice3d.data.store import Store
    from alice3d.data.store.inspection import Outlier, by_kind
    from alice3d.errors import UserError
    from alice3d.report.store_page import write_store_page

    store = Store.open(config.store)
    page = config.page or config.store / "inspect.html"
    if not store.cases():
        raise UserError(f"{config.store}: holds no scans yet")
    try:
        result = write_store_page(store, page, thumbnails=config.thumbnails)
    except OSError as error:
        raise UserError(f"{page}: cannot be written ({error.strerror})") from None
    for group in result["duplicates"][:GROUPS]:
        console.say(f"Duplicate scans: {', '.join(group)}")
    if len(result["duplicates"]) > GROUPS:
        console.say(f"... and {len(result['duplicates']) - GROUPS} more groups of duplicate scans")
    for kind, its in by_kind([Outlier(**one) for one in result["unusual"]]).items():
        for one in its[:OF_KIND]:
            console.say(f"{one.case}: {one.what}")
        if len(its) > OF_KIND:
            console.say(f"... and {len(its) - OF_KIND} more: {kind}")
    console.say(f"Page written to {page}. Next: open it")
    return result
