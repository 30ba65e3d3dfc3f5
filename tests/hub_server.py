"""A Hugging Face Hub on this machine that can only be read from."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the repositories `folder/OWNER/NAME`; gives the address and the list of files that are fetched."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            if parts[:2] == ["api", "models"] and (folder / parts[2] / parts[3]).is_dir():
                self._list("/".join(parts[2:4]), as_tree=parts[4:5] == ["tree"])
            elif parts[2:3] == ["resolve"] and (folder / parts[0] / parts[1]).is_dir():
                self._file(folder / parts[0] / parts[1], "/".join(parts[4:]))
            else:
                self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def _list(self, name: str, as_tree: bool) -> None:
            """What the repository holds; newer clients ask for the tree, older ones for the siblings."""
            files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
            names = [str(path.relative_to(folder / name)) for path in files]
            tree = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": _digest(path.read_bytes())}
                for path, name in zip(files, names, strict=True)
            ]
            siblings = [{"rfilename": name} for name in names]
            info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
            self._answer(200, json.dumps(tree if as_tree else info).encode())

        def _file(self, repository: Path, name: str) -> None:
            if not (repository / name).is_file():
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            content = (repository / name).read_bytes()
            if self.command == "GET":
                fetched.append(name)
            self._answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(content)}"'})

        def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", fetched
        server.shutdown()


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
