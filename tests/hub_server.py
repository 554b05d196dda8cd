"""A Hugging Face hub on 127.0.0.1, as far as loaders read one: repositories, revisions, trees, files.

In: a folder `datasets/<id>/<revision>/<files>` and `models/<id>/<revision>/<files>`; who names no revision asks for
`main`. Out: the address for HF_ENDPOINT, and the requests made of it.
Never: writes, accounts, Xet. HF_ENDPOINT, HF_HUB_OFFLINE=0 and HF_HUB_DISABLE_XET=1 must be set before
huggingface_hub is imported.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

# a revision may contain an escaped slash, an id at most one slash
API = re.compile(
    r"/api/(?P<kind>datasets|models)/(?P<id>[^/]+(/[^/]+)??)(/(?P<view>revision|tree|paths-info)/(?P<rest>.+))?"
)
FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+(/[^/]+)?)/resolve/(?P<rest>.+)")


class Hub(NamedTuple):
    """A running hub."""

    url: str
    """the value for HF_ENDPOINT"""
    requests: list[str]
    """method and path of each request so far, in order"""
    resumed: list[str]
    """names of files whose transfer was resumed"""


@contextmanager
def serve(
    root: Path, broken: Sequence[str] = (), gated: Sequence[str] = (), halting: Sequence[str] = ()
) -> Iterator[Hub]:
    """Serve the repositories below `root` until the context ends.

    Args:
        root: the folder; revisions may be added while it is served.
        broken: names of files that are listed, but at whose transfer the connection is cut.
        gated: ids of repositories whose files need a token; nobody has one here.
        halting: names of files whose first transfer stops half-way.
    """
    requests: list[str] = []
    resumed: list[str] = []
    settings = {"root": root, "broken": broken, "gated": gated, "halting": list(halting)}
    handler = type("Handler", (_Handler,), settings | {"requests": requests, "resumed": resumed})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Hub(f"http://127.0.0.1:{server.server_port}", requests, resumed)
        finally:
            server.shutdown()
            thread.join()


def commit(kind: str, name: str, revision: str) -> str:
    """The 40 hex digits of a revision; clients may use them or its name."""
    return hashlib.sha1(f"{kind}/{name}@{revision}".encode()).hexdigest()


class _Refused(Exception):
    """An error with the code that tells clients what is missing."""

    def __init__(self, code: str, commit: str = "", status: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": code, **({"X-Repo-Commit": commit} if commit else {})}


class _Revision(NamedTuple):
    """One revision of one repository."""

    id: str
    commit: str
    files: dict[str, Path]

    def entry(self, path: str) -> dict[str, Any]:
        if path not in self.files:
            return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
        return {"type": "file", "path": path, "size": self.files[path].stat().st_size, "oid": _etag(self.files[path])}

    def tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        folders = {str(parent) for name in self.files for parent in list(Path(name).parents)[:-1]}
        inside = [path for path in sorted(folders | set(self.files)) if not below or path.startswith(f"{below}/")]
        if below and not inside:
            raise _Refused("EntryNotFound", self.commit)
        depth = below.count("/") + 1 if below else 0
        return [self.entry(path) for path in inside if recursive or path.count("/") == depth]

    def paths(self, asked: list[str]) -> list[dict[str, Any]]:
        return [
            self.entry(path)
            for path in asked
            if any(name == path or name.startswith(f"{path}/") for name in self.files)
        ]


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    broken: Sequence[str]
    gated: Sequence[str]
    halting: list[str]
    requests: list[str]
    resumed: list[str]

    def do_GET(self) -> None:
        """Answer GET, HEAD and POST by their route."""
        self.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        url = urlsplit(self.path)
        try:
            if found := API.fullmatch(url.path):
                query = {name: values for name, values in parse_qs(url.query).items()}
                self._json(found.groupdict(), query, parse_qs(body).get("paths", []))
            elif found := FILE.fullmatch(url.path):
                self._file(found["kind"] or "models", found["id"], found["rest"])
            else:
                raise _Refused("EntryNotFound")
        except _Refused as refused:
            self._answer(refused.status, b"", refused.headers)

    do_HEAD = do_POST = do_GET

    def _revision(self, kind: str, name: str, asked: str) -> _Revision:
        folder = self.root / kind / unquote(name)
        if not folder.is_dir():
            raise _Refused("RepoNotFound")
        for revision in folder.iterdir():
            sha = commit(kind, unquote(name), revision.name)
            if unquote(asked) in (revision.name, sha):
                files = {
                    file.relative_to(revision).as_posix(): file
                    for file in sorted(revision.rglob("*"))
                    if file.is_file()
                }
                return _Revision(unquote(name), sha, files)
        raise _Refused("RevisionNotFound")

    def _json(self, route: dict[str, str], query: dict[str, list[str]], paths: list[str]) -> None:
        asked, _, below = (route["rest"] or "main").partition("/")
        revision = self._revision(route["kind"], route["id"], asked)
        answer: Any
        if route["view"] == "tree":
            answer = revision.tree(unquote(below), query.get("recursive", ["false"])[0].lower() in ("true", "1"))
        elif route["view"] == "paths-info":
            answer = revision.paths(paths)
        else:
            siblings = [{"rfilename": name, "size": file.stat().st_size} for name, file in revision.files.items()]
            answer = {
                "id": revision.id,
                "sha": revision.commit,
                "siblings": siblings,
                "private": False,
                "tags": [],
                "gated": "manual" if revision.id in self.gated else False,
            }
        self._answer(HTTPStatus.OK, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, kind: str, name: str, rest: str) -> None:
        asked, _, path = rest.partition("/")
        revision = self._revision(kind, name, asked)
        file = revision.files.get(unquote(path))
        if file is None:
            raise _Refused("EntryNotFound", revision.commit)
        if name in self.gated:
            raise _Refused("GatedRepo", status=HTTPStatus.UNAUTHORIZED)
        if file.name in self.broken:
            self.close_connection = True
            return
        content = file.read_bytes()
        headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": revision.commit, "Accept-Ranges": "bytes"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if file.name in self.halting and self.command == "GET":
            self.halting.remove(file.name)
            self._answer(HTTPStatus.OK, content, headers, stop=len(content) // 2)
            return
        if part is None:
            self._answer(HTTPStatus.OK, content, headers)
            return
        self.resumed.append(file.name)
        first, last = int(part[1]), min(int(part[2] or len(content) - 1), len(content) - 1)
        if first > last:
            headers["Content-Range"] = f"bytes */{len(content)}"
            self._answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._answer(HTTPStatus.PARTIAL_CONTENT, content[first : last + 1], headers)

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str], stop: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:stop])
        self.close_connection = self.close_connection or stop is not None

    def log_message(self, *_: object) -> None:
        """Print nothing; `requests` holds all requests."""
