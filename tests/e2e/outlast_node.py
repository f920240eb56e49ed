"""Starts and stops simulated providers and a node, as real processes, and speaks to them as a caller would.

Every process takes a free port and is waited for by its ready line. Nothing here sleeps to let time pass: wait_for()
asks again and again until a condition holds, and fails at a deadline.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("OUTLAST_BIN", ROOT / "build" / "bin"))

READY_DEADLINE_S = 60  # a start takes 50 ms; machines that build beside it have taken over 20 s
EXIT_DEADLINE_S = 20
ANSWER_DEADLINE_S = 30


def wait_for(condition, what, deadline_s=10.0):
    """Returns the condition's first true value; fails when it has none within the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"within {deadline_s} s this did not happen: {what}"
        time.sleep(0.005)


class Process:
    """A child with a ready line on stdout and its log in a file."""

    def __init__(self, arguments, ready, log, environment=None):
        self.log_path = pathlib.Path(log)
        self._log = open(self.log_path, "ab")
        self.started_at = time.monotonic()
        self.child = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
        )
        line = self._first_line()
        self.ready_s = time.monotonic() - self.started_at
        if not line.startswith(ready):
            self.kill()
            raise AssertionError(f"{arguments[0]} was not ready: {line!r}\n{self.log()}")
        self.addresses = dict(re.findall(r"(\w+)=(\S+)", line))

    def _first_line(self):
        """The first line, or "" when the process ends or the deadline passes before."""
        watch = threading.Timer(READY_DEADLINE_S, self.child.kill)
        watch.start()
        try:
            return self.child.stdout.readline().decode()
        finally:
            watch.cancel()

    @property
    def pid(self):
        return self.child.pid

    def log(self):
        return self.log_path.read_text(errors="replace")[-4000:]

    def running(self):
        return self.child.poll() is None

    def terminate(self):
        """SIGTERM; returns the exit status."""
        if self.running():
            self.child.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, deadline_s=EXIT_DEADLINE_S):
        try:
            status = self.child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"pid {self.pid} did not end within {deadline_s} s:\n{self.log()}")
        self._close()
        return status

    def kill(self):
        if self.running():
            self.child.kill()
        self.child.wait()
        self._close()

    def _close(self):
        self.child.stdout.close()
        self._log.close()


def request(address, method, path, body=None, headers=None, timeout=ANSWER_DEADLINE_S):
    """One request on a connection of its own: (status, headers in lower case, bytes)."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        payload = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        connection.request(method, path, payload, headers or {})
        response = connection.getresponse()
        data = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, data
    finally:
        connection.close()


class Sim(Process):
    """A simulated provider."""

    def __init__(self, folder, name="alpha", dialect="openai", models=("gpt-sim",), listen="127.0.0.1:0", **flags):
        self.name = name
        self.dialect = dialect
        self.models = list(models)
        arguments = [BIN / "outlast-sim", "--listen", listen, "--control", "127.0.0.1:0"]
        arguments += ["--dialect", dialect, "--models", ",".join(models)]
        for flag, value in flags.items():
            arguments += ["--" + flag.replace("_", "-"), str(value)]
        super().__init__(arguments, "outlast-sim ready ", folder / f"sim-{name}.log")
        self.http = self.addresses["http"]
        self.control = self.addresses["control"]

    def faults(self, *faults):
        status, _, body = request(self.control, "POST", "/sim/faults", list(faults))
        assert status == 200, body

    def stats(self):
        return json.loads(request(self.control, "GET", "/sim/stats")[2])


class Answer:
    """What a caller got: a whole answer, or what a stream gave until it ended or broke."""

    def __init__(self, status, headers, data=b"", events=(), clean=True):
        self.status = status
        self.headers = headers
        self.data = data
        self.events = list(events)  # the data of each event, as text
        self.clean = clean          # False: the connection was cut before the body's end

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def request_id(self):
        return self.headers["x-outlast-request-id"]

    @property
    def deployment(self):
        return self.headers["x-outlast-deployment"]

    @property
    def chunks(self):
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def done(self):
        return bool(self.events) and self.events[-1] == "[DONE]"

    @property
    def text(self):
        if not self.events:
            return self.json["choices"][0]["message"]["content"]
        deltas = (choice["delta"] for chunk in self.chunks for choice in chunk.get("choices", []))
        return "".join(delta.get("content") or "" for delta in deltas)

    def __repr__(self):
        return f"<{self.status} {self.headers.get('x-outlast-deployment')} {(self.data or b'')[-300:]!r}>"

    @property
    def error(self):
        if self.events:
            return next((chunk["error"] for chunk in self.chunks if "error" in chunk), None)
        return self.json.get("error")


class Stream:
    """A streamed answer, read event by event. Closing it early is what a caller that disconnects does."""

    def __init__(self, address, body, key, timeout=ANSWER_DEADLINE_S):
        self.connection = http.client.HTTPConnection(address, timeout=timeout)
        self.connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}), headers_for(key))
        self.response = self.connection.getresponse()
        self.headers = {name.lower(): value for name, value in self.response.getheaders()}
        self.status = self.response.status
        self.clean = True
        self.data = b""

    def __iter__(self):
        """The data of each event. Ends at the end of the body, clean or not."""
        event = []
        while True:
            try:
                line = self.response.readline()
            except (http.client.IncompleteRead, ConnectionError):
                line = None
            if not line:
                self.clean = line is not None  # a cut chunked body raises, its last chunk does not
                return
            self.data += line
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                event.append(line[5:].lstrip().decode())
            elif not line and event:
                yield "\n".join(event)
                event = []

    def rest(self):
        events = list(self)
        self.close()
        return Answer(self.status, self.headers, self.data, events, self.clean)

    def close(self):
        self.response.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def headers_for(key):
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = "Bearer " + key
    return headers


def question(text="What is the river's promise?", model="smart", **fields):
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


class Node:
    """A node's folder, configuration and daemon. The daemon may be started, killed and started again."""

    def __init__(self, folder, sims, *, deployments=None, routes=None, timeouts=None, limits=None, prices=True,
                 unpriced="serve", lanes=1, policy=None, rate_limits=(), roles=("gateway", "ledger")):
        self.folder = folder
        self.data = folder / "data"
        self.config_path = folder / "outlast.toml"
        self.sims = list(sims)
        self.options = {
            "deployments": deployments,
            "routes": routes,
            "timeouts": timeouts or {},
            "limits": limits or {},
            "prices": prices,
            "unpriced": unpriced,
            "lanes": lanes,
            "policy": policy,
            "rate_limits": rate_limits,
            "roles": roles,
        }
        self.daemon = None
        self._key = None
        self.write_config()

    # ---- configuration

    def write_config(self, **changes):
        self.options.update(changes)
        self.config_path.write_text(self.config_text())
        if self.options["prices"]:
            (self.folder / "prices.toml").write_text(self.prices_text())

    def deployments(self):
        """(name, provider, model, priority), one for each model of each simulator unless told otherwise."""
        if self.options["deployments"] is not None:
            return self.options["deployments"]
        return [(f"{sim.name}-{model}", sim.name, model, 1) for sim in self.sims for model in sim.models]

    def config_text(self):
        timeouts = {"connect_ms": 1000, "first_event_ms": 5000, "idle_ms": 5000, **self.options["timeouts"]}
        limits = {"disk_free_bytes_min": 1 << 20, **self.options["limits"]}
        lines = ["[node]", 'name = "e2e"', f'data = "{self.data}"', f"roles = {json.dumps(list(self.options['roles']))}"]
        lines += ["[http]", 'listen = "127.0.0.1:0"', 'admin_listen = "127.0.0.1:0"', f"lanes = {self.options['lanes']}"]
        lines += ["[zmq]", 'listen = "tcp://127.0.0.1:0"']
        lines += ["[limits]"] + [f"{name} = {value}" for name, value in limits.items()]
        for sim in self.sims:
            lines += ["[[provider]]", f'name = "{sim.name}"', f'dialect = "{sim.dialect}"']
            lines += [f'base_url = "http://{sim.http}/v1"', 'api_key = { env = "OUTLAST_E2E_KEY" }']
        timeouts_text = ", ".join(f"{name} = {value}" for name, value in timeouts.items())
        for name, provider, model, priority in self.deployments():
            lines += ["[[deployment]]", f'name = "{name}"', f'provider = "{provider}"', f'model = "{model}"']
            lines += [f"priority = {priority}", f"timeouts = {{ {timeouts_text} }}"]
        routes = self.options["routes"] or {"smart": [deployment[0] for deployment in self.deployments()]}
        for route, names in routes.items():
            lines += ["[[route]]", f'name = "{route}"', f"deployments = {json.dumps(names)}"]
            if self.options["policy"]:
                lines += [f"policy = {{ {self.options['policy']} }}"]
        for limit in self.options["rate_limits"]:
            lines += ["[[rate_limit]]"] + [f"{name} = {json.dumps(value)}" for name, value in limit.items()]
        lines += ["[prices]", f'unpriced = "{self.options["unpriced"]}"']
        if self.options["prices"]:
            lines += ['file = "prices.toml"']
        return "\n".join(lines) + "\n"

    def prices_text(self):
        lines = ['version = "e2e-1"']
        for sim in self.sims:
            for model in sim.models:
                if model.startswith("unpriced"):
                    continue
                lines += ["[[price]]", f'provider = "{sim.name}"', f'model = "{model}"', 'input = "3.00"']
                lines += ['output = "15.00"', 'input_cache_read = "0.30"', 'input_cache_write_5m = "3.75"']
        return "\n".join(lines) + "\n"

    # ---- the daemon

    def start(self):
        self.daemon = Process(
            [BIN / "outlastd", "--config", self.config_path],
            "outlastd ready ",
            self.folder / "outlastd.log",
            {"OUTLAST_E2E_KEY": "sk-sim"},
        )
        self.http = self.daemon.addresses["http"]
        self.admin_address = self.daemon.addresses["admin"]
        self.zmq = self.daemon.addresses["zmq"]
        return self

    def start_expecting_failure(self):
        """Runs the daemon until it ends by itself; returns (status, what it wrote)."""
        result = subprocess.run(
            [str(BIN / "outlastd"), "--config", str(self.config_path)],
            capture_output=True,
            text=True,
            timeout=READY_DEADLINE_S,
            env={**os.environ, "OUTLAST_E2E_KEY": "sk-sim"},
        )
        return result.returncode, result.stdout + result.stderr

    def stop(self):
        """Drains; asserts the clean exit."""
        status = self.daemon.terminate()
        assert status == 0, f"exit status {status}:\n{self.daemon.log()}"

    def kill(self):
        self.daemon.kill()

    # ---- administration

    def token(self):
        return (self.data / "admin.token").read_text().strip()

    def admin(self, method, path, body=None):
        headers = {"authorization": "Bearer " + self.token(), "content-type": "application/json"}
        status, answer_headers, data = request(self.admin_address, method, "/admin/v1/" + path, body, headers)
        assert status < 300, f"{method} {path}: {status} {data[:500]!r}"
        return answer_headers, data

    def cli(self, *arguments, check=True):
        """Runs `outlast`; returns the finished process."""
        result = subprocess.run(
            [str(BIN / "outlast"), *arguments],
            capture_output=True,
            text=True,
            timeout=ANSWER_DEADLINE_S,
            env={**os.environ, "OUTLAST_ADMIN": "http://" + self.admin_address, "OUTLAST_ADMIN_TOKEN": self.token()},
        )
        if check:
            assert result.returncode == 0, f"outlast {arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def create_key(self, tenant="acme/search/ann", name="e2e"):
        return json.loads(self.cli("key", "create", "--tenant", tenant, "--name", name, "--json").stdout)

    @property
    def key(self):
        if self._key is None:
            self._key = self.create_key()["key"]
        return self._key

    def entries(self, first=0):
        """Every entry from an index on."""
        entries = []
        while True:
            headers, data = self.admin("GET", f"ledger/entries?from={first}&limit=10000")
            page = [json.loads(line) for line in data.splitlines() if line]
            if not page:
                return entries
            entries += page
            first = int(headers["x-outlast-next-index"])

    def entries_of(self, request_id, kind=None):
        entries = [entry for entry in self.entries() if entry.get("request_id") == request_id]
        return entries if kind is None else [entry for entry in entries if entry["kind"] == kind]

    def ended(self, request_id):
        """The entry that ended a request's reservation, whichever it is."""
        kinds = ("settle", "void")
        found = wait_for(
            lambda: [entry for entry in self.entries_of(request_id) if entry["kind"] in kinds],
            f"the end of {request_id}",
        )
        assert len(found) == 1, found
        return found[0]

    def settlement_of(self, request_id):
        """The one settle entry of a request; settlements may follow the answer by a commit."""
        found = wait_for(lambda: self.entries_of(request_id, "settle"), f"the settlement of {request_id}")
        assert len(found) == 1, found
        return found[0]

    def verify(self):
        result = self.cli("ledger", "verify")
        return result.stdout

    def usage(self, by="model"):
        return json.loads(self.cli("usage", "--by", by, "--json").stdout)

    # ---- requests

    def post(self, body, key=None, path="/v1/chat/completions", headers=None, timeout=ANSWER_DEADLINE_S):
        """A raw body (bytes) or an object."""
        all_headers = {**headers_for(self.key if key is None else key), **(headers or {})}
        return Answer(*request(self.http, "POST", path, body, all_headers, timeout))

    def chat(self, text="What is the river's promise?", **fields):
        return self.post(question(text, **fields))

    def stream(self, text="What is the river's promise?", timeout=ANSWER_DEADLINE_S, **fields):
        return Stream(self.http, question(text, **fields), self.key, timeout)


class Load:
    """Threads that send requests one after another and keep a record of each, until told to stop."""

    def __init__(self, node, threads=8, bodies=None):
        self.node = node
        self.bodies = bodies or [question(), question(stream=True)]
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.completed = []  # Answers that were complete
        self.failed = []     # what went wrong, as text, or Answers with an error
        key, address = node.key, node.http
        self.threads = [
            threading.Thread(target=self._run, args=(address, key, number), daemon=True) for number in range(threads)
        ]

    def _run(self, address, key, number):
        connection = http.client.HTTPConnection(address, timeout=ANSWER_DEADLINE_S)
        headers = headers_for(key)
        count = number
        while not self.stopping.is_set():
            body = self.bodies[count % len(self.bodies)]
            count += 1
            try:
                connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
                answer = self._read(connection.getresponse(), body.get("stream", False))
                if not answer.clean:
                    connection.close()
                whole = answer.status == 200 and answer.clean and (answer.done or not body.get("stream"))
                with self.lock:
                    (self.completed if whole else self.failed).append(answer)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with self.lock:
                    self.failed.append(f"{type(error).__name__}: {error}")
                if isinstance(error, ConnectionRefusedError):
                    return
        connection.close()

    @staticmethod
    def _read(response, stream):
        headers = {name.lower(): value for name, value in response.getheaders()}
        clean = True
        try:
            data = response.read()
        except http.client.IncompleteRead as cut:
            data, clean = cut.partial, False
        events = re.findall(r"^data: (.*)$", data.decode(errors="replace"), re.M) if stream else []
        return Answer(response.status, headers, data, events, clean)

    def count(self):
        with self.lock:
            return len(self.completed)

    def wait_for_more(self, more):
        before = self.count()
        wait_for(lambda: self.count() >= before + more, f"{more} more answers; failed so far: {self.failed[:3]}", 60)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(ANSWER_DEADLINE_S)
            assert not thread.is_alive(), "a request of the load has not ended"

    def __exit__(self, *_):
        self.stop()


@contextlib.contextmanager
def ended(*processes):
    """Kills what is still running at the end."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
