// Compares the example with protos/vectors.json.

import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Ministry, NotProved } from './first_calls.mjs';

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

test('it accepts the receipt, and no other position', () => {
  const { receipt } = vectors.receipt;
  const read = {
    service: receipt.service,
    position: receipt.position,
    entry_hash: Buffer.from(receipt.entryHash, 'base64'),
    tree_size: receipt.treeSize,
    root_hash: Buffer.from(receipt.rootHash, 'base64'),
    inclusion_proof: receipt.inclusionProof.map((hash) => Buffer.from(hash, 'base64')),
    checkpoint: receipt.checkpoint,
  };
  ministry().checkReceipt(read);
  assert.throws(() => ministry().checkReceipt({ ...read, position: '3' }), NotProved);
});
