"""The page in a real browser: headless Chromium, told what to do over its own debugging pipe."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tfpt.serving.servable import Servable

pytestmark = pytest.mark.browser

LAUNCH = """
import os, sys
there, back = map(os.dup, map(int, sys.argv[1:3]))  # out of the way of 3 and 4, or these two already
for ours, wanted in ((there, 3), (back, 4)):
    os.dup2(ours, wanted)
    os.set_inheritable(wanted, True)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """Chromium's DevTools protocol: messages of JSON, ended by a zero byte, on file descriptors 3 and 4."""

    def __init__(self, profile):
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        assert program, "the tests of the page need Chromium"
        (there, self._write), (self._read, back) = os.pipe(), os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(there), str(back), program, *flags, f"--user-data-dir={profile}"],
            pass_fds=(there, back), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(there)
        os.close(back)
        self._number, self._rest, self.problems, self._session = 0, b"", [], None
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(answer["params"])

    def _receive(self):
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression):
        result = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression, seconds=20):
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, (expression, self.evaluate("document.body.innerText"))
            time.sleep(0.05)
        return value

    def open(self, url, *, width=1000, height=640, mobile=False):
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.do("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && !!document.querySelector('.field')")

    def choose(self, file):
        node = self.do("DOM.querySelector", nodeId=self.do("DOM.getDocument")["root"]["nodeId"], selector="input")
        self.do("DOM.setFileInputFiles", files=[str(file)], nodeId=node["nodeId"])

    def drop(self, file):
        box = self.evaluate("(({x, y, width, height}) => [x + width / 2, y + height / 2])"
                            "(document.querySelector('.drop').getBoundingClientRect())")  # fmt: skip
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def press(self, key, code, *, text="", modifiers=0):
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.do("Input.dispatchKeyEvent", type="keyUp", **common)

    def close(self):
        with contextlib.suppress(OSError, AssertionError):
            self._session = None
            self.do("Browser.close")
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(autouse=True)
def no_problems(browser):
    browser.problems.clear()
    yield
    browser.evaluate("1")  # what happened last arrives before its answer
    assert browser.problems == []


ANSWER = "document.querySelector('#label').textContent"
ROWS = "[...document.querySelectorAll('#scores li')].map((row) => row.innerText.replaceAll('\\n', ' '))"


def wanted(whole, file):
    answer = whole.predict({"image": [file.read_bytes()]})
    pairs = sorted(zip(answer["classes"][0], answer["scores"][0], strict=True), key=lambda pair: -pair[1])
    return [f"{name.decode()} {100 * score:.1f} %" for name, score in pairs]


def test_a_picture_is_dropped_or_chosen_and_its_answer_appears(browser, pets, whole, pictures):
    red, blue = pictures / "red" / "0.png", pictures / "blue" / "0.png"
    browser.open(pets.url)
    assert browser.evaluate("document.title") == "pets · tfpt serve"
    browser.drop(red)
    browser.until("document.querySelector('#message').textContent.startsWith('answered in')")
    assert browser.evaluate(ROWS) == wanted(whole, red)
    assert browser.evaluate(ANSWER) == wanted(whole, red)[0].rpartition(" ")[0].rpartition(" ")[0]
    assert browser.until("document.querySelector('.drop img').naturalWidth") == 24
    widths = browser.evaluate("[...document.querySelectorAll('rect')].map((bar) => bar.getBoundingClientRect().width)")
    assert widths == sorted(widths, reverse=True) and widths[0] > widths[-1]
    browser.choose(blue)
    browser.until(
        f"JSON.stringify({ROWS}) === {json.dumps(json.dumps(wanted(whole, blue), ensure_ascii=False, separators=(',', ':')))}"
    )


def test_what_is_no_picture_gets_a_sentence_and_then_a_picture_works(browser, pets, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    browser.open(pets.url)
    browser.choose(broken)
    text = browser.until("document.querySelector('[role=alert]')?.textContent")
    assert "cannot be decoded" in text
    browser.choose(pictures / "red" / "0.png")
    browser.until("document.querySelector('#message').textContent.startsWith('answered in')")
    assert not browser.evaluate("document.querySelector('[role=alert]')")
    assert len(browser.problems) == 1 and "400" in json.dumps(browser.problems)  # Chromium logs the refusal
    browser.problems.clear()


def test_a_text_is_typed_and_answered_with_the_keyboard_alone(browser, words):
    browser.open(words.url)
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.tagName") == "TEXTAREA"
    browser.do("Input.insertText", text="a film that I like")
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.id") == "ask"
    browser.press("Enter", 13, text="\r")
    browser.until("document.querySelector('#message').textContent.startsWith('answered in')")
    rows = browser.evaluate(ROWS)
    assert len(rows) == 5 and any(row.startswith('<b>"& ') for row in rows)
    assert not browser.evaluate("document.querySelector('#scores b')")
    browser.evaluate("document.querySelector('textarea').focus()")
    browser.do("Input.insertText", text=", or not")
    browser.press("Enter", 13, modifiers=2)
    browser.until(
        f"{ROWS}.length === 5 && JSON.stringify({ROWS}) !== {json.dumps(json.dumps(rows, ensure_ascii=False, separators=(',', ':')))}"
    )


def test_on_a_phone_everything_fits_and_can_be_touched(browser, pets, pictures):
    browser.open(pets.url, width=360, height=640, mobile=True)
    browser.choose(pictures / "red" / "0.png")
    browser.until("document.querySelector('#message').textContent.startsWith('answered in')")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = "['.drop', '#result'].map((q) => document.querySelector(q).getBoundingClientRect().toJSON())"
    drop, result = browser.evaluate(boxes)
    assert result["top"] >= drop["bottom"] and drop["width"] > 250 and drop["height"] > 44


def test_a_server_that_has_gone_is_said(browser, serve, first, pictures):
    with serve(first, name="gone", batch_size=1) as client:
        browser.open(client.url)
    browser.choose(pictures / "red" / "0.png")
    browser.until("document.querySelector('[role=alert]')?.textContent")
    browser.problems.clear()  # Chromium logs the failed connection


def ask(browser, *texts):
    """Types texts into the page's fields and returns when the answer is there."""
    for number, text in enumerate(texts):
        browser.evaluate(f"document.querySelectorAll('textarea')[{number}].focus()")
        browser.do("Input.insertText", text=text)
    browser.press("Enter", 13, modifiers=2)
    browser.until("document.querySelector('#message').textContent.startsWith('answered in')")


MARKED = "[...document.querySelectorAll('#marked mark')].map((mark) => mark.firstChild.textContent)"
TEXT = "\N{GRINNING FACE} Zoë went to Köln, <b>she</b> said."


def test_an_answer_is_marked_in_its_text(browser, serve, write_bundle, tmp_path):
    folder = write_bundle(tmp_path / "1", "question_answering", state={"unanswerable": False, "threshold": 0.0})
    answer = Servable.load(folder).predict({"question": [b"who?"], "context": [TEXT.encode()]})
    with serve(folder, name="m", batch_size=1) as client:
        browser.open(client.url)
        ask(browser, "who?", TEXT)
    text = answer["answer"][0].decode()
    assert text and TEXT[answer["start"][0] : answer["end"][0]] == text
    assert browser.evaluate(ANSWER) == text
    assert browser.evaluate(MARKED) == [text]
    assert browser.evaluate("document.querySelector('#marked').textContent") == TEXT
    assert browser.evaluate(ROWS) == [f"score {100 * answer['score'][0]:.1f} %"]


def test_spans_are_marked_in_their_text(browser, serve, write_bundle, tmp_path):
    folder = write_bundle(tmp_path / "1", "token_classification")
    answer = {name: value[0] for name, value in Servable.load(folder).predict({"text": [TEXT.encode()]}).items()}
    with serve(folder, name="m", batch_size=1) as client:
        browser.open(client.url)
        ask(browser, TEXT)
    words = [TEXT[start:end] for start, end in zip(answer["start"], answer["end"], strict=True)]
    assert words and browser.evaluate(MARKED) == words
    assert browser.evaluate(ROWS) == [
        f"{label.decode()} {word} {100 * score:.1f} %"
        for label, word, score in zip(answer["label"], words, answer["score"], strict=True)
    ]


def test_words_that_stand_for_numbers_are_read(browser, pets):
    browser.open(pets.url)
    body = r'{"predictions": [[NaN, -Infinity, Infinity, 1.5, "NaN, \" and -Infinity"]]}'
    read = browser.evaluate(f"parsed({json.dumps(body)})")
    assert read == {"predictions": [["NaN", "-Infinity", "Infinity", 1.5, 'NaN, " and -Infinity']]}


def test_numbers_are_shown(browser, serve, write_bundle, tmp_path, pictures):
    folder, picture = write_bundle(tmp_path / "1", "image_regression"), pictures / "red" / "0.png"
    values = Servable.load(folder).predict({"image": [picture.read_bytes()]})["values"][0]
    with serve(folder, name="m", batch_size=1) as client:
        browser.open(client.url)
        browser.choose(picture)
        browser.until("document.querySelector('#message').textContent.startsWith('answered in')")
    shown = [float(number) for number in browser.evaluate(ANSWER).split(", ")]
    assert shown == pytest.approx(values.tolist(), rel=1e-5)
