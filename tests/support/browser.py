"""A real browser without a window, driven by Chromium's DevTools protocol over pipes."""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_SECONDS = 60
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-pipe",
)


def chromium() -> str:
    """Return the path of Chromium, or skip the test where it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    return found


@dataclass
class Page:
    """An open page."""

    read_end: int
    write_end: int
    session: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _buffer: bytes = b""
    problems: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> Any:
        """Send a command of the protocol and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(json.dumps(answer["params"])[:500])

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self.read_end], [], [], _SECONDS)
            assert ready, "the browser does not answer"
            self._buffer += os.read(self.read_end, 1 << 20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Return when a JavaScript expression is true."""
        deadline = time.monotonic() + _SECONDS
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)

    def press(self, key: str, code: int, modifiers: int = 0) -> None:
        """Press a key."""
        names = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **names, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **names)


@contextlib.contextmanager
def page(url: str, folder: Path, headers: Mapping[str, str]) -> Iterator[Page]:
    """Open a page in a browser with an empty profile in `folder`."""
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    # Chromium reads commands from file descriptor 3 and answers on 4.
    line = f'exec "$@" 3<&{command_read} 4>&{answer_write}'
    command = ["bash", "-c", line, "bash", chromium(), *_FLAGS, f"--user-data-dir={folder}"]
    with subprocess.Popen(
        command,
        pass_fds=(command_read, answer_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(command_read)
        os.close(answer_write)
        try:
            opened = Page(answer_read, command_write)
            target = opened.call("Target.createTarget", url="about:blank")["targetId"]
            attached = opened.call("Target.attachToTarget", targetId=target, flatten=True)
            opened.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                opened.call(f"{domain}.enable")
            opened.call("Network.setExtraHTTPHeaders", headers=dict(headers))
            opened.call("Page.navigate", url=url)
            opened.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
            yield opened
        finally:
            process.kill()
            process.wait()
            os.close(command_write)
            os.close(answer_read)


def run_in_page(file: Path, script: str, folder: Path) -> Any:
    """Open a page, run a script in it, and return what the script returns.

    Args:
        file: HTML file.
        script: Body of an asynchronous function.
        folder: Folder for the browser's profile.
    """
    with page(file.resolve().as_uri(), folder / "profile", {}) as opened:
        return opened.value(f"(async () => {{ {script} }})()")
