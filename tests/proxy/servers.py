"""Servers for the checks of `run`: Gatebird, an API that reports what reached it, and the five proxies with the files of
deploy/; and a client that can send requests that libraries refuse to send."""

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
import types
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


# --- processes -------------------------------------------------------------------------------------------------------


class Process:
    """A child process with a log file. It is ready once its port accepts connections."""

    def __init__(self, command, port, log, env=None):
        self.port, self.log = port, log
        with open(log, "ab") as output:
            self.child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        until = time.monotonic() + 15
        while not listens(port):
            if self.child.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{command[0]} does not listen:\n{pathlib.Path(log).read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(12)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connections(port):
    """The number of open and recently closed connections to a port of this machine (Linux)."""
    ends = [line.split()[1:4] for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = "0A"
    return sum(f"{port:04X}" in (near[-4:], far[-4:]) for near, far, state in ends if state != listening)


@contextlib.contextmanager
def full_listener():
    """A `port` that neither accepts nor refuses connections."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield types.SimpleNamespace(port=listener.getsockname()[1])


def binary(name):
    """The program to run: $NAME, or the one on the PATH. None if there is none."""
    given = os.environ.get(name.upper())
    return shutil.which(given or name, path=os.environ.get("PATH", "") + ":/usr/sbin")


def gatebird_binary():
    if given := os.environ.get("GATEBIRD_BIN"):
        return shutil.which(given)
    built = [path for kind in ("release", "debug") if (path := ROOT / "target" / kind / "gatebird").exists()]
    return str(max(built, key=lambda path: path.stat().st_mtime)) if built else None


# --- the client ------------------------------------------------------------------------------------------------------


class Answer:
    def __init__(self, response, body):
        self.status, self.body = response.status, body
        self.headers = [(name.lower(), value) for name, value in response.getheaders()]

    def all(self, name):
        return [value for other, value in self.headers if other == name.lower()]

    def get(self, name):
        return (self.all(name) or [None])[0]

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def seen(self):
        """The request as the API received it."""
        assert self.status == 200, f"{self.status} {self.body[:200]!r}"
        return Seen(self.json)


class Seen:
    def __init__(self, report):
        self.method, self.path, self.digest = report["method"], report["path"], report["sha256"]
        self.headers = [tuple(pair) for pair in report["headers"]]

    def all(self, name):
        return [value for other, value in self.headers if other.lower() == name.lower()]


def call(port, method, path, headers=(), body=None, host="127.0.0.1", chunked=False):
    """One request on its own connection, with exactly these headers in this order and spelling."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in headers:
            connection.putheader(name, value)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body, encode_chunked=chunked)
        response = connection.getresponse()
        return Answer(response, response.read())


# --- Gatebird --------------------------------------------------------------------------------------------------------


class Gatebird:
    def __init__(self, program, folder, **settings):
        self.port = free_port()
        folder.mkdir()
        self.command, self.log = [program], folder / "log"
        # Without the caller's environment, which may have settings.
        self.env = {
            "PATH": os.environ.get("PATH", ""),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "DATABASE_URL": f"sqlite://{folder}/gatebird.db",
            "TRUSTED_PROXIES": "127.0.0.1",
            "METRICS_ADDR": "off",
            "BCRYPT_COST": "4",
            "LIMIT_FREE": "off",
            "LIMIT_LOG": "off",
            "LIMIT_CONNECTIONS": "off",
            # The hosts of these tests are not verified.
            "UNVERIFIED_HOSTS": "allow",
            **settings,
        }
        self.folder = folder
        self.start()

    def start(self):
        self.process = Process(self.command, self.port, self.log, self.env)

    def stop(self):
        self.process.stop()

    def json(self, path, body, token=None):
        headers = [("Content-Type", "application/json")]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        answer = call(self.port, "POST", path, headers, json.dumps(body).encode())
        assert answer.status in (200, 201), f"{path}: {answer.status} {answer.body!r}"
        return answer.json

    def form(self, path, client, **members):
        return call(self.port, "POST", path, *form(client, **members))

    def user(self, name, nick):
        """The token of a new account."""
        return self.json("/v1/signup", {"username": name, "nick": nick, "password": "correct horse battery"})["token"]

    def client(self, user, host, plan="free"):
        """The client_id and secret of a new domain."""
        payload = self.json("/v1/domains", {"host": host, "type": plan}, user)["payload"]
        return payload["id"], payload["clientSecret"]

    def token(self, client, **members):
        answer = self.form("/token", client, grant_type="client_credentials", **members)
        assert answer.status == 200, f"/token: {answer.status} {answer.body!r}"
        return answer.json["access_token"]


def form(client, **members):
    """Headers and body of a form, authenticated by Basic."""
    basic = base64.b64encode(":".join(client).encode()).decode()
    headers = [("Authorization", f"Basic {basic}"), ("Content-Type", "application/x-www-form-urlencoded")]
    return headers, urllib.parse.urlencode(members).encode()


def claims(token):
    """The claims of a token, unverified."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


# --- the API ---------------------------------------------------------------------------------------------------------


class Api(http.server.ThreadingHTTPServer):
    """Answers 200 with what it received, or /status/N with that status; counts what arrives."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ApiHandler)
        self.port, self.arrived = self.server_port, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class ApiHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1               # head and body in one packet; otherwise each answer waits 40 ms for an acknowledgement

    def log_message(self, *_):
        pass

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self):
        self.server.arrived += 1
        body = self.read_body()
        report = {
            "method": self.command,
            "path": self.path,
            "headers": self.headers.items(),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        text = json.dumps(report).encode()
        self.send_response(int(self.path.rpartition("/")[2]) if self.path.startswith("/status/") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Method", self.command)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = answer


# --- the proxies -----------------------------------------------------------------------------------------------------


def committed(name, *changes):
    """A file of deploy/ with some of its text replaced. The text must be there."""
    text = (DEPLOY / name).read_text()
    for old, new in changes:
        assert old in text, f"deploy/{name} has no {old!r}"
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy with its configuration of deploy/, in front of `gate` and `api` (ports). Only addresses and paths are
    replaced, and `changes`, such as a line that is a comment in the file."""

    name = program = None
    install = None
    expired, over_plan, no_answer = 401, 403, {503}
    bind_host = ()

    def __init__(self, program, folder, gate, api, *changes):
        self.port = free_port()
        folder.mkdir()
        command = [program, *self.prepare(folder, gate, api, changes)]
        # Caddy writes into its HOME.
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
        self.process = Process(command, self.port, folder / "log", env)

    def call(self, method="GET", path="/", token=None, headers=(), body=None, host="api.example.com", **more):
        if token:
            headers = [*headers, ("Authorization", f"Bearer {token}")]
        return call(self.port, method, path, headers, body, host, **more)

    def stop(self):
        self.process.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Nginx(Proxy):
    name = "nginx"
    install = "apt-get install nginx-light"
    expired, over_plan = 419, 429
    bind_host = (("# auth_request /_gatebird/own-host;", "auth_request /_gatebird/own-host;"),)

    def prepare(self, folder, gate, api, changes):
        site = committed(
            "nginx.conf",
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("127.0.0.1:8002", f"127.0.0.1:{gate}"),
            ("127.0.0.1:3000", f"127.0.0.1:{api}"),
            *changes,
        )
        (folder / "gatebird.conf").write_text(site)
        return nginx(folder, f"include {folder}/gatebird.conf;")


def nginx(folder, http):
    """The arguments for an nginx whose files are all in `folder`, with `http` in its http block."""
    (folder / "nginx.conf").write_text(f"""
        {"user root root;" if os.geteuid() == 0 else ""}
        daemon off;
        worker_processes 1;
        pid {folder}/pid;
        events {{ worker_connections 256; }}
        http {{
            access_log off;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            {http}
        }}
    """)
    return ["-e", f"{folder}/error.log", "-p", str(folder), "-c", f"{folder}/nginx.conf"]


class FastApi(Proxy):
    """A fast API for measurements: an nginx that answers directly."""

    def prepare(self, folder, *_):
        return nginx(folder, f"server {{ listen 127.0.0.1:{self.port}; keepalive_requests 1000000; return 200 ok; }}")


class Traefik(Proxy):
    name = "traefik"
    install = "pip install -r tests/proxy/requirements.txt"
    no_answer = {500}
    bind_host = (
        ("        address: http://127.0.0.1:8002/verify\n", ""),
        ("# address: http://127.0.0.1:8002/verify?host", "address: http://127.0.0.1:8002/verify?host"),
    )

    def prepare(self, folder, gate, api, changes):
        static = committed(
            "traefik.yml",
            ('":80"', f'"127.0.0.1:{self.port}"'),
            ("filename: traefik-dynamic.yml", f"filename: {folder}/traefik-dynamic.yml"),
        )
        dynamic = committed(
            "traefik-dynamic.yml",
            *changes,
            ("127.0.0.1:8002", f"127.0.0.1:{gate}"),
            ("127.0.0.1:3000", f"127.0.0.1:{api}"),
        )
        (folder / "traefik.yml").write_text(static)
        (folder / "traefik-dynamic.yml").write_text(dynamic)
        return ["--configfile", f"{folder}/traefik.yml"]

    def __init__(self, *arguments):
        super().__init__(*arguments)
        # The port is open before the routers are loaded.
        until = time.monotonic() + 10
        while self.call().status == 404 and time.monotonic() < until:
            time.sleep(0.02)


class Envoy(Proxy):
    name = "envoy"
    install = Traefik.install
    bind_host = (
        ("                path_override: /verify\n", ""),
        ("# path_override: /verify?host", "path_override: /verify?host"),
    )

    def prepare(self, folder, gate, api, changes):
        (folder / "envoy.yaml").write_text(committed(
            "envoy.yaml",
            *changes,
            ("address: 0.0.0.0, port_value: 80 ", f"address: 127.0.0.1, port_value: {self.port} "),
            ("port_value: 8002", f"port_value: {gate}"),
            ("port_value: 3000", f"port_value: {api}"),
        ))
        return ["-c", f"{folder}/envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "-l", "warn"]


class Caddy(Proxy):
    name = "caddy"
    install = "apt-get install caddy"
    expired, over_plan, no_answer = 419, 429, {502}
    bind_host = (("# request_header X-Gatebird-Require-Host", "request_header X-Gatebird-Require-Host"),)

    def prepare(self, folder, gate, api, changes):
        (folder / "Caddyfile").write_text(committed(
            "Caddyfile",
            *changes,
            ("http://gate.example.com {", f"http://gate.example.com:{self.port} {{\n\tbind 127.0.0.1"),
            ("http://api.example.com {", f"http://api.example.com:{self.port} {{\n\tbind 127.0.0.1"),
            ("127.0.0.1:8002", f"127.0.0.1:{gate}"),
            ("127.0.0.1:3000", f"127.0.0.1:{api}"),
        ))
        return ["run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]


class HAProxy(Proxy):
    name = "haproxy"
    install = "apt-get install haproxy"
    expired, over_plan = 419, 429
    bind_host = (("# http-request set-var(txn.demands) str(host=", "http-request set-var(txn.demands) str(host="),)

    def prepare(self, folder, gate, api, changes):
        # The name of the listener is shared by the machine, and several proxies may run at once.
        listener = ("abns@gatebird", f"abns@gatebird-{self.port}")
        (folder / "gatebird.lua").write_text(committed("gatebird.lua", listener))
        (folder / "haproxy.cfg").write_text(committed(
            "haproxy.cfg",
            *changes,
            ("lua-load gatebird.lua", f"lua-load {folder}/gatebird.lua"),
            listener,
            ("bind :80 ", f"bind 127.0.0.1:{self.port} "),
            ("127.0.0.1:8002", f"127.0.0.1:{gate}"),
            ("127.0.0.1:3000", f"127.0.0.1:{api}"),
        ))
        return ["-f", f"{folder}/haproxy.cfg", "-db"]


PROXIES = {proxy.name: proxy for proxy in (Nginx, Traefik, Envoy, Caddy, HAProxy)}
