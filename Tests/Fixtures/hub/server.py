"""A hub on the loopback, which answers as huggingface.co does: lists, redirects to another host for what LFS stores,
ranges, ETags, tokens. Each repository misbehaves as its name says. The first line of output is the port, that of the
other host (localhost for 127.0.0.1) is the same; each request is one line of the log.

python3 server.py FOLDER LOG      FOLDER/models/ORG/NAME/FILE, FOLDER/datasets/ORG/NAME/FILE
"""
import functools, hashlib, json, os, re, sys, threading, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER, LOG = sys.argv[1], open(sys.argv[2], "a", buffering=1)
TOKEN = "hf_right"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
seen, lock = {}, threading.Lock()


def times(key):
    with lock:
        seen[key] = seen.get(key, 0) + 1
        return seen[key]


def is_large(name):
    return name.endswith((".safetensors", ".gguf", ".jsonl"))


@functools.lru_cache
def sha256(data):
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache
def contents(path):
    return open(path, "rb").read()


@functools.lru_cache
def blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, code, body=b"", headers=(), cut=None):
        self.send_response(code)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        if "Content-Length" not in dict(headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        pace = float(os.environ.get("HUB_PACE", "0"))
        body = body if cut is None else body[:cut]
        for at in range(0, len(body), 65536):
            self.wfile.write(body[at:at + 65536])
            if pace:
                time.sleep(pace)
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def error(self, code, error="", said="", headers=()):
        self.send(code, json.dumps({"error": said}).encode(),
                  {"X-Error-Code": error, "X-Error-Message": said, **dict(headers)} if error else headers)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        token = self.headers.get("Authorization", "")
        LOG.write(f"{self.command} {self.headers.get('Host')} {path} {self.headers.get('Range', '-')} "
                  f"{'token' if token else '-'} {'if' if self.headers.get('If-Range') else '-'}\n")
        if path.startswith("/cdn/"):
            return self.content(path[len("/cdn/"):], "cdn")
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/revision/(.+)", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not api and not file:
            return self.error(404, said="no such page")
        kind = api[1] if api else "datasets" if file[1] else "models"
        name = api[2] if api else file[2]
        if self.refused(kind, name, token):
            return
        if api:
            return self.listing(kind, name, api[3])
        return self.resolve(kind, name, file[4])

    def refused(self, kind, name, token):
        if token not in ("", "Bearer " + TOKEN):
            return self.error(401, said="Invalid credentials in Authorization header") or True
        if name.endswith("gated") and not token:
            return self.error(401, "GatedRepo", "Access to model is restricted.") or True
        if name.endswith("gated-forbidden"):
            return self.error(403, "GatedRepo", "You are not in the authorized list.") or True
        if name.endswith("busy") and times(self.path) % 3:
            return self.error(429, said="slow down", headers={"Retry-After": "0"}) or True
        if name.endswith("always-busy"):
            return self.error(429, said="slow down", headers={"Retry-After": "3000"}) or True
        if not os.path.isdir(f"{FOLDER}/{kind}/{name}"):
            return self.error(401 if not token else 404, "RepoNotFound", "Repository not found") or True
        return False

    def listing(self, kind, name, revision):
        if revision not in ("main", "v1", COMMIT):
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        siblings, root = [], f"{FOLDER}/{kind}/{name}"
        for folder, _, files in os.walk(root):
            for file in files:
                path = os.path.relpath(os.path.join(folder, file), root)
                data = contents(os.path.join(root, path))
                entry = {"rfilename": path, "size": len(data), "blobId": blob_id(data)}
                if is_large(path):
                    entry["lfs"] = {"sha256": sha256(data), "size": len(data)}
                if name.endswith("bare"):
                    entry = {"rfilename": path}
                siblings.append(entry)
        if name.endswith("escaping"):
            siblings.append({"rfilename": "../../../../escaped/config.json", "size": 2, "blobId": "a" * 40})
        if name.endswith("bad-hash"):
            siblings[0]["blobId"] = "../../escaped"
            siblings[0].pop("lfs", None)
        self.send(200, json.dumps({"sha": COMMIT, "siblings": siblings}).encode())

    def resolve(self, kind, name, file):
        path = f"{kind}/{name}/{file}"
        if not os.path.isfile(f"{FOLDER}/{path}"):
            return self.error(404, "EntryNotFound", "Entry not found")
        if not is_large(file):
            return self.content(path, "hub")
        data = contents(f"{FOLDER}/{path}")
        port = self.server.server_address[1]
        self.send(302, headers={
            "Location": f"http://localhost:{port}/cdn/{urllib.parse.quote(path)}?signature=secret",
            "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{sha256(data)}"', "ETag": f'"{blob_id(data)}"'})

    def content(self, path, host):
        data = contents(f"{FOLDER}/{path}")
        name = path.split("/")[2]
        cut, etag = None, blob_id(data)
        if name.endswith("corrupt") or name.endswith("corrupt-once") and times(path) == 1:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if name.endswith("broken") and is_large(path) and times(path + self.headers.get("Range", "")) == 1:
            cut = 100_000
        if name.endswith("unstable") and host == "cdn" and times(path) % 4 == 2:
            return self.error(503, said="try again")
        if name.endswith("expiring") and host == "cdn" and times(path) % 3 == 2:
            return self.error(403, said="Request has expired")
        if name.endswith("always-broken"):
            cut = 0
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        ranges = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if name.endswith(("no-ranges", "shorter", "always-cut")):
            ranges = None
        if name.endswith("shorter"):
            data = data[:len(data) // 2]
        if name.endswith("always-cut"):
            cut = len(data) // 2
        if ranges and self.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            ranges = None
        if ranges:
            begin, end = int(ranges[1]), min(int(ranges[2]) + 1, len(data))
            if begin >= len(data):
                return self.error(416)
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
            self.send(206, data[begin:end], headers, cut)
        else:
            self.send(200, data, headers, cut)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Hub)
print(server.server_address[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
