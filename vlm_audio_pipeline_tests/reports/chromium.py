"""Headless Chromium, driven over its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
    ),
]


class Page:
    """One page of a browser of its own; what it logs and what it requests is kept.

    Attributes:
        logged: texts of errors and console messages.
        requested: every URL it asked for.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900):
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        self._process = subprocess.Popen(["chromium", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = _until(lambda: (profile / "DevToolsActivePort").read_text().splitlines()[0])
        pages = _until(lambda: _pages(port))
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(pages[0]["webSocketDebuggerUrl"], max_size=None))
        self._last = 0
        self._loaded = False
        self.logged: list[str] = []
        self.requested: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command, and its result."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=60))
            self._note(told)
            if told.get("id") == self._last:
                assert "error" not in told, told
                return told["result"]

    def _note(self, told: dict[str, Any]) -> None:
        params = told.get("params", {})
        match told.get("method"):
            case "Runtime.exceptionThrown":
                self.logged.append(params["exceptionDetails"]["exception"]["description"])
            case "Runtime.consoleAPICalled":
                self.logged.append(" ".join(str(a.get("value")) for a in params["args"]))
            case "Log.entryAdded":
                self.logged.append(params["entry"]["text"])
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._loaded = False
        self.send("Page.navigate", url=url)
        while not self._loaded:
            self._note(json.loads(self._socket.recv(timeout=60)))

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript; promises are waited for."""
        got = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until JavaScript gives something true; gives it."""
        return _until(lambda: self.ask(expression))

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of what a selector finds."""
        x, y = self.ask(
            f"(() => {{const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press and release a key: "3", "ArrowLeft"."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Write where the cursor is."""
        self.send("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Write what is to be seen as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser."""
        self.send("Browser.close")
        self._open.close()
        self._process.wait(timeout=30)


def _pages(port: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        return [page for page in json.load(answer) if page["type"] == "page"]


def _until(happens: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if there := happens():
                return there
        except (OSError, IndexError):
            pass  # not there yet
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
