"""Compares the example with protos/vectors.json."""

import base64
import json
import pathlib
import unittest

import first_calls
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf import json_format
from ministries.calllog.v1.calllog_service_pb2 import LogCallResponse
from ministries.ledger.v1.entry_pb2 import Receipt

VECTORS = json.loads((pathlib.Path(__file__).parents[3] / "protos" / "vectors.json").read_text(encoding="utf-8"))


def ministry():
    """The example without its channel."""
    made = first_calls.Ministry.__new__(first_calls.Ministry)
    made.agreement = VECTORS["agreement"]
    made.participant = "kr/mfa"
    made.service = first_calls.participant_in(made.agreement, "service/calllog")
    made.key = load_pem_private_key(VECTORS["keys"][0]["pem"].encode(), password=None)
    made.key_id = VECTORS["keys"][0]["id"]
    return made


class Vectors(unittest.TestCase):
    def test_signature(self):
        vector = VECTORS["signatures"][0]  # This library sends application/grpc.
        signer = ministry()
        signer.authority = vector["headers"][":authority"]
        method = vector["headers"][":path"][1:]
        signed = signer.sign(method, base64.b64decode(vector["request_bytes"]), vector["request_id"], vector["created"])
        for name, value in signed:
            self.assertEqual(vector["headers"][name], value)

    def test_receipt(self):
        receipt = json_format.ParseDict(VECTORS["receipt"]["receipt"], Receipt())
        ministry().check_receipt(receipt)
        receipt.position -= 1
        with self.assertRaises(first_calls.NotProved):
            ministry().check_receipt(receipt)

    def test_entry(self):
        vector = VECTORS["signatures"][0]
        method = vector["headers"][":path"][1:]
        request = base64.b64decode(vector["request_bytes"])
        response = json_format.ParseDict(VECTORS["receipt"]["response"], LogCallResponse())
        json_format.ParseDict(VECTORS["receipt"]["receipt"], response.receipt)
        ministry().check_entry(response, method, request, vector["request_id"])
        with self.assertRaises(first_calls.NotProved):
            ministry().check_entry(response, method, request + b"\0", vector["request_id"])
        response.etag += "2"
        with self.assertRaises(first_calls.NotProved):
            ministry().check_entry(response, method, request, vector["request_id"])


unittest.main()
