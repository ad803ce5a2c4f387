"""A page of one file: sections, tables and pictures, everything inline, nothing to run, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from alice3d.version import PROGRAM

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page may only show its own content: no script, no request."""


class Html(str):
    """Text that is already markup; anything else is escaped."""


def text(value: Any) -> str:
    """`value` as markup: escaped unless it is `Html`; None is an en dash."""
    if isinstance(value, Html):
        return str(value)
    return "–" if value is None else escape(str(value))


def paragraph(content: Any, *, kind: str = "") -> Html:
    """A paragraph; `kind` is a style: `note`, `lead`."""
    return Html(f"<p{_class(kind)}>{text(content)}</p>")


def code_block(lines: Sequence[str]) -> Html:
    """Lines of a terminal."""
    return Html("<pre><code>" + "\n".join(escape(line) for line in lines) + "</code></pre>")


def table(headers: Sequence[Any], rows: Sequence[Sequence[Any]], *, caption: str = "") -> Html:
    """A table whose first column is the row header; columns of numbers are right-aligned.

    Raises:
        ValueError: a row of another length than the headers.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"a row has {len(row)} cells, the table {len(headers)} columns")
    number = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    kinds = [_class("number" if each else "") for each in number]
    parts = ['<div class="scroll"><table>']
    if caption:
        parts.append(f"<caption>{text(caption)}</caption>")
    parts.append("<thead><tr>")
    parts += [f'<th scope="col"{kind}>{text(cell)}</th>' for cell, kind in zip(headers, kinds, strict=True)]
    parts.append("</tr></thead><tbody>")
    for row in rows:
        first, *rest = row
        parts.append(f'<tr><th scope="row"{kinds[0]}>{text(first)}</th>')
        parts += [f"<td{kind}>{text(cell)}</td>" for cell, kind in zip(rest, kinds[1:], strict=True)]
        parts.append("</tr>")
    parts.append("</tbody></table></div>")
    return Html("".join(parts))


def _is_number(cell: Any) -> bool:
    if cell is None or isinstance(cell, (int, float)):
        return True
    return (
        isinstance(cell, str) and bool(cell) and cell.lstrip("-+0123456789")[:1] in ("", ".", ",", ":", " ", "%", "/")
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def png_figure(png: bytes, *, alt: str, caption: Any = "") -> Html:
    """A PNG picture inside the page.

    Args:
        png: the file's bytes.
        alt: alternative text of the picture.
        caption: shown below.
    """
    data = base64.b64encode(png).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
    return _figure(image, caption)


def svg_figure(svg: str, *, caption: Any = "") -> Html:
    """An `<svg>` element, as `curves.svg_of` gives it."""
    return _figure(svg, caption)


def _figure(markup: str, caption: Any) -> Html:
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{markup}{below}</figure>")


@dataclass(frozen=True)
class Section:
    """A heading and its content; `name` is the anchor."""

    name: str
    heading: str
    parts: Sequence[Html]


def page(title: str, sections: Sequence[Section], *, lead: Any = "", foot: Any = "") -> str:
    """The whole page as HTML.

    Args:
        title: of the page.
        sections: in order; a list of links to them is at the top.
        lead: introduction.
        foot: footer, how the page was made.
    """
    style = resources.files("alice3d.report").joinpath("page.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{escape(s.name)}">{escape(s.heading)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{escape(s.name)}"><h2>{escape(s.heading)}</h2>{"".join(map(text, s.parts))}</section>'
        for s in sections
    )
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="generator" content="{PROGRAM}">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{paragraph(lead, kind='lead') if lead else ''}"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav></header>'
        f"<main>{body}</main><footer>{paragraph(foot) if foot else ''}</footer></body></html>\n"
    )
