"""Opens the API Explorer in a headless Chromium, runs "Creating an ECS Group" there, and reads its 200.

explore.py CHROMIUM READY-FILE SCREENSHOT
"""

import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import websocket

WAIT_S = 60


class Page:
    """A page of a browser, over the DevTools protocol."""

    def __init__(self, url):
        self.socket = websocket.create_connection(url, timeout=WAIT_S, suppress_origin=True)
        self.number = 0
        self.events = []

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                assert "error" not in message, (method, message)
                return message["result"]
            self.events.append(message)

    def value(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")

    def wait(self, script):
        """Waits until a script has a value."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            found = self.value(script)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {WAIT_S} s: {script}\n{self.value('document.body.innerText')}")


def devtools(folder):
    """The port that Chromium chose; it writes it down when it listens."""
    port = Path(folder, "DevToolsActivePort")
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        lines = port.read_text().splitlines() if port.exists() else []
        if len(lines) > 1:
            return lines[0]
        time.sleep(0.05)
    raise AssertionError("Chromium does not start")


def explore(page, api_url, token):
    page.call("Page.enable")
    page.call("Network.enable")
    page.call("Log.enable")
    page.call("Runtime.enable")
    page.call("Page.navigate", url=f"{api_url}/explorer")
    operation = "#operations-ECS_groups-createServerGroup"
    # "Authorize" shows a closed lock once the page knows the token.
    page.wait("document.querySelector('.scheme-container .authorize.locked') !== null")
    page.wait(f"document.querySelector('{operation} .opblock-summary-control') !== null")
    page.value(f"document.querySelector('{operation} .opblock-summary-control').click()")
    # The dev project and a body stand there already: nothing is typed.
    page.wait(f"document.querySelector('{operation} textarea')?.value.includes('anti-affinity')")
    page.wait(f"document.querySelector('{operation} .parameters select')?.value")
    page.wait(f"document.querySelector('{operation} .execute') !== null")
    page.value(f"document.querySelector('{operation} .execute').click()")
    status = page.wait(
        f"document.querySelector('{operation} .live-responses-table .response .response-col_status')?.innerText"
    )
    text = page.value(f"document.querySelector('{operation} .live-responses-table').innerText")
    assert status.split()[0] == "200", (status, text)
    assert '"anti-affinity"' in text and '"name": "web"' in text, text
    curl = page.value(f"document.querySelector('{operation} .curl-command').innerText")
    assert "X-Auth-Token" in curl and token in curl, curl
    assert page.value(f"document.querySelector('{operation} .curl-command .copy-to-clipboard') !== null")
    page.value(f"document.querySelector('{operation} .responses-inner').scrollIntoView()")
    return status, curl


def main(chromium, ready_file, screenshot):
    ready = json.loads(Path(ready_file).read_text())
    api_url = ready["api_url"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        arguments += ["--window-size=1280,1600", "about:blank"]
        browser = subprocess.Popen([chromium, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = devtools(folder)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=WAIT_S) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            page = Page(pages[0]["webSocketDebuggerUrl"])
            status, curl = explore(page, api_url, ready["token"])
            image = page.call("Page.captureScreenshot", format="png")["data"]
            Path(screenshot).write_bytes(base64.b64decode(image))
            asked = [
                event["params"]["request"]["url"]
                for event in page.events
                if event["method"] == "Network.requestWillBeSent"
            ]
            assert len(asked) >= 6, asked
            elsewhere = [url for url in asked if not url.startswith((f"{api_url}/", "data:"))]
            assert not elsewhere, elsewhere
            wrong = [
                event["params"]
                for event in page.events
                if event["method"] == "Runtime.exceptionThrown"
                or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
            ]
            assert not wrong, wrong
        finally:
            browser.terminate()
            browser.wait()
    groups = f"{api_url}/v1/{ready['project_id']}/cloudservers/os-server-groups"
    request = urllib.request.Request(groups, headers={"X-Auth-Token": ready["token"]})
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        names = [group["name"] for group in json.load(answer)["server_groups"]]
    assert names == ["web"], names
    print(f"the explorer made a group: {status.split()[0]}; {len(asked)} requests, all to the service; {screenshot}")
    print(curl)


if __name__ == "__main__":
    main(*sys.argv[1:])
