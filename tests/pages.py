"""What a page of HTML holds, for the tests of all reports."""

import html.parser
from pathlib import Path
from typing import Self

VOID = frozenset({"meta", "img", "link", "br"})


class Page(html.parser.HTMLParser):
    """Tags left open, what images show, and where links to other pages lead; fails where tags close out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.links, self.text = [], [], [], ""

    @classmethod
    def of(cls, path: Path) -> Self:
        """The page in a file."""
        page = cls()
        page.feed(path.read_text())
        return page

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for key, value in attrs.items() if key == "src"]
        self.links += [value for key, value in attrs.items() if key == "href" and not value.startswith("#")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data
