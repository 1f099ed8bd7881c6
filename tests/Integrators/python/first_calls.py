#!/usr/bin/env python3
"""A ministry's system calls the call log: it reads, logs a call, checks the receipt, and follows the ledger.

    first_calls.py log ADDRESS CASE COUNTERPART
    first_calls.py follow ADDRESS [POSITION]

ADDRESS is host:port. MINISTRIES_FOLDER is a folder such as `ministry pki init` makes, and MINISTRIES_AS the participant that calls.
protos/README.md explains each step; the README beside this folder says what to install and how the contracts are compiled.
"""

import base64
import datetime
import hashlib
import json
import os
import socket
import ssl
import struct
import sys
import time
import uuid

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from ministries.calllog.v1 import call_pb2
from ministries.calllog.v1.calllog_service_pb2 import ListCallsRequest, ListCallsResponse, LogCallRequest, LogCallResponse
from ministries.ledger.v1.entry_pb2 import PART_KIND_ANSWER, PART_KIND_REQUEST, Answer, Entry, EntryHeader
from ministries.ledger.v1.ledger_service_pb2 import FollowEntriesRequest, FollowEntriesResponse

SERVICE = "calllog"
CALLS = "ministries.calllog.v1.CallLogService"
LEDGER = "ministries.ledger.v1.LedgerService"

# Pings notice a connection that is gone. Without them a stream on which nothing comes would wait for ever.
OPTIONS = (
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # This program sends a call again by itself. The library's own attempts sometimes leave a call waiting for ever (version 1.51).
    ("grpc.enable_retries", 0),
)


class NotProved(Exception):
    """The service's answer does not prove what it says. Keep it, and ask the other participants what they see."""


def sha256(data):
    return hashlib.sha256(data).digest()


def base64_of(data):
    return base64.b64encode(data).decode()


# --- The agreement: whom to trust ---------------------------------------------------------------------------------------------


def participant_in(agreement, participant):
    return next(p for p in agreement["participants"] if p["id"] == participant)


def is_in_force(key, now):
    """Whether a key may sign at this time."""

    def moment(name):
        return datetime.datetime.fromisoformat(key[name]) if name in key else None

    ends = [moment("validUntilTime"), moment("revokeTime")]
    return (moment("validFromTime") or now) <= now and all(end is None or now < end for end in ends)


# --- The channel: TLS 1.3 with both certificates -----------------------------------------------------------------------------


def certificate_of(service, trust_domain, host, port, own):
    """The service's certificate, once it is certain whose it is."""
    # The service's own authorities alone, and not those of the machine. An authority speaks for one participant only.
    context = ssl.create_default_context(cadata="\n".join(service["authorityCertificates"]))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(f"{own}.pem", f"{own}.key")
    with socket.create_connection((host, port), timeout=5) as plain:
        with context.wrap_socket(plain, server_hostname=host) as tls:
            certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))

    # The chain and the host are right now. The certificate must also name a system of the service, by exactly one URI.
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    systems = f"spiffe://{trust_domain}/{service['id']}/"
    if len(uris) != 1 or not uris[0].startswith(systems) or not uris[0][len(systems):] or "/" in uris[0][len(systems):]:
        raise NotProved(f"the certificate names {uris}, and no system of {service['id']}")
    if service.get("systems") and uris[0].removeprefix(f"spiffe://{trust_domain}/") not in service["systems"]:
        raise NotProved(f"the agreement does not list the system {uris[0]}")
    # Python shows only this certificate of the chain, and none of an intermediate authority.
    if any(int(denied.replace(":", ""), 16) == certificate.serial_number for denied in service.get("deniedCertificates", [])):
        raise NotProved("the agreement denies the certificate")
    return certificate.public_bytes(Encoding.PEM)


class Ministry:
    """A participant's way to one service."""

    def __init__(self, folder, participant, address):
        with open(f"{folder}/agreement.json", encoding="utf-8") as file:
            self.agreement = json.load(file)
        self.participant = participant
        self.service = participant_in(self.agreement, f"service/{SERVICE}")
        self.authority = address

        with open(f"{folder}/{participant}/requests.key", "rb") as file:
            self.key = load_pem_private_key(file.read(), password=None)
        public = base64_of(self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        listed = participant_in(self.agreement, participant)["signingKeys"]
        self.key_id = next(k["id"] for k in listed if k["use"] == "SIGNING_KEY_USE_REQUESTS" and k["publicKey"] == public)

        # gRPC for Python does not show whose certificate it accepted. So Python's own TLS looks at it first, and the channel then trusts
        # this one certificate and no authority. When the service has a new certificate, make a new channel.
        host, _, port = address.rpartition(":")
        own = f"{folder}/{participant}/system"
        trusted = certificate_of(self.service, self.agreement["trustDomain"], host.strip("[]"), int(port), own)
        with open(f"{own}.key", "rb") as key, open(f"{own}.pem", "rb") as chain:
            credentials = grpc.ssl_channel_credentials(trusted, key.read(), chain.read())
        self.channel = grpc.secure_channel(address, credentials, OPTIONS)

    # --- Reading --------------------------------------------------------------------------------------------------------------

    def call(self, method, request, response_type, headers=tuple):
        """Calls a method until it is answered. It is safe to call again if it is not known whether a call arrived: a read changes nothing,
        and the same id with the same bytes is the same write. A signature ends, so each attempt has headers of its own."""
        # Without a serializer the library sends the bytes as they are.
        stub = self.channel.unary_unary(f"/{method}", request_serializer=None, response_deserializer=response_type.FromString)
        for attempt in range(5):
            try:
                return stub(request, timeout=10, metadata=headers())
            except grpc.RpcError as error:
                if attempt == 4 or error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
            self.pause(attempt)

    def pause(self, failures):
        """Pauses after a failure, and waits for a connection. The library connects only while something waits for it: during a plain pause
        the service would give up the handshake after 3 s."""
        time.sleep(min(1, 0.1 * 2**failures))
        try:
            grpc.channel_ready_future(self.channel).result(timeout=5)
        except grpc.FutureTimeoutError:
            pass  # The next call says what is wrong.

    # --- Writing --------------------------------------------------------------------------------------------------------------

    def sign(self, method, request, request_id, created):
        """The three header fields that sign a write (RFC 9421)."""
        # The body of a gRPC call is one frame: not compressed, its length, the message.
        frame = struct.pack(">BI", 0, len(request)) + request
        digest = f"sha-256=:{base64_of(sha256(frame))}:"
        parameters = (
            '("@method" "@path" "@authority" "content-type" "content-digest")'
            f';created={created};expires={created + 120};keyid="{self.key_id}";nonce="{request_id}"'
            f';tag="ministries/{self.agreement["trustDomain"]}/{SERVICE}"'
        )
        base = (
            '"@method": POST\n'
            f'"@path": /{method}\n'
            f'"@authority": {self.authority}\n'
            '"content-type": application/grpc\n'
            f'"content-digest": {digest}\n'
            f'"@signature-params": {parameters}'
        )
        signature = base64_of(self.key.sign(base.encode("ascii")))
        return (("content-digest", digest), ("signature-input", f"sig1={parameters}"), ("signature", f"sig1=:{signature}:"))

    def write(self, method, request, request_id, response_type):
        """Sends a write, and checks the receipt."""
        response = self.call(method, request, response_type, lambda: self.sign(method, request, request_id, int(time.time())))
        self.check_receipt(response.receipt)
        self.check_entry(response, method, request, request_id)
        return response

    # --- Proofs ---------------------------------------------------------------------------------------------------------------

    def check_receipt(self, receipt):
        """Whether the service has signed a log that holds an entry with this hash at this position."""
        if receipt.service != SERVICE:
            raise NotProved(f"the receipt is of {receipt.service!r}")
        # What the checkpoint must say. So nothing of it needs to be parsed.
        origin = f"{self.agreement['trustDomain']}/{SERVICE}"
        text = f"{origin}\n{receipt.tree_size}\n{base64_of(receipt.root_hash)}\n"
        if not receipt.checkpoint.startswith(f"{text}\n"):
            raise NotProved("the checkpoint is of another log or tree than the receipt")
        self.check_signatures(origin, text, receipt.checkpoint[len(text) + 1 :])
        leaf = sha256(b"\x00" + receipt.entry_hash)
        if root_of(leaf, receipt.position, receipt.tree_size, receipt.inclusion_proof) != receipt.root_hash:
            raise NotProved("the proof does not lead from the entry to the root")

    def check_signatures(self, origin, text, signatures):
        """Whether the service has signed the text of a checkpoint."""
        now = datetime.datetime.now(datetime.timezone.utc)
        signed = False
        for key in self.service["signingKeys"]:
            if key["use"] != "SIGNING_KEY_USE_CHECKPOINTS" or not is_in_force(key, now):
                continue
            public = base64.b64decode(key["publicKey"])
            key_id = sha256(origin.encode() + b"\n\x01" + public)[:4]
            for line in signatures.split("\n"):
                name, _, encoded = line.rpartition(" ")
                signature = base64.b64decode(encoded)
                if name != f"\u2014 {origin}" or signature[:4] != key_id:
                    continue  # A witness's, or one by a key that is not listed: ignored.
                try:
                    Ed25519PublicKey.from_public_bytes(public).verify(signature[4:], text.encode())
                except InvalidSignature:
                    raise NotProved("the checkpoint's signature is wrong") from None
                signed = True
        if not signed:
            raise NotProved("no key that the agreement lists for the service has signed the checkpoint")

    def check_entry(self, response, method, request, request_id):
        """Whether the entry of the receipt is this very request, and holds this very answer. The receipt shows it, once it is checked."""
        receipt = response.receipt
        if sha256(receipt.header) != receipt.entry_hash:
            raise NotProved("the entry at the receipt's position is not this request")
        header = EntryHeader.FromString(receipt.header)
        digests = {part.kind: part.digest for part in header.parts}

        def holds(kind, salt, data):
            return len(salt) == 32 and digests.get(kind) == sha256(salt + data)

        if (
            (header.position, header.commit_time) != (receipt.position, receipt.commit_time)
            or (header.participant, header.method, header.request_id) != (self.participant, method, request_id)
            or len(digests) != len(header.parts)  # A part that is there twice is two answers to one question.
            or not holds(PART_KIND_REQUEST, receipt.request_salt, request)
        ):
            raise NotProved("the entry at the receipt's position is not this request")

        # They are compared as messages, because another version of the service may write the same answer in other bytes.
        recorded, received = type(response)(), type(response)()
        received.CopyFrom(response)
        received.ClearField("receipt")
        if (
            not holds(PART_KIND_ANSWER, receipt.answer_salt, receipt.answer)
            or not Answer.FromString(receipt.answer).response.Unpack(recorded)
            or recorded != received
        ):
            raise NotProved("the entry at the receipt's position holds another answer")

    # --- Following ------------------------------------------------------------------------------------------------------------

    def follow(self, position):
        """Yields each entry from a position on, once and in order, with the position from which to go on. Keep that position when you have
        done what the entry asks of you, and begin there after a restart."""
        stub = self.channel.unary_stream(f"/{LEDGER}/FollowEntries", None, FollowEntriesResponse.FromString)
        failures = 0
        while True:
            pieces = bytearray()
            try:
                for response in stub(FollowEntriesRequest(from_position=position).SerializeToString()):
                    failures = 0
                    entry = response.entry if response.HasField("entry") else None
                    if response.HasField("piece"):  # Of an entry of more than 64 KiB.
                        if response.piece.offset == 0:
                            pieces.clear()
                        if response.piece.offset != len(pieces) or response.piece.size > 8 << 20:
                            raise NotProved("the pieces of an entry do not fit together")
                        pieces += response.piece.data
                        if len(pieces) < response.piece.size:
                            continue
                        entry = Entry.FromString(bytes(pieces))
                    position = response.next_position
                    if entry is not None:  # Otherwise it only says how far the log is.
                        yield entry, position
            except grpc.RpcError as error:
                # The service was restarted, the connection broke, or this program read too slowly.
                failures += 1
                if failures == 10 or error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise
            self.pause(failures)


def root_of(leaf, position, size, proof):
    """The root to which an inclusion proof leads (RFC 9162, 2.1.3.2); None if it is none for that position and size."""
    if position >= size:
        return None
    index, last, node = position, size - 1, leaf
    for sibling in proof:
        if last == 0 or len(sibling) != 32:
            return None
        if index & 1 or index == last:
            node = sha256(b"\x01" + sibling + node)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + sibling)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


def refusal_of(error):
    """What a refusal says: a google.rpc.Status in the trailer `grpc-status-details-bin`. None: it is another error."""
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin":
            continue
        info, form = ErrorInfo(), BadRequest()
        for detail in Status.FromString(value).details:
            detail.Unpack(info) or detail.Unpack(form)
        if info.domain == "ministries":
            return info, form.field_violations
    return None


# --- What this program does ---------------------------------------------------------------------------------------------------


def a_call(request_id, case, participant, counterpart):
    """What our side says of a call that has just taken place. It names no prisoner; what is about a person would be sealed."""
    request = LogCallRequest(request_id=request_id, case=case, counterpart=counterpart)
    request.actor.office = "consular-department"
    request.actor.official = f"{participant.replace('/', '-')}-official-1"  # One of the codes that the agreement lists.
    request.actor.authority = "order-12"
    request.account.start_time.time.seconds = int(time.time()) - 3600
    request.account.start_time.time_zone = "Asia/Seoul"
    request.account.channel = call_pb2.CHANNEL_TELEPHONE
    request.account.attendees.add(participant=participant, office="minister")
    request.account.subjects.append(call_pb2.SUBJECT_CITIZENSHIP)
    # Serialized once. These bytes are signed, sent, kept for another attempt, and compared with the receipt.
    return request.SerializeToString()


def log(ministry, case, counterpart):
    listed = ministry.call(f"{CALLS}/ListCalls", ListCallsRequest(case=case).SerializeToString(), ListCallsResponse)
    print(f"calls of the case so far: {len(listed.calls)}")

    request_id = str(uuid.uuid4())
    request = a_call(request_id, case, ministry.participant, counterpart)
    response = ministry.write(f"{CALLS}/LogCall", request, request_id, LogCallResponse)
    print(f"request {request_id} logged {response.call} at position {response.receipt.position}")

    again = ministry.write(f"{CALLS}/LogCall", request, request_id, LogCallResponse)
    print(f"sent again: {again.call} at position {again.receipt.position}")

    # A call with oneself is none. The refusal says why, and what to do.
    request_id = str(uuid.uuid4())
    request = a_call(request_id, case, ministry.participant, ministry.participant)
    try:
        ministry.write(f"{CALLS}/LogCall", request, request_id, LogCallResponse)
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        info, fields = refusal
        print(f"refused: {info.reason}")
        print(f"  article: {info.metadata['source']}")
        print(f"  missing: {info.metadata['missing']}")
        print(f"  remedy: {info.metadata['unlock']}")
        for field in fields:
            print(f"  {field.field}: {field.description}")


def follow(ministry, position):
    for entry, next_position in ministry.follow(position):
        header = EntryHeader.FromString(entry.header)
        print(f"{header.position} {header.participant} {header.method} next {next_position}", flush=True)


if __name__ == "__main__":
    verb, where, *rest = sys.argv[1:]
    ours = Ministry(os.environ["MINISTRIES_FOLDER"], os.environ["MINISTRIES_AS"], where)
    if verb == "log":
        log(ours, *rest)
    else:
        follow(ours, int(rest[0]) if rest else 0)
