"""Prometheus scrapes a target that requires a token, by its `oauth2` settings."""

import json
import socket
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from checks import AUDIENCE, ISSUER, check, equal, register

client_id, secret = register()


class Target(BaseHTTPRequestHandler):
    """Serves metrics to clients with a token for this audience. Asks Gatebird like a reverse proxy."""

    def do_GET(self):
        headers = {"Authorization": self.headers.get("Authorization", "")}
        demands = {"audience": AUDIENCE, "scope": "posts:read"}
        status = requests.get(ISSUER + "/verify", params=demands, headers=headers).status_code
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"orders_total 7\n" if status == 200 else b"")

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def job(name, client_secret, port):
    return {
        "job_name": name,
        "scrape_interval": "1s",
        "oauth2": {
            "client_id": client_id,
            "client_secret": client_secret,
            "token_url": ISSUER + "/token",
            "scopes": ["posts:read"],
            "endpoint_params": {"resource": AUDIENCE},
        },
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }


def ask(port, path):
    answer = requests.get(f"http://127.0.0.1:{port}/api/v1/{path}")
    answer.raise_for_status()
    return answer.json()["data"]


def targets(port):
    """The targets by job, after the first scrape of each."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            active = {target["labels"]["job"]: target for target in ask(port, "targets")["activeTargets"]}
            if len(active) == 2 and all(target["health"] != "unknown" for target in active.values()):
                return active
        except requests.RequestException:
            pass  # Prometheus is starting.
        time.sleep(0.2)
    raise AssertionError("Prometheus did not scrape")


target = ThreadingHTTPServer(("127.0.0.1", 0), Target)
threading.Thread(target=target.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as folder:
    # JSON is valid YAML.
    config = Path(folder, "prometheus.yml")
    config.write_text(json.dumps({"scrape_configs": [job(*each, target.server_port) for each in [("good", secret), ("wrong", "wrong")]]}))
    port = free_port()
    options = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    prometheus = subprocess.Popen(["prometheus", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found = targets(port)
        with check("a target behind the gate is scraped"):
            equal(found["good"]["lastError"], "")
            time.sleep(0.1)
            equal(ask(port, "query?query=orders_total")["result"][0]["value"][1], "7")
        with check("a wrong client secret is told in the target's error"):
            equal(found["wrong"]["health"], "down")
            equal("invalid_client" in found["wrong"]["lastError"], True)
    finally:
        prometheus.terminate()
        prometheus.wait(30)
