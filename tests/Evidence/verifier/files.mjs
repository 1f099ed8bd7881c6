// Makes evidence files with keys, trees and signatures of its own, for the tests of the verifier. Every step of the
// making can be tampered with: what an exporter, or a service that colludes with him, could alter and sign again.

import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { writeJson, writeMessage } from './verify.mjs';

export const Case = 'C-2026-000001', Domain = 'ministries.test', Second = 1_000_000_000n;
const Start = 1_780_000_000n * Second;
const Part = { REQUEST: 1, EVENTS: 2, CAUSE: 4, ANSWER: 5, SIGNATURE: 6, AUDIENCE: 7 };
const Use = { REQUESTS: 1, APPROVALS: 2, CHECKPOINTS: 4, COSIGNATURES: 5, AGREEMENTS: 6 };
const Kind = { MINISTRY: 1, NEUTRAL_OBSERVER: 2, SERVICE: 4, OPERATOR: 5 };

export const hash = (...parts) => parts.reduce((h, p) => h.update(p), createHash('sha256')).digest();
const base64 = bytes => bytes.toString('base64');
const text = (...lines) => Buffer.from(lines.map(l => `${l}\n`).join(''));
const pairs = new Map();

/** The key pair of a name: the same one in the whole run. */
export function pair(name) {
  if (!pairs.has(name)) {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    pairs.set(name, { public: publicKey.export({ type: 'spki', format: 'der' }).subarray(-32),
      sign: bytes => sign(null, bytes, privateKey) });
  }
  return pairs.get(name);
}

const key = (id, use, more = {}) => ({ id, use, publicKey: pair(id).public, validFromTime: Start - 86400n * Second, ...more });

/** Version 1 of the agreement, unsigned. */
function agreement(services) {
  const ministry = code => ({ id: `${code}/mfa`, name: `Ministry of ${code}`, kind: Kind.MINISTRY, state: code.toUpperCase(),
    capacities: [1, 2], clearance: 2,
    signingKeys: [key(`${code}/requests`, Use.REQUESTS),
      key(`${code}/approvals`, Use.APPROVALS, { official: `${code}-official` }), key(`${code}/cosignatures`, Use.COSIGNATURES),
      key(`${code}/agreements`, Use.AGREEMENTS)] });
  return { version: 1n, validFromTime: Start - 86400n * Second, trustDomain: Domain,
    states: [{ code: 'AA', name: 'A', partyToGc3: true }, { code: 'BB', name: 'B' }],
    participants: [ministry('aa'), ministry('bb'),
      { id: 'icrc', name: 'ICRC', kind: Kind.NEUTRAL_OBSERVER,
        signingKeys: [key('icrc/requests', Use.REQUESTS), key('icrc/cosignatures', Use.COSIGNATURES),
          key('icrc/agreements', Use.AGREEMENTS)] },
      ...services.map(s => ({ id: `service/${s}`, kind: Kind.SERVICE, signingKeys: [key(`${s}/checkpoints`, Use.CHECKPOINTS)],
        addresses: ['hub:443', 'hub'] })),
      { id: 'operator', kind: Kind.OPERATOR }], grants: [{ part: 1, methods: ['ministries.test.v1.Test/Write'] }],
    statementValidityDays: 30, signatures: [] };
}

const agreementDigest = a => hash(writeMessage({ ...a, signatures: [] }, 'Agreement'));

/** Signs a version for participants, each with the key that is named. */
export function signAgreement(a, signers) {
  const said = text('ministries.agreement.v1', a.trustDomain, a.version, base64(a.previousDigest ?? Buffer.alloc(0)),
    base64(agreementDigest(a)));
  a.signatures = signers.map(([participant, keyId]) => ({ participant, keyId, signature: pair(keyId).sign(said) }));
}

/** The version that follows, in which aa/mfa changes its key for requests; `change` alters it before it is signed. */
function nextAgreement(before, at, hooks) {
  const next = structuredClone(before);
  // structuredClone makes plain arrays of bytes.
  const bytes = value => value instanceof Uint8Array ? Buffer.from(value) : Array.isArray(value) ? value.map(bytes)
    : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, bytes(v)])) : value;
  const copy = bytes(next);
  Object.assign(copy, { version: before.version + 1n, previousDigest: agreementDigest(before), signatures: [] });
  const keys = copy.participants[0].signingKeys;
  keys[0].revokeTime = at;
  keys.push(key('aa/requests/2', Use.REQUESTS, { validFromTime: at }));
  hooks.agreement?.(copy);
  signAgreement(copy, hooks.signers ?? [['aa/mfa', 'aa/agreements']]);
  hooks.signedAgreement?.(copy);
  return copy;
}

// ---- A Merkle tree (RFC 6962, 2.1), as its definition says

const split = n => {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
};
const root = leaves => leaves.length === 1 ? leaves[0]
  : hash(Buffer.of(1), root(leaves.slice(0, split(leaves.length))), root(leaves.slice(split(leaves.length))));
const path = (m, leaves) => {
  if (leaves.length === 1) return [];
  const k = split(leaves.length);
  return m < k ? [...path(m, leaves.slice(0, k)), root(leaves.slice(k))]
    : [...path(m - k, leaves.slice(k)), root(leaves.slice(0, k))];
};

/** A signed checkpoint; cosigners are [participant, key, Unix seconds]. */
export function checkpoint(service, size, rootHash, signer, cosigners) {
  const origin = `${Domain}/${service}`, said = `${origin}\n${size}\n${base64(rootHash)}\n`;
  const id = (name, type, of) => hash(name, '\n', Buffer.of(type), pair(of).public).subarray(0, 4);
  const lines = [`— ${origin} ${base64(Buffer.concat([id(origin, 1, signer), pair(signer).sign(Buffer.from(said))]))}`,
    '— unknown.test/witness AAAAAAAA',
    ...cosigners.map(([participant, of, time]) => {
      const name = `${Domain}/witness/${participant}`, stamp = Buffer.alloc(8);
      stamp.writeBigUInt64BE(BigInt(time));
      const signature = pair(of).sign(Buffer.from(`cosignature/v1\ntime ${time}\n${said}`));
      return `— ${name} ${base64(Buffer.concat([id(name, 4, of), stamp, signature]))}`;
    })
  ];
  return `${said}\n${lines.join('\n')}\n`;
}

// ---- Entries

const Method = 'ministries.test.v1.Test/Write';

/** A request's bytes with its approvals. */
export function request({ requestId, content, approvals = [], service }) {
  const without = Buffer.concat([writeMessage({ requestId, approvals: [] }, 'Request'), Buffer.of(0x2a, content.length),
    Buffer.from(content)]);
  const signed = approvals.map(a => ({ official: a.official, office: a.office, keyId: a.keyId,
    signature: pair(a.signer ?? a.keyId).sign(
      text('ministries.approval.v1', a.participant, a.log ?? `${Domain}/${service}`, Method, base64(hash(a.over ?? without)), a.official, a.office)) }));
  return { bytes: Buffer.concat([without, writeMessage({ approvals: signed }, 'Request')]), without };
}

/** A signature of a request (RFC 9421). */
export function requestSignature(s) {
  const length = Buffer.alloc(5), authority = s.authority ?? 'hub:443';
  length.writeUInt32BE(s.request.length, 1);
  const digest = `sha-256=:${base64(hash(length, s.request))}:`;
  const parameters =
    `("@method" "@path" "@authority" "content-type" "content-digest");created=${s.created};expires=${s.expires}` +
    `;keyid="${s.keyId}";nonce="${s.nonce}";tag="${s.tag ?? `ministries/${Domain}/${s.service}`}"${s.more ?? ''}`;
  const base =
    `"@method": POST\n"@path": /${s.method}\n"@authority": ${authority}\n"content-type": ${s.contentType ?? 'application/grpc'}\n` +
    `"content-digest": ${digest}\n` +
    `"@signature-params": ${parameters}`;
  return { authority, contentType: s.contentType ?? 'application/grpc', contentDigest: digest, signatureInput: `sig1=${parameters}`,
    signature: `sig1=:${base64(pair(s.signer ?? s.keyId).sign(Buffer.from(base)))}:` };
}

const Templates = ['agreement', 'request', 'approved', 'duty', 'privileged', 'next', 'rotated', 'hidden', 'erased'];

/**
 * A file: `sizes` says how great each service's log is. `hooks` tamper with it: `agreement`, `signers`, `signedAgreement`
 * (version 2), `entry` (before it is recorded), `log` and `shown` (as written), `lines` (before they are signed), `head`, `end`.
 * Answers the file's lines, and where each entry stands by service and template.
 */
export function make(sizes, hooks = {}) {
  const services = Object.keys(sizes).sort(), first = agreement(services), places = {};
  signAgreement(first,
    hooks.firstSigners ?? [
      ['aa/mfa', 'aa/agreements'],
      ['bb/mfa', 'bb/agreements'],
      ['icrc', 'icrc/agreements']]);
  hooks.first?.(first);
  const seconds = n => Start + BigInt(n) * 60n * Second, last = Math.max(...Object.values(sizes));
  const second = nextAgreement(first, seconds(0) + 100n, hooks);
  let rotated = false;
  const lines = [];
  for (const service of services) {
    const size = sizes[service], count = Math.min(size, Templates.length);
    const at = new Map(Templates.slice(0, count).map((t, i) => [count === 1 ? 0 : Math.floor((i * (size - 1)) / (count - 1)), t])
    );
    const recorded = [], numbers = new Map();
    for (let position = 0; position < size; position++) {
      const template = at.get(position);
      if (!template) {
        recorded.push({ record: randomBytes(32) });
        continue;
      }
      rotated ||= template === 'next';
      const commitTime = seconds(position) + 123_000_000n, requestId = `${service}-${template}`;
      const signed = ['request', 'approved', 'privileged', 'rotated', 'hidden', 'erased'].includes(template);
      const e = {
        service, template, position: BigInt(position), commitTime,
        participant: template === 'privileged' ? 'icrc' : signed ? 'aa/mfa' : `service/${service}`, requestId,
        method: signed ? Method : template === 'duty' ? 'duty' : 'agreement',
        agreementVersion: at.size && [...at].some(([p, t]) => t === 'next' && p <= position) ? 2n : 1n, keyId: undefined,
        created: commitTime / Second - 1n, expires: commitTime / Second + 200n,
        audiences: signed ? [`c:${Case}`, 'p:aa/mfa'] : ['*'], approvals:
          template === 'approved' ? [{ official: 'aa-official', office: 'legal', keyId: 'aa/approvals', participant: 'aa/mfa' }]
            : [] };
      e.keyId = template === 'privileged' ? 'icrc/requests' : e.agreementVersion === 2n ? 'aa/requests/2' : 'aa/requests';
      if (template === 'duty') e.audiences = [`c:${Case}:duties`];
      hooks.entry?.(e);
      const parts = [];
      if (signed) {
        e.request = e.requestBytes ??
          request({ requestId: e.innerRequestId ?? e.requestId, content: `content of ${requestId}`, approvals: e.approvals, service })
            .bytes;
        parts.push([Part.REQUEST, e.request]);
      } else if (template !== 'duty') parts.push([Part.REQUEST, writeMessage(template === 'next' ? second : first, 'Agreement')]);
      parts.push([Part.EVENTS,
        writeMessage(
          {
            events:
              template === 'agreement' ? []
                : [{ type: 'ministries.test.v1.Written', data: randomBytes(5), case: Case }] }, 'Events')]);
      if (signed)
        parts.push([Part.ANSWER, writeMessage({ response: { typeUrl: 'type.googleapis.com/x', value: randomBytes(3) } }, 'Answer')
        ]);
      if (signed && !e.unsigned)
        parts.push([Part.SIGNATURE,
          writeMessage(requestSignature({ request: e.request, nonce: e.requestId, method: e.method, ...e, ...e.signature }),
            'RequestSignature'
          )
        ]);
      e.parts = parts.map(([kind, data]) => ({ kind, salt: randomBytes(32), data, erased: false }));
      e.numbers = e.audiences.map(audience => {
        const number = (numbers.get(audience) ?? 0n) + 1n;
        numbers.set(audience, number);
        return { audience, number, salt: randomBytes(32) };
      });
      e.header = { position: e.position, commitTime, participant: e.participant, requestId: e.requestId, method: e.method,
        agreementVersion: e.agreementVersion,
        parts: [...e.parts.map(p => ({ kind: p.kind, digest: hash(p.salt, p.data) })),
          { kind: Part.AUDIENCE, digest: randomBytes(32) }],
        audience: [randomBytes(32), ...e.numbers.map(n => hash(writeMessage(n, 'AudienceNumber')))] };
      hooks.header?.(e);
      e.bytes = writeMessage(e.header, 'EntryHeader');
      e.record = hash(e.bytes);
      recorded.push(e);
    }
    const leaves = recorded.map(r => hash(Buffer.of(0), r.record)), top = root(leaves), now = seconds(size) / Second;
    const log = {
      service,
      checkpoint: checkpoint(service, size, top, `${service}/checkpoints`, [
        ['bb/mfa', 'bb/cosignatures', now],
        ['icrc', 'icrc/cosignatures', now + 1n]]) };
    hooks.log?.(log, { size, top, now });
    places[service] = { log: lines.push({ log }) };
    for (const e of recorded.filter(r => r.template)) {
      const privileged = e.template === 'privileged', { position } = e,
        tree = Math.max(Number(position) + 1, Math.ceil((Number(position) + 1 + size) / 2));
      const entry = { header: e.bytes, parts: privileged ? [] : e.parts.map(p => ({ ...p })),
        audience: e.numbers.filter(n => n.audience !== '*'), privileged, proof: path(Number(position), leaves), receipt: null };
      if (e.template === 'hidden') entry.parts = entry.parts.filter(p => ![Part.REQUEST, Part.SIGNATURE].includes(p.kind));
      if (e.template === 'erased')
        entry.parts[0] = { kind: Part.REQUEST, salt: Buffer.alloc(0), data: Buffer.alloc(0), erased: true };
      if (['request', 'approved', 'rotated'].includes(e.template)) {
        const part = leaves.slice(0, tree);
        entry.receipt = {
          service, position, commitTime: e.commitTime, entryHash: e.record, treeSize: BigInt(tree), rootHash: root(part),
          inclusionProof: path(Number(position), part),
          checkpoint: checkpoint(service, tree, root(part), `${service}/checkpoints`, []) };
      }
      hooks.shown?.(entry, e);
      if (entry.left) continue;
      places[service][e.template] = lines.push({ entry });
    }
  }
  for (const service of services) for (const name of Object.keys(places[service])) places[service][name] += 1;
  const head = { format: 'ministries.evidence.v1', participant: 'aa/mfa', trustDomain: Domain, case: Case, requestId: '',
    exportTime: seconds(last + 1) };
  hooks.head?.(head);
  const all = [{ head }, ...lines];
  hooks.lines?.(all);
  const written = all.map(l => Buffer.from(writeJson(l, 'EvidenceLine'))),
    keyId = hooks.keyId ?? (rotated ? 'aa/requests/2' : 'aa/requests');
  return { lines: [...written, end(written, keyId, hooks)], places, digests: [first, second].map(agreementDigest), first };
}

/** The last line, over the lines before it. */
export function end(written, keyId, hooks = {}) {
  const hashes = written.map(l => hash(l)), message = { lines: hashes, keyId, publicKey: pair(keyId).public };
  hooks.end?.(message);
  message.signature = pair(keyId).sign(text('ministries.evidence.v1', message.keyId, base64(hash(...message.lines))));
  hooks.signedEnd?.(message);
  return Buffer.from(writeJson({ end: message }, 'EvidenceLine'));
}

/** The bytes of a file of lines. */
export const file = lines => Buffer.concat(lines.flatMap(l => [l, Buffer.of(10)]));
export { agreement as unsignedAgreement, Part, Use };
