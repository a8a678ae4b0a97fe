"""A stand-in for both hubs: the part of their protocols that their own client libraries use to fetch models.

One server speaks both. It can cut connections, damage bytes and ask for a token, and it keeps what it was asked.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

COMMIT = "1" * 40
LARGE_BYTES = 1 << 20  # files above are "large": listed with their SHA-256, as both hubs do


@dataclass
class HubState:
    """What the stand-in has, and how it behaves."""

    models: dict[str, Path]
    token: str = ""  # needed for every model, if set
    cuts: dict[str, int] = field(default_factory=dict)  # file name -> how many more answers are cut in the middle
    damaged: set[str] = field(default_factory=set)  # names of files that arrive with a changed byte
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    tokens: set[str] = field(default_factory=set)  # that were sent

    def files(self, model_id: str) -> dict[str, Path]:
        return {file.name: file for file in sorted(self.models[model_id].iterdir()) if file.is_file()}

    def ranges_of(self, name: str) -> list[str]:
        """Return where answers for a file began: "" for the whole file."""
        return [asked for method, path, asked in self.requests if method == "GET" and name in path]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def git_sha1(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as both hubs do."""

    state: HubState
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.state.requests.append((self.command, self.path, self.headers.get("Range", "")))
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.state.tokens |= {sent} if sent else set()
        parts = url.path.strip("/").split("/")
        if parts[:3] in (["api", "v1", "models"], ["openapi", "v1", "models"]):
            self.modelscope(parts[3:], query, authorized=sent == self.state.token)
        else:
            self.hugging_face(parts, query, authorized=sent == self.state.token)

    def hugging_face(self, parts: list[str], query: dict[str, str], *, authorized: bool) -> None:
        if parts == ["api", "models"]:
            found = [
                {"id": model_id, "modelId": model_id}
                for model_id in self.state.models
                if model_id.startswith(query.get("author", "")) and query.get("search", "") in model_id
            ]
            return self.json(found)
        model_id = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        if model_id not in self.state.models:
            return self.json({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
        if self.state.token and not authorized:
            return self.json({"error": "gated"}, 401, **{"X-Error-Code": "GatedRepo"})
        files = self.state.files(model_id)
        if parts[:2] == ["api", "models"] and "tree" in parts:
            return self.json([self.tree_entry(name, file) for name, file in files.items()])
        if parts[:2] == ["api", "models"]:
            siblings = [{"rfilename": name, **self.sums(file)} for name, file in files.items()]
            return self.json({"id": model_id, "sha": COMMIT, "siblings": siblings})
        file = files.get(parts[-1])
        if file is None:
            return self.json({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
        etag = sha256(file) if file.stat().st_size > LARGE_BYTES else git_sha1(file)
        return self.content(file, **{"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def modelscope(self, parts: list[str], query: dict[str, str], *, authorized: bool) -> None:
        if not parts:
            owner, words = query.get("owner", ""), query.get("search", "")
            found = [model_id for model_id in self.state.models if model_id.startswith(owner) and words in model_id]
            models = [dict(zip(("owner", "name"), model_id.split("/"), strict=True)) for model_id in found]
            return self.json({"success": True, "data": {"models": models, "total_count": len(models)}})
        model_id = "/".join(parts[:2])
        if model_id not in self.state.models:
            return self.json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        if self.state.token and not authorized:
            return self.json({"Code": 403, "Message": "no permission", "Success": False}, 403)
        files = self.state.files(model_id)
        if parts[2:] == ["repo", "files"]:
            listed = [
                {"Path": name, "Name": name, "Type": "blob", "Size": file.stat().st_size, "Sha256": sha256(file)}
                for name, file in files.items()
            ]
            return self.json({"Code": 200, "Data": {"Files": listed}, "Success": True})
        if parts[2:] == ["repo"] and query.get("FilePath") in files:
            return self.content(files[query["FilePath"]])
        return self.json({"Code": 404, "Message": "not found", "Success": False}, 404)

    def sums(self, file: Path) -> dict[str, object]:
        size = file.stat().st_size
        if size <= LARGE_BYTES:
            return {"size": size, "blobId": git_sha1(file)}
        return {"size": size, "blobId": "2" * 40, "lfs": {"sha256": sha256(file), "size": size, "pointerSize": 134}}

    def tree_entry(self, name: str, file: Path) -> dict[str, object]:
        size = file.stat().st_size
        entry: dict[str, object] = {"type": "file", "path": name, "size": size, "oid": git_sha1(file)}
        if size > LARGE_BYTES:
            entry["lfs"] = {"oid": sha256(file), "size": size, "pointerSize": 134}
        return entry

    def content(self, file: Path, **headers: str) -> None:
        body = file.read_bytes()
        if file.name in self.state.damaged:
            body = body[:-1] + bytes([body[-1] ^ 1])
        start, status = 0, 200
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, status = int(first), 206
            end = min(int(last), len(body) - 1) if last else len(body) - 1
            headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            body = body[start : end + 1]
        self.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.state.cuts.get(file.name, 0) > 0:
            self.state.cuts[file.name] -= 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def json(self, value: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub_server(state: HubState) -> Iterator[str]:
    """Run the stand-in on a free port of this machine, and give its address."""
    handler = type("StandIn", (Handler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that leaves is no news
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
