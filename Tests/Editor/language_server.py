"""Asks a Lua language server (emmylua_ls) about the Lua files of a folder, as an editor does.

    python3 language_server.py SERVER FOLDER

FOLDER is one that `qlora-run init` made, with names.lua and probes.json of probe.lua. Prints

    diagnostic FILE:LINE CODE MESSAGE  what the server says of a file other than names.lua
    missing NAME: WORD WORD            what it does not offer at a place of names.lua
    offered NUMBER                     how many words it does offer
"""
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading

TIMEOUT = 60


class Server:
    def __init__(self, program, folder):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.folder, self.number, self.inbox, self.diagnostics = pathlib.Path(folder).resolve(), 0, queue.Queue(), {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        out = self.process.stdout
        while True:
            length = 0
            while line := out.readline().strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if not length:
                return self.inbox.put(None)
            self.inbox.put(json.loads(out.read(length)))

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def answer(self, message):
        """What a server asks of its editor: settings (none but those of the folder), progress, registrations."""
        items = message.get("params", {}).get("items", []) if message["method"] == "workspace/configuration" else None
        self.send({"id": message["id"], "result": None if items is None else [None] * len(items)})

    def next(self):
        message = self.inbox.get(timeout=TIMEOUT)
        if message is None:
            sys.exit("the language server ended")
        if "method" in message and "id" in message:
            self.answer(message)
        elif message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        return message

    def ask(self, method, params):
        self.number += 1
        self.send({"id": self.number, "method": method, "params": params})
        while True:
            message = self.next()
            if message.get("id") == self.number and "method" not in message:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]

    def tell(self, method, params):
        self.send({"method": method, "params": params})

    def uri(self, name):
        return (self.folder / name).as_uri()


def main(program, folder):
    server = Server(program, folder)
    root = server.folder.as_uri()
    text = {"completion": {"completionItem": {"snippetSupport": False}}, "publishDiagnostics": {}, "diagnostic": {"dynamicRegistration": False}}
    server.ask("initialize", {"processId": os.getpid(), "rootUri": root,
                              "workspaceFolders": [{"uri": root, "name": server.folder.name}],
                              "capabilities": {"textDocument": text, "workspace": {"configuration": True}}})
    server.tell("initialized", {})
    names = sorted(path.name for path in server.folder.glob("*.lua"))
    for name in names:
        server.tell("textDocument/didOpen", {"textDocument": {
            "uri": server.uri(name), "languageId": "lua", "version": 1, "text": (server.folder / name).read_text()}})
    for name in names:
        report = server.ask("textDocument/diagnostic", {"textDocument": {"uri": server.uri(name)}})
        for item in report.get("items", []) if name != "names.lua" else []:
            message = " ".join(item["message"].split())
            print(f"diagnostic {name}:{item['range']['start']['line'] + 1} {item.get('code')} {message}")
    offered = 0
    for probe in json.loads((server.folder / "probes.json").read_text()):
        found = server.ask("textDocument/completion", {
            "textDocument": {"uri": server.uri("names.lua")},
            "position": {"line": probe["line"], "character": probe["column"]}}) or []
        items = found["items"] if isinstance(found, dict) else found
        words = {re.match(r"[\w]*", item["label"])[0] for item in items}
        wanted = list(probe["words"])
        missing = [word for word in wanted if word not in words]
        offered += len(wanted) - len(missing)
        if missing:
            print(f"missing {probe['name']}:", *missing)
    print("offered", offered)
    server.ask("shutdown", None)
    server.tell("exit", None)


main(*sys.argv[1:3])
