// Compares the example with protos/vectors.json.

import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { calls, Ministry, NotProved } from './first_calls.mjs';

const vectors = JSON.parse(readFileSync(new URL('../../../protos/vectors.json', import.meta.url)));

/** The example without its channel. */
function ministry() {
  const made = Object.create(Ministry.prototype);
  return Object.assign(made, {
    agreement: vectors.agreement,
    participant: 'kr/mfa',
    service: vectors.agreement.participants.find((p) => p.id === 'service/calllog'),
    key: createPrivateKey(vectors.keys[0].pem),
    keyId: vectors.keys[0].id,
  });
}

test('it signs as the vector says', () => {
  const vector = vectors.signatures[0]; // This library sends application/grpc.
  const signer = Object.assign(ministry(), { authority: vector.headers[':authority'] });
  const request = Buffer.from(vector.request_bytes, 'base64');
  const signed = signer.sign(vector.headers[':path'], request, vector.request_id, vector.created);
  for (const [name, value] of Object.entries(signed)) assert.equal(value, vector.headers[name]);
});

/** The receipt as it is read from an answer. */
function receipt() {
  const { receipt: json } = vectors.receipt;
  const bytes = (text) => Buffer.from(text, 'base64');
  return {
    service: json.service,
    position: json.position,
    commit_time: { seconds: Date.parse(json.commitTime) / 1000 },
    entry_hash: bytes(json.entryHash),
    tree_size: json.treeSize,
    root_hash: bytes(json.rootHash),
    inclusion_proof: json.inclusionProof.map(bytes),
    checkpoint: json.checkpoint,
    header: bytes(json.header),
    request_salt: bytes(json.requestSalt),
    answer: bytes(json.answer),
    answer_salt: bytes(json.answerSalt),
  };
}

test('it accepts the receipt, and no other position', () => {
  ministry().checkReceipt(receipt());
  assert.throws(() => ministry().checkReceipt({ ...receipt(), position: '3' }), NotProved);
});

test('it accepts the entry of this request and this answer, and no other', () => {
  const { request_id: id, request_bytes: text } = vectors.signatures[0];
  const request = Buffer.from(text, 'base64');
  const method = calls.LogCall;
  const response = method.responseDeserialize(method.responseSerialize({ ...vectors.receipt.response, receipt: receipt() }));
  ministry().checkEntry(response, method, request, id);
  assert.throws(() => ministry().checkEntry(response, method, Buffer.concat([request, Buffer.alloc(1)]), id), NotProved);
  assert.throws(() => ministry().checkEntry({ ...response, etag: 'another' }, method, request, id), NotProved);
});
