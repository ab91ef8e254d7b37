#!/usr/bin/env python3
"""Second half of `make demo`: hosts the four tasks, asks each of them, changes things while clients ask, and says what
happened. Ends with status 0 only if all of it held. Run by scripts/demo.sh, after a version has been promoted."""

import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "target/demo"
UNIMODEL = ROOT / "target/debug/unimodel"
SAMPLE = ROOT / "manifests/samples/movielens"
OBJECT = DEMO / "unifiedmodel.yaml"
STORE = "file://./target/demo/store"
STATE = ["--state", "target/demo/state"]
summary = {"checks": {}}


def unimodel(*args, check=True):
    done = subprocess.run([UNIMODEL, *args], cwd=ROOT, text=True, capture_output=True)
    if check and done.returncode:
        sys.exit(f"unimodel {' '.join(args)}: {done.stderr}")
    return done.stdout if check else done


def status():
    return json.loads(unimodel("status", "--output", "json", *STATE))


def task(name):
    return next((t for t in status()["status"]["tasks"] if t["name"] == name), {})


def reason(name):
    return next((c["reason"] for c in task(name).get("conditions", []) if c["type"] == "Ready"), "")


def holds(what, so):
    summary["checks"][what] = bool(so)
    print(f"{'ok  ' if so else 'FAIL'}  {what}")


def waits(what, so, seconds=120):
    end = time.monotonic() + seconds
    while not so() and time.monotonic() < end:
        time.sleep(0.1)
    holds(what, so())


def rank(name, context, **more):
    options = [f"--{key}={value}" for key, value in more.items()]
    pairs = [part for key, value in context.items() for part in ("--context", f"{key}={value}")]
    answer = json.loads(unimodel("rank", name, *pairs, *options, "--explain", "--output", "json", *STATE))
    answer["seconds"] = answer["explain"]["seconds"]
    return answer


class Clients:
    """Threads that ask one task over and over, each request over a connection of its own."""

    def __init__(self, gateway, name, context):
        self.url = f"http://{gateway}/v1/tasks/{name}:rank"
        self.body = json.dumps({"context": context, "candidates": {"all": True}, "limit": 5}).encode()
        self.answered, self.by_fallback, self.failed, self.going = 0, 0, [], True
        self.threads = [threading.Thread(target=self.ask) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while self.going:
            try:
                with urllib.request.urlopen(urllib.request.Request(self.url, self.body), timeout=10) as answer:
                    if json.load(answer)["fallback"]:
                        self.by_fallback += 1
                    self.answered += 1
            except OSError as error:
                self.failed.append(str(error))

    def end(self):
        self.going = False
        for thread in self.threads:
            thread.join()


def publish_second():
    """A version that goes on from the first for a few steps: newer, and quick to make."""
    text = (DEMO / "pipeline.yaml").read_text()
    pipeline = DEMO / "second.yaml"
    pipeline.write_text(re.sub(r"(?m)^training:.*", "training: {batch: 256, steps: 60}", text))
    first = task("search")["activeVersion"]
    trained = unimodel("train", "-f", str(pipeline), "--store", STORE, "--parent", first, "--no-compare",
                       "--work", "target/demo/work-second", "--output", "json")
    version = json.loads(trained)["version"]
    unimodel("promote", "--store", STORE, version, "--channel", "stable")
    return version


def main():
    OBJECT.write_text((SAMPLE / "unifiedmodel.yaml").read_text())
    print(unimodel("up", "-f", str(OBJECT), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--detach", *STATE))
    try:
        host()
    finally:
        unimodel("down", *STATE)
    (DEMO / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    failed = [what for what, so in summary["checks"].items() if not so]
    print(f"\n{len(summary['checks'])} checks, {len(failed)} failed; summary in target/demo/summary.json")
    sys.exit(1 if failed else 0)


def host():
    for name in ("notifications", "related", "search", "category"):
        waits(f"{name} is served", lambda: reason(name) == "Serving")

    asked = [
        ("notifications", {"user_id": "7"}, {}),
        ("related", {"source_item": "50"}, {}),
        ("search", {"query": "teh matrx"}, {}),
        ("search", {"query": "star wrs"}, {}),
        ("category", {"user_id": "7", "genre": "Comedy"}, {"select": "genres=Comedy"}),
    ]
    print(f"\n{'TASK':<14} {'ASKED':<34} {'ANSWERED (score)':<72} {'TIME':>8}  VERSION")
    summary["answers"] = []
    for name, context, more in asked:
        answer = rank(name, context, limit=3, **more)
        titles = [f"{item.get('title', item['id'])} ({item['score']:.2f})" for item in answer["items"]]
        said = ", ".join(f"{key}={value}" for key, value in context.items())
        print(f"{name:<14} {said:<34} {'; '.join(titles)[:72]:<72} {answer['seconds'] * 1e3:>5.1f} ms  {answer['modelVersion']}")
        summary["answers"].append({"task": name, "context": context, **answer})
        holds(f"{name} answers {said}", len(answer["items"]) == 3 and not answer["fallback"])
    best = rank("search", {"query": "star wrs"}, limit=3)["items"]
    holds("the misspelt query finds its film", any("Star Wars" in item["title"] for item in best))

    print("\nOne context, asked of all tasks, and what each put in place of what it did not say:")
    context = {"user_id": "7", "query": "alien", "source_item": "50", "genre": "Sci-Fi"}
    summary["imputed"] = {}
    for name in ("notifications", "related", "search", "category"):
        answer = rank(name, context, limit=1)
        imputed = {i["element"]: i["source"] for i in answer["imputed"]}
        summary["imputed"][name] = imputed
        print(f"{name:<14} {answer['items'][0].get('title', ''):<32} {', '.join(f'{k} ({v})' for k, v in imputed.items())}")

    print()
    OBJECT.write_text(OBJECT.read_text() + "\n  # Added while all others serve.\n  - {name: search-cheap, head: search}\n")
    before = {server["name"]: server.get("pid") for server in status()["servers"]}
    waits("a task that was added to the file answers", lambda: reason("search-cheap") == "Serving")
    after = {server["name"]: server.get("pid") for server in status()["servers"]}
    holds("no other server was restarted for it", all(after.get(name) == pid for name, pid in before.items()))
    rank("search-cheap", {"query": "alien"}, limit=1)

    clients = Clients(status()["gateway"], "search", {"query": "alien"})
    time.sleep(1)
    victim = next(server for server in status()["servers"] if server["task"] == "search")
    subprocess.run(["kill", "-9", str(victim["pid"])], check=True)
    waits("the killed server is back", lambda: any(
        s["name"] == victim["name"] and s["ready"] and s.get("pid") != victim["pid"] for s in status()["servers"]))
    second = publish_second()
    waits("the schedule takes the new version within two minutes", lambda: task("search").get("activeVersion") == second)
    clients.end()
    summary["clients"] = {"answered": clients.answered, "byFallback": clients.by_fallback,
                          "failed": len(clients.failed), "errors": clients.failed[:5]}
    holds(f"of {clients.answered} requests meanwhile {len(clients.failed)} failed "
          f"({clients.by_fallback} were answered by a fallback)", not clients.failed)
    holds("other tasks kept their version", task("notifications")["activeVersion"] != second)
    said = unimodel("refresh", "related", *STATE).strip()
    print(f"      {said}")
    holds("a refresh on request takes it too", task("related")["activeVersion"] == second)
    print("\n" + unimodel("status", *STATE))
    summary["status"] = status()


if __name__ == "__main__":
    main()
