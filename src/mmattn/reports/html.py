"""What all pages share: one template environment that escapes everything, inline styles and scripts, data: URIs."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from mmattn.reports import text


@cache
def environment() -> jinja2.Environment:
    """For all templates of this package. Whatever they print is escaped; an undefined name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmattn.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(fixed=text.fixed, signed=text.signed, percent=text.percent, listing=text.listing)
    environment.filters.update(size=text.size, clock=text.clock)
    return environment


def render(template: str, **values: Any) -> bytes:
    """A page as UTF-8 HTML."""
    return environment().get_template(template).render(**values).encode("utf-8")


def inline(styles: tuple[str, ...], *scripts: str) -> dict[str, Any]:
    """The style sheets and scripts of a page, and the hashes by which its policy allows these and nothing else."""
    style = "".join(map(_source, styles))
    values = {"style": Markup(style), "style_hash": _digest(style)}
    if scripts:
        code = "".join(map(_source, scripts))
        values |= {"script": Markup(code), "script_hash": _digest(code)}
    return values


def data_uri(kind: str, data: bytes) -> Markup:
    """`data` of a MIME type inside the page. It is long and has nothing to escape."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")


@cache
def _source(name: str) -> str:
    return resources.files("mmattn.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(inline: str) -> str:
    return base64.b64encode(hashlib.sha256(inline.encode("utf-8")).digest()).decode("ascii")
