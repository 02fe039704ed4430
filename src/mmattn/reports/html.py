"""What all pages share: how templates are filled (everything is escaped), style sheets, the hash a script needs."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

import jinja2

from mmattn.reports import text


def environment() -> jinja2.Environment:
    """For the templates of a folder of this package. All that they print is escaped; a name they lack is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mmattn.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(fixed=text.fixed, signed=text.signed, percent=text.percent, listing=text.listing)
    return made


def source(*names: str) -> str:
    """Style sheets or scripts beside the templates, one after the other, as in page/report.css."""
    return "".join(
        resources.files("mmattn.reports").joinpath("templates", name).read_text(encoding="utf-8") for name in names
    )


def digest(inline: str) -> str:
    """By which a page's policy allows an inline script or style sheet, and no other."""
    return base64.b64encode(hashlib.sha256(inline.encode("utf-8")).digest()).decode("ascii")
