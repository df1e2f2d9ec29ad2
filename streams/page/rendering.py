"""Templates and static files. Everything that is put into a template is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from streams.page import wording

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Entry:
    """A page that the navigation leads to."""

    name: str
    path: str
    title: str


# The navigation, in its order. Another page is added here, and its routes in `routes.PAGES`.
NAVIGATION = (
    Entry("now", "/", "Now"),
    Entry("segments", "/segments", "Segments"),
    Entry("quality", "/quality", "Data quality"),
    Entry("operations", "/operations", "Operations"),
)


POLLED = "polled"  # instead of where changes are told: the page is read again every few seconds, as page.js has it


def account_path(account: str) -> str:
    return f"/accounts/{quote(account, safe=':')}"


def segment_path(dimension: str, segment: str, **query: Any) -> str:
    asked = {name: each for name, each in query.items() if each}
    path = f"/segments/{quote(dimension, safe='')}/{quote(segment, safe='')}"
    return path + (f"?{urlencode(asked)}" if asked else "")


def letter_path(key: str) -> str:
    return f"/operations/letters/{quote(key)}"


def replay_path(key: str) -> str:
    return f"/operations/replay/{quote(key)}"


class Pages:
    """The templates, and the static files under an address that says which build they are of."""

    def __init__(self) -> None:
        directory = HERE / "static"
        self.files = {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in sorted(directory.rglob("*"))
            if path.suffix in (".js", ".css", ".svg")
        }
        every = sha256(b"".join(name.encode() + content for name, content in self.files.items()))
        self.static = f"/static/{every.hexdigest()[:12]}/"
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= wording.FILTERS
        self._templates.globals |= {
            "static": self.static, "navigation": NAVIGATION, "account_path": account_path,
            "segment_path": segment_path, "letter_path": letter_path, "replay_path": replay_path,
        }  # fmt: skip

    def text(self, template: str, told: Mapping[str, Any]) -> str:
        return self._templates.get_template(template).render(told)

    def render(self, template: str, told: Mapping[str, Any], status: int = 200) -> Response:
        return HTMLResponse(self.text(template, {"who": None, "here": "", "now": 0, **told}), status)
