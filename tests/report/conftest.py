"""Fixtures shared by the tests of `flowbench report`."""

import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flowbench.recording import video_path

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}

INLINE = {"a", "b", "code", "small", "span", "strong", "svg"}


class Element:
    """An element of a parsed page."""

    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, dict(attributes), parent
        self.children, self.texts = [], []

    def all(self, *tags):
        """Return all elements below this one with one of the tags, in document order."""
        found = []
        for child in self.children:
            found += [child] if not tags or child.tag in tags else []
            found += child.all(*tags)
        return found

    def one(self, identifier):
        """Return the element with an id."""
        (found,) = (element for element in self.all() if element.attributes.get("id") == identifier)
        return found

    @property
    def classes(self):
        return (self.attributes.get("class") or "").split()

    @property
    def text(self):
        """All text below this element, as one line."""
        parts = [
            part if isinstance(part, str) else part.text if part.tag in INLINE else f" {part.text} "
            for part in self.texts
        ]
        return " ".join("".join(parts).split())


class Parser(HTMLParser):
    """Builds a tree, and fails where tags do not nest; SVG's empty elements close themselves."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.root = self.now = Element("", {}, None)

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.now = self.now.children[-1]

    def handle_startendtag(self, tag, attributes):
        element = Element(tag, attributes, self.now)
        self.now.children.append(element)
        self.now.texts.append(element)

    def handle_endtag(self, tag):
        assert tag == self.now.tag, f"</{tag}> closes <{self.now.tag}> at {self.getpos()}"
        self.now = self.now.parent

    def handle_data(self, data):
        self.now.texts.append(data)


@pytest.fixture
def parse() -> Callable[[str], Element]:
    """Return a function from HTML to its tree."""

    def parse_page(text):
        parser = Parser()
        parser.feed(text)
        parser.close()
        assert parser.now is parser.root, f"<{parser.now.tag}> is never closed"
        return parser.root

    return parse_page


@pytest.fixture(scope="session")
def video_file(tmp_path_factory) -> Path:
    """Write one second of a real video: a bright square that moves over a dark ground."""
    pytest.importorskip("imageio_ffmpeg", reason="needs the extra video")
    import numpy as np

    from flowbench.recording import write_video

    frames = []
    for step in range(20):
        frame = np.full((96, 128, 3), 30, np.uint8)
        frame[30:60, 4 * step : 4 * step + 30] = (240, 200, 40)
        frames.append(frame)
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    write_video(path, frames)
    return path


@pytest.fixture
def record(video_file) -> Callable[[Path, list[str]], None]:
    """Return a function that puts the video of each episode id into a run's folder."""

    def add_videos(folder, identifiers):
        for identifier in identifiers:
            path = video_path(folder, identifier)
            path.parent.mkdir(exist_ok=True)
            shutil.copy(video_file, path)

    return add_videos
