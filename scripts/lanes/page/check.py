"""Looks at pages in a headless browser: check.py BROWSER PAGE.html...

The browser is driven by its DevTools protocol through a pair of pipes, which needs no port and no
library. Exit status 1 if anything is wrong with a page; each thing is a line.
"""

import base64
import fcntl
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time

VIEWS = [(width, scheme) for width in (360, 1280) for scheme in ("light", "dark")]
SECONDS = 60

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--remote-debugging-pipe""".split()


class Browser:
    """A browser of our own, which ends with the block that it is used in."""

    def __init__(self, program, profile):
        # The browser reads from its descriptor 3 and writes to its 4.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())]
        to_read, self.out, self.into, to_write = ends

        def place():
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=place, pass_fds=(3, 4), start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self.buffer = b""
        self.last = 0
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def message(self, deadline):
        while b"\0" not in self.buffer:
            if not select.select([self.into], [], [], max(0, deadline - time.monotonic()))[0]:
                raise RuntimeError(f"the browser did not answer in {SECONDS} seconds")
            read = os.read(self.into, 1 << 20)
            if not read:
                raise RuntimeError(f"the browser ended, with status {self.process.wait()}")
            self.buffer += read
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        """Calls a method and returns its result; events that come first are kept."""
        self.last += 1
        request = {"id": self.last, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            message = self.message(deadline)
            if message.get("id") == self.last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait_for(self, method):
        deadline = time.monotonic() + SECONDS
        while all(event.get("method") != method for event in self.events):
            self.events.append(self.message(deadline))


def complaints(event, url):
    """What an event says against a page."""
    method, said = event.get("method"), event.get("params", {})
    if method == "Network.requestWillBeSent" and said["request"]["url"] != url:
        yield f"it asks for {said['request']['url']}"
    if method == "Runtime.exceptionThrown":
        yield f"a script failed: {said['exceptionDetails']['text']}"
    if method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
        yield f"the console has an error: {said['args']}"
    if method == "Log.entryAdded" and said["entry"]["level"] == "error":
        yield f"the log has an error: {said['entry']['text']}"


def look(browser, page, width, scheme, looks):
    """Opens a page in a tab of its own, and yields what is wrong with it."""
    url = page.resolve().as_uri()
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Runtime", "Log"):
        browser.call(f"{domain}.enable", session)
    phone = width < 600
    browser.call("Emulation.setDeviceMetricsOverride", session, width=width, height=800,
                 deviceScaleFactor=2 if phone else 1, mobile=phone)
    browser.call("Emulation.setEmulatedMedia", session,
                 features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    failed = browser.call("Page.navigate", session, url=url).get("errorText")
    if failed:
        raise RuntimeError(f"{url}: {failed}")
    browser.wait_for("Page.loadEventFired")
    found = browser.call("Runtime.evaluate", session, returnByValue=True,
                         expression=f"({looks})({json.dumps(scheme)}, {width})")
    if "exceptionDetails" in found:
        raise RuntimeError(f"look.js failed: {found['exceptionDetails']}")
    if os.environ.get("SHOTS"):
        shot = browser.call("Page.captureScreenshot", session, captureBeyondViewport=True)
        folder = pathlib.Path(os.environ["SHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        picture = folder / f"{page.stem}-{width}-{scheme}.png"
        picture.write_bytes(base64.b64decode(shot["data"]))
    yield from found["result"]["value"]["wrong"]
    for event in browser.events:
        if event.get("sessionId") == session:
            yield from complaints(event, url)
    browser.call("Target.closeTarget", targetId=target)
    print(f"{page.name}, {width} px, {scheme}: {found['result']['value']['seen']}")


def main(program, *pages):
    looks = (pathlib.Path(__file__).parent / "look.js").read_text()
    wrong = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        with Browser(program, profile) as browser:
            for page in map(pathlib.Path, pages):
                for width, scheme in VIEWS:
                    for what in look(browser, page, width, scheme, looks):
                        print(f"WRONG: {page.name}, {width} px, {scheme}: {what}")
                        wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
