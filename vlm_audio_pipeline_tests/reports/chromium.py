"""Drive headless Chromium over its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

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


class BrowserPage:
    """One page in its own browser process.

    Attributes:
        logged: texts of errors and console messages.
        requested: every URL that the page requested.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900):
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        self._process = subprocess.Popen(["chromium", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = _wait_for(lambda: (profile / "DevToolsActivePort").read_text().splitlines()[0])
        pages = _wait_for(lambda: _pages(port))
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(pages[0]["webSocketDebuggerUrl"], max_size=None))
        self._last_id = 0
        self._is_loaded = False
        self.logged: list[str] = []
        self.requested: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a DevTools command and return its result."""
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            self._record_event(message)
            if message.get("id") == self._last_id:
                assert "error" not in message, message
                return message["result"]

    def _record_event(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.logged.append(params["exceptionDetails"]["exception"]["description"])
            case "Runtime.consoleAPICalled":
                self.logged.append(" ".join(str(a.get("value")) for a in params["args"]))
            case "Log.entryAdded":
                self.logged.append(params["entry"]["text"])
            case "Page.loadEventFired":
                self._is_loaded = True
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])

    def open(self, url: str) -> None:
        """Open a URL and wait until the page is loaded."""
        self._is_loaded = False
        self.send("Page.navigate", url=url)
        while not self._is_loaded:
            self._record_event(json.loads(self._socket.recv(timeout=60)))

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        reply = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait_until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is truthy, and return its value."""
        return _wait_for(lambda: self.evaluate(expression))

    def click(self, selector: str) -> None:
        """Click the middle of the first element that a CSS selector matches."""
        x, y = self.evaluate(
            f"(() => {{const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press and release a key, such as "3" or "ArrowLeft"."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Type text into the focused element."""
        self.send("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Write a screenshot of the window as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """Close the browser."""
        self.send("Browser.close")
        self._open.close()
        self._process.wait(timeout=30)


def _pages(port: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as reply:
        return [page for page in json.load(reply) if page["type"] == "page"]


def _wait_for(condition: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if result := condition():
                return result
        except (OSError, IndexError):
            pass  # the browser is still starting
        assert time.monotonic() < end, f"no result after {seconds} s"
        time.sleep(0.1)
