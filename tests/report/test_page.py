"""The page holds everything it shows, runs nothing, and what a file name says never becomes markup."""

import re
from html.parser import HTMLParser

import pytest

from alice3d.report.curves import Score, loss_curves, score_chart, svg_of
from alice3d.report.page import Html, Section, code_block, page, paragraph, png_figure, svg_figure, table

EVIL = '<script>alert("1")</script>&'


VOID = {"meta", "img", "br", "use", "path", "rect", "link"}


class Checked(HTMLParser):
    """Counts open tags, ids and pictures without a text beside."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.ids, self.tags, self.mute = [], [], [], 0
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if (tag == "img" and not attrs.get("alt")) or (tag == "svg" and not attrs.get("aria-label")):
            self.mute += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


LOG = [{"step": i, "loss": 3.0 / (i + 1), "class": 1.0, "learning_rate": 0.1, "step_s": 0.2} for i in range(50)]


def whole_page():
    curves = svg_of(loss_curves(LOG), name="Loss of Alice", alt="loss falls")
    more = svg_of(loss_curves(LOG), name="matcher", alt="loss falls")
    chart = score_chart({"liver": {"scratch": Score(0.5, 0.4, 0.6), "Alice": Score(0.7)}, EVIL: {"Alice": Score(0.1)}})
    parts = [
        paragraph(EVIL),
        code_block([EVIL]),
        table([EVIL, "mm"], [[EVIL, 1.5], ["b", None]], caption=EVIL),
        svg_figure(curves, caption=EVIL),
        svg_figure(more),
        svg_figure(svg_of(chart, name="dice", alt=EVIL)),
        png_figure(b"\x89PNG", alt=EVIL, caption=EVIL),
    ]
    return page("A report", [Section("one", "First", parts)], lead=EVIL, foot=EVIL)


def test_page_is_whole_escaped_and_needs_nothing_else():
    markup = whole_page()
    checked = Checked(markup)
    assert checked.open == []
    assert "script" not in checked.tags
    assert checked.mute == 0
    assert len(checked.ids) == len(set(checked.ids))
    assert not re.search(r'(src|href)="(?!data:|#)', markup)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"|http-equiv', "", markup)
    assert "prefers-color-scheme: dark" in markup
    assert "currentColor" in markup
    assert '<a href="#one">First</a>' in markup
    assert re.findall(r'href="#([^"]+)"', markup)
    assert set(re.findall(r'href="#([^"]+)"', markup)) <= set(checked.ids)


def test_table_sets_numbers_right_and_refuses_ragged_rows():
    markup = table(["case", "Dice"], [["a", 0.5], ["b", None]])
    assert '<th scope="col" class="number">Dice</th>' in markup
    assert '<td class="number">–</td>' in markup
    assert '<th scope="row">a</th>' in markup
    with pytest.raises(ValueError, match="1 cells"):
        table(["a", "b"], [["x"]])


def test_markup_passes_through_once():
    assert paragraph(Html("<b>x</b>")) == "<p><b>x</b></p>"
