"""A Hugging Face Hub on this machine, to read from and to write to with the real client.

Each repository is a folder `OWNER/NAME`: what lies there is its branch `main`, also without a commit.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_ofAliceAndNobodyElse000000000000"
USER = "alice"
_LFS = (".safetensors", ".png", ".onnx")

Tree = dict[str, bytes]


class Hub:
    """What the server knows, and what was asked of it.

    fetched: names of the files that were read.
    received: every body that came up, as it came.
    requests: "METHOD path" of every request.
    private, gated: repositories that only the owner, or nobody, may read.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.address = ""
        self.fetched: list[str] = []
        self.received: list[bytes] = []
        self.requests: list[str] = []
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.commits: dict[str, dict[str, Tree]] = {}  # repository: commit: files
        self.branches: dict[str, dict[str, str]] = {}  # repository: branch or tag: commit
        self.tags: dict[str, set[str]] = {}  # repository: which of these are tags
        self.messages: list[str] = []
        self.stored: dict[str, bytes] = {}  # large files by their digest
        self._failures: list[tuple[re.Pattern, int]] = []
        self.lock = RLock()

    def fail(self, request: str, status: int, times: int = 1) -> None:
        """Answer the next requests that match `request` with `status`; 0 cuts the connection."""
        self._failures += [(re.compile(request), status)] * times

    def next_failure(self, request: str) -> int | None:
        for i, (pattern, status) in enumerate(self._failures):
            if pattern.search(request):
                del self._failures[i]
                return status
        return None

    def names(self) -> list[str]:
        return sorted(f"{path.parent.name}/{path.name}" for path in self.folder.glob("*/*") if path.is_dir())

    def main(self, name: str) -> Tree:
        root = self.folder / name
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def tree(self, name: str, revision: str) -> tuple[str, Tree] | None:
        """The commit and the files of a revision."""
        commits = self.commits.setdefault(name, {})
        commit = self.branches.get(name, {}).get(revision, revision)
        files = self.main(name) if revision == "main" else commits.get(commit)
        if files is None or files == commits.get(commit):
            return None if files is None else (commit, files)
        commit = _digest(repr(sorted((path, _digest(content)) for path, content in files.items())).encode())
        commits[commit] = files
        return commit, files

    def commit(self, name: str, revision: str, lines: list[dict[str, Any]]) -> str:
        """Apply the operations of a commit; gives its number."""
        _, files = self.tree(name, revision) or self.tree(name, "main")  # type: ignore[misc]
        files = dict(files)
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                self.messages.append(value["summary"])
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = _digest(repr((len(self.messages), sorted(files))).encode())
        self.commits[name][commit] = files
        if revision == "main":
            root = self.folder / name
            for gone in self.main(name).keys() - files.keys():
                (root / gone).unlink()
            for path, content in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
        self.branches.setdefault(name, {})[revision] = commit
        return commit


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """Serve the repositories below `folder`."""
    state = Hub(folder)
    handler = type("Handler", (_Handler,), {"hub": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        request = f"{self.command} {unquote(url.path)}"
        with self.hub.lock:
            self.hub.requests.append(request)
            failure = self.hub.next_failure(request)
            if failure == 0:
                self.connection.close()
                self.close_connection = True
            elif failure is not None:
                self._json({"error": "made to fail"}, failure)
            elif self.command in ("POST", "PUT"):
                self.hub.received.append(body)
                self._write(parts, body)
            else:
                self._read(parts, parse_qs(url.query))

    # ---- who asks ----

    @property
    def _is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_read(self, name: str) -> bool:
        """Whether the repository is there and open; answers if not."""
        known = (self.hub.folder / name).is_dir() and (name not in self.hub.private or self._is_owner)
        if not known:  # the Hub does not tell strangers whether a repository exists
            self._error(404 if self._is_owner else 401, "RepoNotFound")
        elif name in self.hub.gated:
            self._error(403 if self._is_owner else 401, "GatedRepo")
        return known and name not in self.hub.gated

    def _may_write(self, owner: str) -> bool:
        if not self._is_owner:
            self._error(401, "", "Invalid username or password.")
        elif owner != USER:
            self._error(403, "", f"You don't have the rights to create a model under the namespace {owner}.")
        return self._is_owner and owner == USER

    # ---- reading ----

    def _read(self, parts: list[str], query: dict[str, list[str]]) -> None:
        if parts[:2] == ["api", "whoami-v2"]:
            if self._is_owner:
                self._json({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})
            else:
                self._error(401, "", "Invalid username or password.")
        elif parts[:2] == ["api", "models"] and len(parts) > 3:
            name = "/".join(parts[2:4])
            if self._may_read(name):
                self._api(name, parts[4:], recursive="recursive" in query)
        elif parts[2:3] == ["resolve"]:
            name = "/".join(parts[:2])
            if self._may_read(name):
                self._file(name, parts[3], "/".join(parts[4:]))
        else:
            self._error(404, "RepoNotFound")

    def _api(self, name: str, rest: list[str], recursive: bool) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        if rest[:1] == ["refs"]:
            refs = self.hub.branches.get(name, {})
            tags = self.hub.tags.get(name, set())
            listed = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in refs.items()]
            kinds = {"branches": [each for each in listed if each["name"] not in tags], "converts": []}
            self._json(kinds | {"tags": [each for each in listed if each["name"] in tags]})
            return
        found = self.hub.tree(name, revision)
        if found is None:
            self._error(404, "RevisionNotFound")
        elif rest[:1] == ["tree"]:
            self._json([_entry(path, content) for path, content in sorted(found[1].items())])
        else:
            siblings = [{"rfilename": path} for path in sorted(found[1])]
            info = {"id": name, "modelId": name, "sha": found[0], "siblings": siblings}
            self._json(info | {"private": name in self.hub.private, "tags": []} | _metadata(found[1]))

    def _file(self, name: str, revision: str, path: str) -> None:
        found = self.hub.tree(name, revision)
        if found is None:
            self._error(404, "RevisionNotFound")
            return
        commit, files = found
        if path not in files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        if self.command == "GET":
            self.hub.fetched.append(path)
        self._answer(200, files[path], {"X-Repo-Commit": commit, "ETag": f'"{_digest(files[path])}"'})

    # ---- writing ----

    def _write(self, parts: list[str], body: bytes) -> None:
        if parts[:2] == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[0] == "lfs":
            self.hub.stored[parts[1]] = body
            self._json({})
        elif parts[1].endswith(".git"):
            if self._may_write(parts[0]):
                self._lfs_batch(json.loads(body))
        elif parts[:2] == ["api", "models"] and self._may_write(parts[2]):
            self._change("/".join(parts[2:4]), parts[4], parts[5], body)

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or USER
        if not self._may_write(owner):
            return
        name = f"{owner}/{wanted['name']}"
        url = {"url": f"{self.hub.address}/{name}", "id": name, "name": name}
        if (self.hub.folder / name).is_dir():
            self._json(url | {"error": "You already created this model repo"}, 409)
            return
        (self.hub.folder / name).mkdir(parents=True)
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(name)
        self._json(url)

    def _lfs_batch(self, wanted: dict[str, Any]) -> None:
        objects = []
        for item in wanted["objects"]:
            href = f"{self.hub.address}/lfs/{item['oid']}"
            actions = {} if item["oid"] in self.hub.stored else {"actions": {"upload": {"href": href}}}
            objects.append({"oid": item["oid"], "size": item["size"], **actions})
        self._json({"transfer": "basic", "objects": objects})

    def _change(self, name: str, what: str, revision: str, body: bytes) -> None:
        found = self.hub.tree(name, revision)
        if what == "branch":
            if self.hub.branches.get(name, {}).get(revision):
                self._json({"error": "Reference already exists"}, 409)
            else:
                self.hub.branches.setdefault(name, {})[revision] = self.hub.tree(name, "main")[0]  # type: ignore[index]
                self._json({})
        elif found is None:
            self._error(404, "RevisionNotFound")
        elif what == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(_LFS) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif what == "commit":
            commit = self.hub.commit(name, revision, [json.loads(line) for line in body.splitlines()])
            url = f"{self.hub.address}/{name}/commit/{commit}"
            self._json({"success": True, "commitOid": commit, "commitUrl": url})
        elif what == "tag":
            tag = json.loads(body)["tag"]
            if tag in self.hub.branches.get(name, {}):
                self._json({"error": "Tag already exists"}, 409)
            else:
                self.hub.branches.setdefault(name, {})[tag] = found[0]
                self.hub.tags.setdefault(name, set()).add(tag)
                self._json({})

    # ---- answers ----

    def _json(self, content: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._answer(status, json.dumps({"error": message or code}).encode(), headers | {"X-Error-Message": message})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _digest(content)}
    if path.endswith(_LFS):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _metadata(files: Tree) -> dict[str, Any]:
    """What the Hub reads in the card of a model."""
    from huggingface_hub import ModelCard

    if "README.md" not in files:
        return {}
    data = ModelCard(files["README.md"].decode(), ignore_metadata_errors=True).data
    return {"pipeline_tag": data.pipeline_tag, "library_name": data.library_name}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
