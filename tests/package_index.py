"""A package index on 127.0.0.1, as far as pip reads one (PEP 503), and wheels to put into it.

In: a folder of wheels. Out: the address for PIP_INDEX_URL, and the requests made of it.
Never: a source distribution; a wheel whose code does nothing when it is imported or installed.
"""

from __future__ import annotations

import hashlib
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple


class Index(NamedTuple):
    """A running index."""

    url: str  # the value for PIP_INDEX_URL
    folder: Path  # of the wheels, which may be changed
    requests: list[str]  # path of each request so far, in order
    cut: set[str]  # names of wheels whose transfer stops half-way; may be changed


def wheel(folder: Path, name: str, version: str, members: Mapping[str, bytes], ran: Path | None = None) -> Path:
    """Write a wheel with some members beside its code, which writes the file `ran` if anything imports it."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    code = f"open({str(ran)!r}, 'w').close()\n" if ran else "raise SystemExit('nothing may import this')\n"
    content = {
        f"{stem}/__init__.py": code.encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: none\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **members,
    }
    file = folder / f"{stem}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for member, value in content.items():
            archive.writestr(member, value)
        archive.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in content))
    return file


@contextmanager
def serve(folder: Path) -> Iterator[Index]:
    """Serve the wheels of a folder until the context ends; they may be changed while it is served."""
    requests: list[str] = []
    cut: set[str] = set()
    handler = type("Handler", (_Handler,), {"folder": folder, "requests": requests, "cut": cut})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Index(f"http://127.0.0.1:{server.server_port}/simple/", folder, requests, cut)
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    requests: list[str]
    cut: set[str]

    def do_GET(self) -> None:
        """Answer with the page of a package, or with a wheel."""
        self.requests.append(self.path)
        if found := re.fullmatch(r"/simple/([^/]+)/", self.path):
            files = sorted(self.folder.glob(f"{found[1].replace('-', '_')}-*.whl"))
            links = (f'<a href="/files/{x.name}#sha256={_digest(x)}">{x.name}</a>' for x in files)
            self._answer("<!DOCTYPE html><html><body>{}</body></html>".format("\n".join(links)).encode(), "text/html")
        elif (file := self.folder / self.path.removeprefix("/files/")).is_file():
            content = file.read_bytes()
            self._answer(content, "application/zip", len(content) // 2 if file.name in self.cut else len(content))
        else:
            self.send_error(404)

    def _answer(self, body: bytes, kind: str, stop: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:stop])

    def log_message(self, *_: object) -> None:
        """Print nothing; `requests` holds all requests."""


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def settings(url: str) -> dict[str, str]:
    """Environment variables that make pip ask this index and no other."""
    return {"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_CACHE_DIR": "1", "NO_PROXY": "127.0.0.1"}


OTHERS = ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONSTRAINT", "PIP_REQUIRE_HASHES")
