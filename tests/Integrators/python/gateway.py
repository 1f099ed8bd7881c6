"""A ministry's system calls its own gateway: it reads, logs a call, sends it again, shows a refusal, and follows the events.

    python3 gateway.py log ADDRESS CASE COUNTERPART
    python3 gateway.py follow ADDRESS [EVENT]

ADDRESS is such as https://127.0.0.1:7120. GATEWAY_AUTHORITY is the file of the certificate that the gateway shows, or of its authority.
GATEWAY_TOKEN is the file of the caller's token. MINISTRIES_AS is the participant whose gateway it is. It needs nothing but Python: the
gateway seals, signs, and checks receipts. The README of the repository has all that a gateway does.
"""

import datetime
import json
import os
import pathlib
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid

PARTICIPANT = os.environ["MINISTRIES_AS"]
TOKEN = pathlib.Path(os.environ["GATEWAY_TOKEN"]).read_text(encoding="ascii").strip()
# The gateway's own authority alone, and not those of the machine. No proxy stands between them.
OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=os.environ["GATEWAY_AUTHORITY"])),
)


class Refused(Exception):
    """The gateway refused: nothing was recorded. `problem` says why, and what to do (RFC 9457)."""

    def __init__(self, problem):
        super().__init__(f"{problem['reason']}: {problem.get('detail', '')}")
        self.problem = problem


def send(url, headers=None, body=None, timeout=60):
    """Sends one request."""
    return OPENER.open(urllib.request.Request(url, body, {"Authorization": f"Bearer {TOKEN}", **(headers or {})}), timeout=timeout)


def ask(url, headers=None, body=None):
    """Sends one request, and reads the JSON that answers it."""
    try:
        with send(url, headers, body) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        raise Refused(json.load(error)) from None


def write(address, rpc, request, key):
    """Makes a write. Keep the key with the request before you send it: with the same key and the same request it is the same write, however
    often it is sent, also after a lost connection or a restart."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    status, answer = ask(f"{address}/v1/{rpc}", headers, json.dumps(request).encode())
    while status == 202:  # It waits in the gateway's outbox until the service answers.
        _, kept = ask(f"{address}/outbox/{key}")
        if kept["state"] == "ANSWERED":
            return kept["answer"]
        if kept["state"] != "WAITING":
            raise Refused(kept["problem"])
        time.sleep(1)
    return answer


def a_call(case, counterpart):
    """What our side says of a call that has just taken place."""
    began = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    return {
        "actor": {
            "office": "consular-department",
            "official": f"{PARTICIPANT.replace('/', '-')}-official-1",
            "authority": "order-12",
        },
        "case": case,
        "counterpart": counterpart,
        "account": {
            "start_time": {"time": began.isoformat(timespec="seconds"), "time_zone": "Asia/Seoul"},
            "channel": "CHANNEL_TELEPHONE",
            "attendees": [{"participant": PARTICIPANT, "office": "minister"}],
            "subjects": ["SUBJECT_CITIZENSHIP"],
        },
    }


def log(address, case, counterpart):
    _, listed = ask(f"{address}/v1/calllog/ListCalls?case={case}")
    print(f"calls of the case so far: {len(listed.get('calls', []))}")

    key, request = str(uuid.uuid4()), a_call(case, counterpart)
    logged = write(address, "calllog/LogCall", request, key)
    print(f"request {key} logged {logged['call']} at position {logged['receipt']['position']}")
    again = write(address, "calllog/LogCall", request, key)
    print(f"sent again: {again['call']} at position {again['receipt']['position']}")

    # A call with oneself is none. The refusal says why, and what to do.
    try:
        write(address, "calllog/LogCall", a_call(case, PARTICIPANT), str(uuid.uuid4()))
    except Refused as refused:
        print(f"refused: {refused.problem['reason']}")
        for name in ("article", "missing", "remedy"):
            print(f"  {name}: {refused.problem[name]}")


def follow(address, last=None):
    """Writes each event after the one with this id, once and in order. Keep the id when you have done what the event asks of you."""
    failures = 0
    while True:
        try:
            with send(f"{address}/events", {"Last-Event-ID": last} if last else None) as response:
                failures, read = 0, last
                for line in response:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        read = value
                    elif name == "data":
                        event = json.loads(value)
                        print(f"{read} {event['type']} {event['subject'] or '-'}", flush=True)
                        last = read
        except OSError:
            # The gateway was restarted, or the connection broke.
            failures += 1
            if failures == 10:
                raise
        time.sleep(min(5, 0.1 * 2**failures))


if __name__ == "__main__":
    verb, where, *rest = sys.argv[1:]
    (log if verb == "log" else follow)(where, *rest)
