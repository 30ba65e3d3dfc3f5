"""The server of the demo, asked as a browser asks it, and as an attacker does."""

import os
import uuid
from pathlib import Path

import pytest
import requests
from gradio_client import Client, handle_file
from PIL import Image
from tiny import tiny_model

from hf_mlrpl import launch_demo
from hf_mlrpl.cli.main import main
from hf_mlrpl.demo import server as server_module
from hf_mlrpl.pipelines.image_tagging import ImageTaggingPipeline

SECRET = "top secret"
SCORES = '"confidences": [{'


@pytest.fixture(scope="module")
def served():
    """The address of a page, and its folder of uploads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")
        patch.setenv("GRADIO_SHARE", "True")
        patch.setenv("GRADIO_ALLOWED_PATHS", "/")
        patch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
        tagger = ImageTaggingPipeline(model=tiny_model("sst").eval())
        page = launch_demo(tagger, name="<b>mine</b>", examples=[Image.new("RGB", (9, 9))], wait=False)
        yield page.local_url.rstrip("/"), Path(os.environ["GRADIO_TEMP_DIR"])
        assert page.share_url is None
        page.close()


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.new("RGB", (40, 30), "green").save(tmp_path / "green.png")
    return tmp_path / "green.png"


def ask(address: str, function: str, data: list, session: str) -> str:
    """The events that the server sends back."""
    api = f"{address}/gradio_api/call/{function}"
    event = requests.post(api, json={"data": data, "session_hash": session}, timeout=20).json()["event_id"]
    return requests.get(f"{api}/{event}", timeout=60).text


def shown_after(address: str, file: dict) -> str:
    """What a visitor sees who sends `file` as a photo."""
    session = uuid.uuid4().hex
    ask(address, "tag", [[{"image": file, "caption": None}], ""], session)
    return ask(address, "show", [0.0, False], session)


def upload(address: str, name: str, content: bytes) -> requests.Response:
    return requests.post(f"{address}/gradio_api/upload", files={"files": (name, content)}, timeout=20)


def test_a_photo_is_tagged(served, photo):
    client = Client(served[0], verbose=False)
    client.predict([{"image": handle_file(photo), "caption": None}], "", api_name="/tag")
    labels, maps, _ = client.predict(0.0, False, api_name="/show")
    assert labels["label"] == "Labels of green.png" and len(labels["value"]["confidences"]) == 5 == len(maps)


def test_a_click_shows_the_photo_that_was_clicked_behind_one_that_cannot_be_read(served, photo):
    address, _ = served
    marked = {"meta": {"_type": "gradio.FileData"}}
    bad, good = (
        upload(address, name, content).json()[0]
        for name, content in (("bad.png", b"x"), ("b.png", photo.read_bytes()))
    )
    files, session = [{"image": {"path": path} | marked, "caption": None} for path in (bad, good)], uuid.uuid4().hex
    ask(address, "tag", [files, ""], session)
    answer = ask(address, "show", [1.0, False], session)
    assert "Labels of bad.png" in answer and "bad.png is no photo" in answer and "none reaches the threshold" in answer


def test_the_page_is_for_this_machine_and_says_nothing_of_its_disk(served):
    address, _ = served
    assert address.startswith("http://127.0.0.1:")
    page = requests.get(address, timeout=20)
    assert page.status_code == 200 and "<b>mine</b>" not in page.text.partition("window.gradio_config")[0]
    assert str(Path.cwd()) not in requests.get(f"{address}/config", timeout=20).text


@pytest.mark.parametrize(
    "way", ["/file=", "/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/", "/theme/"]
)
@pytest.mark.parametrize(
    "climb", ["", "{uploads}/../", "{uploads}/%2e%2e/", "..%2f..%2f..%2f..%2f..", "../../../../.."]
)
def test_no_file_can_be_read(served, tmp_path_factory, way, climb):
    address, uploads = served
    secret = tmp_path_factory.getbasetemp() / "secret.txt"
    secret.write_text(SECRET)
    with requests.Session() as session:
        request = session.prepare_request(requests.Request("GET", address))
        request.url = f"{address}{way}{climb.format(uploads=uploads)}{secret}"
        answer = session.send(request, timeout=20)
    assert answer.status_code in (403, 404, 405) and SECRET not in answer.text


def test_no_photo_of_the_server_is_shown(served, photo):
    """With and without the mark that makes Gradio look where a file lies."""
    marked = {"meta": {"_type": "gradio.FileData"}}
    for file in (
        {"path": str(photo)},
        {"path": str(photo)} | marked,
        {"path": "x.png", "url": f"file://{photo}"} | marked,
    ):
        assert SCORES not in shown_after(served[0], file)
    uploaded = upload(served[0], "green.png", photo.read_bytes()).json()[0]
    assert SCORES in shown_after(served[0], {"path": uploaded} | marked)


@pytest.mark.parametrize(
    "path", ["proxy=http://127.0.0.1/", "file=http://127.0.0.1/", "file=hTTps://x.y/", "process_recording"]
)
def test_nothing_is_fetched_or_converted_for_others(served, path):
    for method in ("GET", "POST"):
        assert requests.request(method, f"{served[0]}/gradio_api/{path}", timeout=20).status_code == 404


def test_uploads_are_limited_lie_in_the_folder_and_run_no_scripts(served):
    address, folder = served
    assert upload(address, "large.png", bytes(22_000_000)).status_code == 413
    place = Path(upload(address, "../../page.html", b"<script>alert(1)</script>").json()[0])
    assert place.resolve().is_relative_to(folder.resolve()) and folder.stat().st_mode & 0o077 == 0
    headers = requests.get(f"{address}/gradio_api/file={place}", timeout=20).headers
    assert headers["content-security-policy"].startswith("sandbox") and headers["x-content-type-options"] == "nosniff"


def test_the_disk_is_not_filled(served, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_KEPT", 0)
    upload(served[0], "a.png", b"some bytes")
    answer = upload(served[0], "b.png", b"some bytes")
    assert answer.status_code == 507 and "too many photos" in answer.text


def test_the_command_serves_the_model_with_its_examples(tmp_path, monkeypatch, photo):
    tiny_model("sst").save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "examples").mkdir()
    photo.rename(tmp_path / "run" / "examples" / "a.png")
    seen = {}
    monkeypatch.setattr(server_module, "launch_demo", lambda tagger, **options: seen.update(options))
    assert main(["demo", str(tmp_path / "run"), "--port", "8000"]) == 0
    assert seen["host"] == "127.0.0.1" and seen["port"] == 8000 and seen["examples"][0].size == (40, 30)
    assert seen["name"] == str(tmp_path / "run")


@pytest.mark.parametrize("address", [("--host", "no.host.invalid"), ("--port", "99999"), ("--port", None)])
def test_an_address_that_cannot_be_is_said_before_a_model_is_loaded(address, served, capsys):
    name, value = address
    taken = served[0].rpartition(":")[2]
    assert main(["demo", "user/model", name, value or taken]) == 2
    assert "The page cannot be served at" in capsys.readouterr().err


@pytest.mark.parametrize("address, message", [(("--host", ""), "`--host` is empty"), (("--port", "0"), "at least 1")])
def test_an_empty_host_does_not_let_all_machines_in(address, message, capsys):
    assert main(["demo", "user/model", *address]) == 2
    assert message in capsys.readouterr().err


def test_without_gradio_there_is_a_way_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr("hf_mlrpl.extras.find_spec", lambda name: None)
    assert main(["demo", "user/model"]) == 2
    assert 'pip install "hf-mlrpl[demo]"' in capsys.readouterr().err
