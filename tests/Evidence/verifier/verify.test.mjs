// Tests of the verifier: node --test tests/Evidence/verifier/verify.test.mjs

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as made from './files.mjs';
import { digestOf, verify, writeJson, writeMessage } from './verify.mjs';

const { Case, Domain, Part, Second, file, make, pair } = made;
const Sizes = { calllog: 3, consular: 8, custody: 300 };
const Everybody = [
  ['aa/mfa', 'aa/agreements'],
  ['bb/mfa', 'bb/agreements'],
  ['icrc', 'icrc/agreements']];
const Verifier = fileURLToPath(new URL('verify.mjs', import.meta.url));
const good = make(Sizes), last = good.lines.length;

function refused(lines, line, meaning, options) {
  const bytes = Buffer.isBuffer(lines) ? lines : file(lines), result = verify(bytes, options);
  assert.equal(result.ok, false, 'it was taken for whole');
  assert.equal(result.line, line, result.meaning);
  if (meaning) assert.match(result.meaning, meaning);
  return result.meaning;
}

function holds(made, options) {
  const result = verify(file(made.lines), options);
  assert.equal(result.ok, true, `line ${result.line}: ${result.meaning}`);
  return result;
}

/** A file whose exporter signed it after the hooks tampered with it. */
const tampered = (hooks, of = 'consular') => {
  const made = make(Sizes, hooks);
  return { ...made, at: name => made.places[of][name] };
};
const of = (name, change, service = 'consular') => (thing, e = thing) =>
    e.template === name && e.service === service && change(thing, e);

// ---- Good files

for (const size of [1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 300])
  test(`a file of a log of ${size} holds`, () => {
    const result = holds(make({ custody: size }));
    assert.equal(result.entries, Math.min(size, 9));
    assert.deepEqual(result.logs[0].cosigned.map(c => c.participant),
      ['bb/mfa', 'icrc']);
  });

test('what a file proves is told', () => {
  const result = holds(good, { agreement: good.digests[0] });
  assert.deepEqual(result.signed, { 'aa/mfa': 8 });
  assert.deepEqual(result.approved, { 'aa/mfa aa-official (legal)': 3 });
  assert.deepEqual([result.privileged, result.notShown, result.erased, result.receipts, result.ofServices, result.compared],
    [2, 2, 1, 8, 7, true]);
  assert.deepEqual(result.agreements, good.digests.map((d, i) => ({ version: i + 1, digest: d.toString('hex') })));
});

test('a file of one request holds without the entries before it', () => {
  const made = make(Sizes, {
    head: h => {
      h.case = '';
      h.requestId = 'consular-rotated';
    },
    shown: (entry, e) => { entry.left = !['agreement', 'next'].includes(e.template) && e.requestId !== 'consular-rotated'; } });
  assert.equal(holds(made).entries, 6);
});

// ---- Changed after the export

test('a byte changed anywhere is found at its line', () => {
  const bytes = file(good.lines);
  let start = 0;
  good.lines.forEach((line, index) => {
    for (let offset = 0; offset < line.length; offset += Math.max(1, Math.floor(line.length / 40))) {
      for (const change of [b => b ^ 1, b => b ^ 0x80, () => 0x20]) {
        const copy = Buffer.from(bytes);
        copy[start + offset] = change(copy[start + offset]);
        if (!copy.equals(bytes)) refused(copy, index + 1);
      }
    }
    start += line.length + 1;
  });
});

test('a header changed so that its position or its log seems another is found at its line', () => {
  const at = good.places.consular.duty;
  const text = good.lines[at - 1].toString(), entry = JSON.parse(text).entry, header = Buffer.from(entry.header, 'base64');
  header[1] = 99;
  const replaced = (number, line) => good.lines.map((l, i) => (i === number - 1 ? Buffer.from(line) : l));
  refused(replaced(at, text.replace(entry.header, header.toString('base64'))), at, /changed/);
  const log = good.places.calllog.log;
  refused(replaced(log, good.lines[log - 1].toString().replace('"calllog"', '"zalllog"')), log, /changed/);
});

test('a line removed, repeated or swapped is found', () => {
  for (let i = 0; i < last; i++) {
    const without = good.lines.filter((_, n) => n !== i);
    refused(without, i === last - 1 ? last - 1 : i + 1, /removed/);
    refused([...good.lines.slice(0, i + 1), ...good.lines.slice(i)], i + 2);
    if (i === last - 1) continue;
    const swapped = [...good.lines];
    [swapped[i], swapped[i + 1]] = [swapped[i + 1], swapped[i]];
    refused(swapped, i === last - 2 ? last : i + 1);
  }
});

test('a file that is cut off anywhere is refused', () => {
  const bytes = file(good.lines);
  for (let length = 0; length < bytes.length; length += 97) {
    const kept = bytes.subarray(0, length), complete = kept.filter(b => b === 10).length;
    refused(kept, length === 0 ? 1 : kept.at(-1) === 10 ? complete : complete + 1);
  }
  refused(bytes.subarray(0, -1), last, /cut off/);
});

test('a line of another file of the same exporter is found', () => {
  const other = make(Sizes);
  for (let i = 1; i < last - 1; i++)
    refused(good.lines.map((l, n) => (n === i ? other.lines[n] : l)), i + 1, /changed or put in/);
  // Another file's end is the exporter's as well: it says what the lines before it should be.
  refused([...good.lines.slice(0, -1), other.lines.at(-1)], 2);
});

test('what a changed line says falsely is told besides', () => {
  const at = good.places.calllog.log, text = good.lines[at - 1].toString();
  refused(good.lines.map((l, i) => (i === at - 1 ? Buffer.from(text.replace('\\n3\\n', '\\n4\\n')) : l)), at,
    /changed .*besides, the checkpoint/
  );
});

// ---- The form

const reformed = (at, change) => {
  const lines = good.lines.map((l, i) => (i === at - 1 ? Buffer.from(change(l.toString())) : l));
  assert.ok(!lines[at - 1].equals(good.lines[at - 1]), 'nothing was changed');
  return made.file([...lines.slice(0, -1), at === last ? lines.at(-1) : made.end(lines.slice(0, -1), 'aa/requests/2')]);
};
const { places } = good;
for (const [what, at, change] of [
  ['white space', 1, t => t.replace(':', ': ')],
  ['a carriage return', 1, t => `${t}\r`],
  ['a byte order mark', 1, t => `\ufeff${t}`],
  ['fields in another order', 1, t => t.replace(/("format":"[^"]*"),("participant":"[^"]*")/, '$2,$1')],
  ['a field twice', 1, t => t.replace('"format"', '"format":"ministries.evidence.v1","format"')],
  ['an unknown field', 1, t => t.replace('"format"', '"formal":"x","format"')],
  ['a field by its name in the .proto file', 1, t => t.replace('trustDomain', 'trust_domain')],
  ['a field that is null', 1, t => t.replace('"case"', '"requestId":null,"case"')],
  ['a default written out', places.consular.duty, t => t.replace('{"entry":{', '{"entry":{"privileged":false,')],
  ['an empty list', 1, t => t.replace('}}', ',"parts":[]}}')],
  ['a character escaped that need not be', 1, t => t.replace('aa/mfa', 'aa\\/mfa')],
  ['an escape in capitals', 1, t => t.replace('aa/mfa', 'aa\\u001F')],
  ['a lone surrogate', 1, t => t.replace('aa/mfa', '\\ud800')],
  ['a time with needless digits', 1, t => t.replace(/Z"/, '.000Z"')],
  ['a time of an offset', 1, t => t.replace(/Z"/, '+00:00"')],
  ['a day that there is not', 1, t => t.replace(/2026-\d\d-\d\d/, '2026-02-30')],
  ['a leap second', 1, t => t.replace(/\d\dZ"/, '60Z"')],
  ['a number as a number', places.consular.request, t => t.replace(/"number":"1"/, '"number":1')],
  ['a number with a leading zero', places.consular.request, t => t.replace(/"number":"1"/, '"number":"01"')],
  ['a number of more than 64 bits', places.consular.request, t => t.replace(/"number":"1"/, '"number":"18446744073709551617"')],
  ['an enum value by number', places.consular.request, t => t.replace('"PART_KIND_EVENTS"', '2')],
  ['an unknown enum value', places.consular.request, t => t.replace('PART_KIND_EVENTS', 'PART_KIND_EVENT')],
  ['base64 without padding', places.consular.request, t => t.replace('=",', '",')],
  ['base64 for URLs', places.consular.agreement, t => t.replace(/\/(?=[^"]*")|\+/, '_')],
  ['base64 with bits to spare', places.consular.request,
    t => t.replace(/([A-Za-z0-9+/])=",/, (_, c) => `${String.fromCharCode(c.charCodeAt(0) + 1)}=",`)],
  ['two kinds in one line', 1, t => t.replace(/}$/, ',"log":{"service":"x"}}')],
  ['no kind', 1, () => '{}'],
  ['an empty line', 1, () => ''],
  ['a list for an object', 1, () => '[]'],
  ['another format', 1, t => t.replace('evidence.v1', 'evidence.v2')],
  ['both a case and a request', 1, t => t.replace('"exportTime"', '"requestId":"r","exportTime"')],
  ['neither case nor request', 1, t => t.replace(/"case":"[^"]*",/, '')],
  ['no export time', 1, t => t.replace(/,"exportTime":"[^"]*"/, '')]])
  test(`${what} is no form of a line`, () => assert.match(refused(reformed(at, change), at), /not in the form/));

test('text that is not UTF-8 is no form of a line', () => {
  const bytes = file(good.lines);
  bytes[20] = 0xc0;
  refused(bytes, 1, /UTF-8/);
});

test('a log that has no entry, or stands in another order, or twice, is refused', () => {
  const lines = change => make(Sizes, { lines: change });
  let found = lines(all => { all.splice(2, 3); });
  refused(found.lines, 3, /does not belong/);
  found = lines(all => { all.push(...all.splice(1, 4)); });
  refused(found.lines, found.lines.length - 4, /order of their names/);
  refused(lines(all => { all.splice(5, 0, ...all.slice(1, 5)); }).lines, 6, /order of their names/);
  refused(lines(all => { [all[3], all[4]] = [all[4], all[3]]; }).lines, 5, /position 1 stands after position 2/);
  refused(lines(all => { all.splice(4, 0, all[3]); }).lines, 5, /position 1 stands after position 1/);
  refused(lines(all => { all.splice(0, 1); }).lines, 1, /does not belong/);
  refused(lines(all => { all.splice(3, 0, all[0]); }).lines, 4, /does not belong/);
  refused(lines(all => { all.splice(1); }).lines, 2, /does not belong/);
});

const rewritten = (name, change) => tampered({ shown: of(name, (entry, e) => { entry.header = change(entry.header, e); }) });
for (const [what, change] of [
  ['an unknown field', h => Buffer.concat([h, Buffer.of(0x50, 1)])],
  ['a field twice', h => Buffer.concat([h.subarray(0, 2), h])],
  ['a default written out', h => Buffer.concat([h, Buffer.of(0x40, 0)])],
  ['a number in more bytes than it needs', h => Buffer.concat([Buffer.of(8, 0x80 | h[1], 0), h.subarray(2)])],
  ['a field of another type', h => Buffer.concat([Buffer.of(0x0a, 1, h[1]), h.subarray(2)])],
  ['half a field', h => h.subarray(0, -1)],
  ['nothing in it', () => Buffer.alloc(0)]])
  test(`a header with ${what} is not canonical`, () => {
    const found = rewritten('request', change);
    refused(found.lines, found.at('request'), /not in the form/);
  });

// ---- The exporter, who signs what he altered

test('a file signed by another key than it names is refused at its end', () => {
  refused(
    make(Sizes, {
      signedEnd: e => { e.signature = pair('bb/requests').sign(Buffer.from('x')); } }).lines, last, /does not verify/);
  refused(make(Sizes, { end: e => { e.publicKey = pair('bb/requests').public; } }).lines, last, /does not verify/);
  refused(make(Sizes, { signedEnd: e => { e.lines[3] = e.lines[4]; } }).lines, last, /does not verify/);
  refused(make(Sizes, { end: e => { e.lines.push(e.lines[0]); } }).lines, last, /removed/);
  refused(make(Sizes, { end: e => { e.lines.pop(); } }).lines, last - 1, /put in/);
});

test('an exporter who is not who he says he is is refused', () => {
  refused(make(Sizes, { keyId: 'bb/requests' }).lines, last, /somebody else/);
  refused(make(Sizes, { keyId: 'stranger' }).lines, last, /somebody else/);
  refused(make(Sizes, { keyId: 'aa/agreements' }).lines, last, /somebody else/);
  refused(make(Sizes, { keyId: 'aa/requests' }).lines, last, /not valid/);
  refused(make(Sizes, { head: h => { h.exportTime -= 86400n * 365n * Second; } }).lines, last, /not valid/);
  refused(make(Sizes, { head: h => { h.participant = 'icrc'; } }).lines, last, /somebody else/);
  refused(make(Sizes, { head: h => { h.trustDomain = 'other.test'; } }).lines, 1, /trust domain/);
});

// ---- Key history: who must sign a version

const participant = (a, id) => a.participants.find(p => p.id === id);
const key = (id, use) => ({ id, use, publicKey: pair(id).public });
/** A public key of X-Wing by its form alone: `start` are its first bytes. */
const sealingKey = (id, ...start) => ({ id, publicKey: Buffer.concat([Buffer.from(start), Buffer.alloc(1216 - start.length)]),
  validFromTime: 1700000000n * Second });
const restore = a => {
  const keys = participant(a, 'aa/mfa').signingKeys;
  keys.pop();
  keys[0].revokeTime = null;
};
const aa = Everybody[0], bb = Everybody[1], icrc = Everybody[2];
for (const [what, meaning, hooks] of [
  ['changes a grant and is signed by one', /not signed by bb\/mfa, icrc/,
    { agreement: a => { a.grants[0].methods.push('x/Y'); } }],
  ['changes a grant and is signed by all', null, { agreement: a => { a.grants[0].methods.push('x/Y'); }, signers: Everybody }],
  ['changes nothing and is signed by one', /not signed/, { agreement: restore, keyId: 'aa/requests' }],
  ["changes another's keys", /not signed by bb\/mfa/,
    { agreement: a => { participant(a, 'bb/mfa').signingKeys[0].publicKey = pair('put in').public; } }],
  ["changes a service's key", /not signed by bb\/mfa, icrc/,
    { agreement: a => { participant(a, 'service/custody').signingKeys[0].publicKey = pair('x').public; } }],
  ['adds a key of a service with all signatures', null,
    { agreement: a => { participant(a, 'service/custody').signingKeys.push(key('service/x', 4)); }, signers: Everybody }],
  ['gives its signer a capacity', /not signed/, { agreement: a => { participant(a, 'aa/mfa').capacities.push(3); } }],
  ['takes a capacity from its signer', null, { agreement: a => { participant(a, 'aa/mfa').capacities.pop(); } }],
  ['clears its signer higher', /not signed/, { agreement: a => { participant(a, 'aa/mfa').clearance = 3; } }],
  ['clears its signer lower', null, { agreement: a => { participant(a, 'aa/mfa').clearance = 1; } }],
  ['renames its signer', /not signed/, { agreement: a => { participant(a, 'aa/mfa').name = 'Other'; } }],
  ['removes a participant', /not signed by bb\/mfa/, { agreement: a => { a.participants.splice(2, 1); }, signers: [aa] }],
  ["changes the participants' order", /not signed/, { agreement: a => { a.participants.reverse(); } }],
  ['lets one join who did not sign', /not signed by cc\/mfa/,
    { agreement: a => { a.participants.push({ id: 'cc/mfa', kind: 1, signingKeys: [key('cc/agreements', 6)] }); },
      signers: Everybody
    }
  ],
  ['lets one join who signed', null,
    { agreement: a => { a.participants.push({ id: 'cc/mfa', kind: 1, signingKeys: [key('cc/agreements', 6)] }); },
      signers: [...Everybody, ['cc/mfa', 'cc/agreements']] }],
  ['lets one join who has no key', /no key for agreements/,
    { agreement: a => { a.participants.push({ id: 'cc/mfa', kind: 1, signingKeys: [] }); }, signers: Everybody }],
  ['brings in the key that signs it', /not signed by aa\/mfa/,
    { agreement: a => { participant(a, 'aa/mfa').signingKeys.push(key('aa/agreements/2', 6)); },
      signers: [['aa/mfa', 'aa/agreements/2']] }],
  ['replaces a lost key, signed by all others', null,
    {
      agreement: a => {
        restore(a);
        participant(a, 'aa/mfa').signingKeys[3] = key('aa/agreements/2', 6);
      }, signers: [bb, icrc], keyId: 'aa/requests',
      entry: e => {
        if (e.template === 'rotated' || e.template === 'hidden' || e.template === 'erased') e.keyId = 'aa/requests';
      }
    }
  ],
  ['replaces a lost key, signed by one other', /not signed by aa\/mfa/,
    {
      agreement: a => {
        restore(a);
        participant(a, 'aa/mfa').signingKeys[3] = key('aa/agreements/2', 6);
      }, signers: [bb] }],
  ['replaces a lost key and another, signed by all others', /not signed by aa\/mfa/,
    { agreement: a => { participant(a, 'aa/mfa').signingKeys[3] = key('aa/agreements/2', 6); }, signers: [bb, icrc] }],
  ['is signed with a key for requests', /no key for agreements/, { signers: [['aa/mfa', 'aa/requests']] }],
  ["is signed with another's key", /no key for agreements/, { signers: [['aa/mfa', 'bb/agreements']] }],
  ['has a second signature that is forged', /does not verify/,
    { signers: [aa, bb], signedAgreement: a => { a.signatures[1].signature = a.signatures[0].signature; } }],
  ['is signed over other content', /does not verify/, { signedAgreement: a => { a.hostilities = true; } }],
  ['skips a number', /version 3 follows version 1/, { agreement: a => { a.version = 3n; } }],
  ['names another predecessor', /digest of the preceding/, { agreement: a => { a.previousDigest = made.hash('x'); } }],
  ['holds from before its predecessor', /earlier time/, { agreement: a => { a.validFromTime -= Second; } }],
  ['lists a key twice', /twice/, { agreement: a => { participant(a, 'aa/mfa').signingKeys.push(key('bb/requests', 1)); } }],
  ['lists a participant twice', /twice/, { agreement: a => { a.participants.push(a.participants[1]); } }],
  ['records facts about a state, signed by all', null,
    { agreement: a => { Object.assign(a.states[1], { neutral: true, partyToAp1: true, partyToRefugeeConvention: true,
      reservations: [12, 118] }); }, signers: Everybody }],
  ['records a reservation, signed by all but one', /not signed by/,
    { agreement: a => { a.states[1].reservations = [118]; }, signers: [aa, bb] }],
  ['lists a key for sealing, signed by its participant alone', null,
    { agreement: a => { participant(a, 'aa/mfa').sealingKeys = [sealingKey('aa/sealing')]; }, signers: [aa] }],
  ['lists a key for sealing of the operator', /has no keys for sealing/,
    { agreement: a => { participant(a, 'operator').sealingKeys = [sealingKey('x')]; }, signers: Everybody }],
  ['lists a key for sealing twice', /key for sealing is there twice/,
    { agreement: a => { participant(a, 'aa/mfa').sealingKeys = [sealingKey('x'), sealingKey('x', 1)]; }, signers: [aa] }],
  ['lists a key for sealing under two ids', /public key is listed twice/,
    { agreement: a => { participant(a, 'aa/mfa').sealingKeys = [sealingKey('x'), sealingKey('y')]; }, signers: [aa] }],
  ['lists a key for sealing with a space in its id', /not of the form/,
    { agreement: a => { participant(a, 'aa/mfa').sealingKeys = [sealingKey('a b')]; }, signers: [aa] }],
  ['lists a key for sealing with a number that is too great', /no public key of X-Wing/,
    { agreement: a => { participant(a, 'aa/mfa').sealingKeys = [sealingKey('x', 0xff, 0x0f)]; }, signers: [aa] }],
  ['lists a key for sealing that ends before it begins', /ends before it begins/,
    { agreement: a => { participant(a, 'aa/mfa').sealingKeys = [{ ...sealingKey('x'), validUntilTime: 1600000000n * Second }]; },
      signers: [aa] }],
  ['has two bureaux of a state', /bureaux/, { agreement: a => {
    a.bureaux = [{ state: 'AA', participant: 'x' }, { state: 'AA', participant: 'y' }]; } }],
  ['has a reservation on an article that there is not', /reservations/, { agreement: a => { a.states[1].reservations = [144]; } }],
  ['has a reservation on article 0', /reservations/, { agreement: a => { a.states[1].reservations = [0]; } }],
  ['has a reservation twice', /reservations/, { agreement: a => { a.states[1].reservations = [12, 12]; } }],
  ['has more reservations than 64', /reservations/,
    { agreement: a => { a.states[1].reservations = Array.from({ length: 65 }, (_, i) => i + 1); } }]])
  test(`a version of the agreement that ${what} ${meaning ? 'does not hold' : 'holds'}`, () => {
    const found = make({ custody: 9 }, hooks);
    if (meaning) refused(found.lines, found.places.custody.next, meaning);
    else holds(found);
  });

test('a first version that is not as it should be is refused', () => {
  let found = make(Sizes, { firstSigners: Everybody.slice(1) });
  refused(found.lines, 3, /not signed by aa\/mfa/);
  found = make(Sizes, {
    first: a => {
      a.previousDigest = Buffer.alloc(32);
      made.signAgreement(a, Everybody);
    }
  });
  refused(found.lines, 3, /preceding version/);
  found = make(Sizes, {
    first: a => {
      participant(a, 'aa/mfa').signingKeys[3].revokeTime = 0n;
      made.signAgreement(a, Everybody);
    }
  });
  refused(found.lines, 3, /no key for agreements that is valid/);
});

test("an agreement whose entry is not shown, erased, somebody else's or left out is refused", () => {
  const found = change => tampered({ shown: of('next', change) });
  for (const [change, meaning] of [
    [entry => { entry.parts.shift(); }, /not shown/],
    [entry => { entry.parts[0] = { kind: Part.REQUEST, erased: true, salt: Buffer.alloc(0), data: Buffer.alloc(0) }; },
      /not shown/
    ],
    [entry => { entry.parts[0].data = Buffer.concat([entry.parts[0].data, Buffer.of(0x70, 0)]); }, /canonical/]])
    refused(found(change).lines, good.places.consular.next, meaning);
  refused(
    tampered({
      entry: of('next', e => { e.participant = 'service/custody'; }) }).lines, good.places.consular.next, /not the service's own/
  );
  const left = found(entry => { entry.left = true; });
  refused(left.lines, left.at('rotated'), /no entry before it records/);
  refused(
    tampered({ shown: of('agreement', entry => { entry.left = true; }) }).lines, good.places.consular.log + 1, /does not begin/);
});

test('logs that hold different agreements of one number are refused in the later one; their signatures may differ', () => {
  const held = other => tampered({
    header: of('agreement', e => {
      e.parts[0].data = writeMessage(other, 'Agreement');
      e.header.parts[0].digest = made.hash(e.parts[0].salt, e.parts[0].data);
    }, 'calllog')
  });
  const other = made.unsignedAgreement(['calllog', 'consular', 'custody']);
  made.signAgreement(other, [...Everybody].reverse());
  holds(held(other));
  other.hostilities = true;
  made.signAgreement(other, Everybody);
  const found = held(other);
  refused(found.lines, found.places.consular.agreement, /another log/);
});

test("an agreement of the reader's own is compared", () => {
  holds(good, { agreement: good.digests[0] });
  refused(good.lines, good.places.calllog.agreement, /another agreement/, { agreement: made.hash('x') });
  const json = JSON.parse(writeJson(good.first, 'Agreement'));
  assert.deepEqual(digestOf(JSON.stringify(json, null, 2)), good.digests[0]);
  // What protobuf's readers read in several ways is no agreement of the reader's.
  for (const text of [JSON.stringify({ ...json, trust_domain: json.trustDomain, trustDomain: undefined }),
    JSON.stringify({ ...json, version: 1 }), JSON.stringify(json).replace('{', '{"version":"1",'),
    JSON.stringify({ participants: json.participants, ...json, version: json.version }), JSON.stringify(json).replace('=', '')])
    assert.throws(() => digestOf(text), /one form|base64/);
  assert.throws(() => digestOf(good.digests[0].toString('hex')));
});

// ---- Logs

const cosigner = time => ['bb/mfa', 'bb/cosignatures', time];
for (const [what, meaning, change] of [
  ['of another log', /another log/,
    (log, { size, top }) => { log.checkpoint = made.checkpoint('custody', size, top, 'custody/checkpoints', []); }],
  ['signed by another service', /no key that the agreement lists/,
    (log, { size, top }) => { log.checkpoint = made.checkpoint('consular', size, top, 'custody/checkpoints', []); }],
  ['with another signature under its key', /does not verify/,
    log => { log.checkpoint = log.checkpoint.replace(/\n\n(— \S+ .{20})./, (t, a) => `\n\n${a}${t.at(-1) === 'x' ? 'y' : 'x'}`); }
  ],
  ['with a broken cosignature', /cosignature of bb\/mfa/,
    (log, { size, top, now }) => {
      log.checkpoint = made.checkpoint('consular', size, top, 'consular/checkpoints', [cosigner(now)])
        .replace(/(witness\/bb\/mfa .{40})./, (t, a) => `${a}${t.at(-1) === 'x' ? 'y' : 'x'}`);
    }
  ],
  ['with a cosignature of another tree', /cosignature of bb\/mfa/,
    (log, { size, top, now }) => {
      const other = made.checkpoint('consular', size, made.hash(top), 'consular/checkpoints', [cosigner(now)]).split('\n').at(-2);
      log.checkpoint = `${made.checkpoint('consular', size, top, 'consular/checkpoints', [])}${other}\n`;
    }
  ],
  ['with a fourth line', /no signed note|origin/, log => { log.checkpoint = log.checkpoint.replace('\n\n', '\nextension\n\n'); }],
  ['with a size that has a zero before it', /origin/, log => { log.checkpoint = log.checkpoint.replace('\n8\n', '\n08\n'); }],
  ['without signatures', /no signed note|no signature/, log => { log.checkpoint = `${log.checkpoint.split('\n\n')[0]}\n\n`; }],
  ['with a line that is no signature', /no signature/, log => { log.checkpoint += 'hello\n'; }],
  ['that is no note', /no signed note/, log => { log.checkpoint = 'hello'; }]])
  test(`a checkpoint ${what} is refused`, () => {
    const found = tampered({ log: (log, more) => log.service === 'consular' && change(log, more) });
    refused(found.lines, found.at('log'), meaning);
  });

test('a checkpoint of another size breaks the entries under it', () => {
  const found = tampered({
    log: (log, { top }) => {
      if (log.service === 'consular') log.checkpoint = made.checkpoint('consular', 400, top, 'consular/checkpoints', []);
    }
  });
  refused(found.lines, found.at('agreement'), /proof/);
});

test('a cosignature with a key that was not valid then is not counted', () => {
  const result = holds(
    tampered({
      log: (log, { size, top }) => {
        log.checkpoint = made.checkpoint(log.service, size, top, `${log.service}/checkpoints`, [cosigner(1n),
          ['icrc', 'icrc/cosignatures', 1_790_000_000n]]);
      }
    })
  );
  assert.deepEqual(result.logs[0].cosigned.map(c => c.participant), ['icrc']);
});

// ---- Entries

const part = (entry, kind) => entry.parts.find(p => p.kind === kind);
for (const [what, name, meaning, hooks] of [
  ['a proof that lacks a hash', 'request', /proof/, { shown: entry => { entry.proof.pop(); } }],
  ['a proof with a hash too many', 'request', /proof/, { shown: entry => { entry.proof.push(made.hash('x')); } }],
  ['a wrong hash in its proof', 'request', /proof/, { shown: entry => { entry.proof[1] = made.hash('x'); } }],
  ['a short hash in its proof', 'request', /proof/, { shown: entry => { entry.proof[1] = Buffer.alloc(31); } }],
  ['another commit time than the log has', 'duty', /proof/,
    { shown: (entry, e) => { entry.header = writeMessage({ ...e.header, commitTime: e.commitTime + 100n }, 'EntryHeader'); } }],
  ['a version of the agreement that is not recorded yet', 'request', /no entry before it records/,
    { header: e => { e.header.agreementVersion = 2n; } }],
  ['a version that another has followed long before', 'rotated', /another had followed/,
    { header: e => { e.header.agreementVersion = 1n; e.header.commitTime += 3_600n * made.Second; } }],
  ['another version than the one it records', 'next', /no entry before it records/,
    { header: e => { e.header.agreementVersion = 1n; } }],
  ['other events', 'request', /PART_KIND_EVENTS/, { shown: entry => { part(entry, Part.EVENTS).data = Buffer.from('x'); } }],
  ['another salt', 'request', /PART_KIND_EVENTS/, { shown: entry => { part(entry, Part.EVENTS).salt = Buffer.alloc(32); } }],
  ['salt and data divided elsewhere', 'request', /PART_KIND_EVENTS/,
    {
      shown: entry => {
        const p = part(entry, Part.EVENTS);
        [p.salt, p.data] = [p.salt.subarray(0, 31), Buffer.concat([p.salt.subarray(31), p.data])];
      }
    }
  ],
  ['an erased part with data', 'request', /PART_KIND_EVENTS/, { shown: entry => { part(entry, Part.EVENTS).erased = true; } }],
  ['erased events', 'request', /PART_KIND_EVENTS/,
    { shown: entry => { Object.assign(part(entry, Part.EVENTS), { salt: Buffer.alloc(0), data: Buffer.alloc(0), erased: true }); } }],
  ['an erased signature', 'request', /PART_KIND_SIGNATURE/,
    { shown: entry => { Object.assign(part(entry, Part.SIGNATURE), { salt: Buffer.alloc(0), data: Buffer.alloc(0), erased: true }); } }],
  ['parts in another order', 'request', /does not name/, { shown: entry => { entry.parts.reverse(); } }],
  ['a part twice', 'request', /does not name/, { shown: entry => { entry.parts.splice(1, 0, entry.parts[1]); } }],
  ['a part that its header does not name', 'duty', /does not name/,
    { shown: entry => { entry.parts.push({ kind: Part.CAUSE, salt: Buffer.alloc(32), data: Buffer.alloc(0), erased: false }); } }
  ],
  ['events not shown', 'request', /events are not shown/,
    { shown: entry => { entry.parts = entry.parts.filter(p => p.kind !== Part.EVENTS); } }],
  ['a request without its signature', 'request', /not shown together/, { shown: entry => { entry.parts.pop(); } }],
  ['a signature without its request', 'request', /not shown together/, { shown: entry => { entry.parts.shift(); } }],
  ['a privilege that a ministry has not', 'request', /privileged/,
    {
      shown: entry => {
        entry.privileged = true;
        entry.parts = [];
        entry.receipt = null;
      }
    }
  ],
  ['a privilege and parts', 'privileged', /privileged/, { shown: (entry, e) => { entry.parts = e.parts; } }],
  ['no parts of an observer and no privilege', 'privileged', /events are not shown/,
    { shown: entry => { entry.privileged = false; } }],
  ['a number that its header does not commit to', 'request', /commits to/,
    { shown: entry => { entry.audience[0] = { ...entry.audience[0], number: 2n }; } }],
  ['its numbers in another order', 'request', /commits to/,
    { shown: entry => { entry.audience = [...entry.audience].reverse(); } }],
  ['a number twice', 'request', /commits to/, { shown: entry => { entry.audience.splice(1, 0, entry.audience[0]); } }],
  ['a number too high, recorded by the service', 'approved', /an entry was left out/,
    { entry: e => { e.audiences = [`c:${Case}`, `c:${Case}`]; }, shown: entry => { entry.audience.shift(); } }],
  ['no signature', 'request', /was not signed/,
    { entry: e => { e.unsigned = true; }, shown: entry => { entry.parts = entry.parts.filter(p => p.kind !== Part.REQUEST); } }],
  ['a signature of a service', 'duty', /names a signature/,
    { header: e => { e.header.parts.push({ kind: Part.SIGNATURE, digest: made.hash('x') }); } }],
  ['a receipt of another position', 'request', /another entry/, { shown: entry => { entry.receipt.position += 1n; } }],
  ['a receipt of another time', 'request', /another entry/, { shown: entry => { entry.receipt.commitTime += 100n; } }],
  ['a receipt of another service', 'request', /another entry/, { shown: entry => { entry.receipt.service = 'custody'; } }],
  ['a receipt for other content', 'request', /other content/, { shown: entry => { entry.receipt.entryHash = made.hash('x'); } }],
  ['a receipt with another root', 'request', /its root/, { shown: entry => { entry.receipt.rootHash = made.hash('x'); } }],
  ['a receipt with another proof', 'request', /its root/,
    { shown: entry => { entry.receipt.inclusionProof = [made.hash('x')]; } }],
  ['a receipt whose checkpoint is of another tree', 'request', /another tree/,
    {
      shown: entry => {
        entry.receipt.checkpoint = made.checkpoint('consular', entry.receipt.treeSize, made.hash('x'), 'consular/checkpoints', []
        );
      }
    }
  ],
  ['a receipt whose checkpoint another service signed', 'request', /its checkpoint/,
    {
      shown: entry => {
        entry.receipt.checkpoint = made.checkpoint('consular', entry.receipt.treeSize, entry.receipt.rootHash,
          'custody/checkpoints', []);
      }
    }
  ],
  ['events that are none', 'request', /./,
    {
      header: e => {
        const p = part(e, Part.EVENTS);
        p.data = Buffer.of(0x0a, 9);
        e.header.parts[1].digest = made.hash(p.salt, p.data);
      }
    }
  ]
])
  test(`an entry with ${what} is refused`, () => {
    const found = tampered(Object.fromEntries(Object.entries(hooks).map(([hook, change]) => [hook, of(name, change)])));
    refused(found.lines, found.at(name), meaning);
  });

for (const [what, meaning, change] of [
  ['signed by somebody else', /does not verify/, e => { e.signature = { signer: 'bb/requests' }; }],
  ["signed with another participant's key", /no key of the participant/, e => { e.keyId = 'bb/requests'; }],
  ['signed with a key for approvals', /no key of the participant/, e => { e.keyId = 'aa/approvals'; }],
  ['signed with a key that comes later', /no key of the participant/, e => { e.keyId = 'aa/requests/2'; }],
  ['signed for another method', /does not verify/, e => { e.signature = { method: 'ministries.test.v1.Test/Other' }; }],
  ['signed for another service', /another application or service/, e => { e.signature = { service: 'custody' }; }],
  ['signed for no service', /another application or service/, e => { e.signature = { tag: 'ministries' }; }],
  ['signed for a service of another trust domain', /application or service/, e => { e.signature = { tag: 'ministries/other.test/consular' }; }],
  ['sent to another address', /addressed to another service/, e => { e.signature = { authority: 'other:443' }; }],
  ['signed for another application', /another application/, e => { e.signature = { tag: 'other' }; }],
  ['signed with another nonce', /another request id/, e => { e.signature = { nonce: 'other' }; }],
  ['that has another id within', /another request id/, e => { e.innerRequestId = 'other'; }],
  ['signed over other content', /another request/, e => { e.signature = { request: Buffer.from('other') }; }],
  ['signed in the future', /another time/, e => { e.created += 40n; }],
  ['signed for too long', /another time/, e => { e.expires = e.created + 301n; }],
  ['signed for no time', /another time/, e => { e.expires = e.created; }],
  ['expired long before its commit', /another time/,
    e => {
      e.created -= 300n;
      e.expires = e.created + 200n;
    }
  ],
  ['with an unknown parameter', /not in their form/, e => { e.signature = { more: ';x="y"' }; }],
  ['with a parameter twice', /not in their form/, e => { e.signature = { more: ';tag="ministries"' }; }],
  ['of another algorithm', /not in their form/, e => { e.signature = { more: ';alg="rsa-pss-sha512"' }; }],
  ['with a parameter of another type', /not in their form/, e => { e.created = `"${e.created}"`; }]])
  test(`a request ${what} is refused`, () => {
    const found = tampered({ entry: of('request', change) });
    refused(found.lines, found.at('request'), meaning);
  });

test('a request whose signature names its algorithm is refused: the key says which it is', () => {
  const found = tampered({ entry: of('request', e => { e.signature = { more: ';alg="ed25519"' }; }) });
  refused(found.lines, found.at('request'), /not in their form/);
});

test('a request signed with a key that was revoked is refused', () => {
  const found = tampered({ entry: of('rotated', e => { e.keyId = 'aa/requests'; }) });
  refused(found.lines, found.at('rotated'), /not valid/);
});

for (const [what, meaning, change] of [
  ['of another request', /not over this request/,
    (a, e) => { a.over = made.request({ requestId: 'consular-request', content: 'content of consular-request' }).without; }],
  ['by somebody else', /not over this request/, a => { a.signer = 'bb/approvals'; }],
  ['of another official', /no key of this official/, a => { a.official = 'boss'; }],
  ["with another participant's key", /no key of this official/,
    a => {
      a.keyId = 'bb/approvals';
      a.official = 'bb-official';
    }
  ],
  ['with a key for requests', /no key of this official/, a => { a.keyId = 'aa/requests'; }],
  ['given to another participant', /not over this request/, a => { a.participant = 'bb/mfa'; }],
  ['for another service', /not over this request/, a => { a.log = `${Domain}/custody`; }]])
  test(`an approval ${what} is refused`, () => {
    const found = tampered({ entry: of('approved', e => change(e.approvals[0], e)) });
    refused(found.lines, found.at('approved'), meaning);
  });

test('an entry of the case that is left out leaves a gap', () => {
  for (const name of ['request', 'approved', 'privileged', 'rotated', 'hidden']) {
    const order = ['request', 'approved', 'privileged', 'rotated', 'hidden', 'erased'];
    const found = tampered({ shown: of(name, entry => { entry.left = true; }, 'custody') }, 'custody');
    refused(found.lines, found.at(order[order.indexOf(name) + 1]), /an entry was left out/);
  }
});

test('a file says which case or which request it is of', () => {
  let found = tampered({ head: h => { h.case = 'C-2026-000002'; } });
  refused(found.lines, found.places.calllog.request, /not the file's/);
  found = tampered({ head: h => { h.case = ''; h.requestId = 'other'; } });
  refused(found.lines, 1, /no request other/);
});

test('whatever the exporter changes and signs again is found', () => {
  const other = c => (c === '7' ? '8' : c === 'X' ? 'Y' : /\d/.test(c) ? '7' : 'X');
  const flip = value => value.replace(/[A-Za-z0-9](?=[^A-Za-z0-9]*$)/, other);
  const flipBytes = value => {
    const bytes = Buffer.from(value, 'base64');
    bytes[bytes.length >> 1] ^= 4;
    return bytes.toString('base64');
  };
  const texts = 'format participant trustDomain case service audience commitTime number position treeSize'.split(' ');
  /** What can stand in a place of a line instead; undefined: nothing. */
  const instead = (key, value) => {
    // When it was exported is the exporter's word alone.
    if (key === 'exportTime') return [];
    if (key === 'checkpoint') return [0, 1, 2, 4].map(at => value.split('\n').map((l, i) => (i === at ? flip(l) : l)).join('\n'));
    if (key === 'kind') return ['PART_KIND_CAUSE'];
    if (value === true) return [undefined];
    // Numbers that are not shown are missed at the next entry only, and parts need not all be shown.
    if (Array.isArray(value)) return /roof$/.test(key) ? [value.length > 1 ? value.slice(1) : undefined] : [];
    return typeof value === 'object' ? [] : [texts.includes(key) ? flip(value) : flipBytes(value)];
  };
  let count = 0, malformed = 0;
  good.lines.slice(0, -1).forEach((line, index) => {
    const text = line.toString(), places = [];
    const walk = (value, path) => {
      for (const item of path.length ? instead(path.filter(k => !/^\d+$/.test(k)).at(-1), value) : []) places.push([path, item]);
      if (typeof value === 'object') for (const [key, inner] of Object.entries(value)) walk(inner, [...path, key]);
    };
    walk(JSON.parse(text), []);
    for (const [path, item] of places) {
      const whole = JSON.parse(text), holder = path.slice(0, -1).reduce((value, key) => value[key], whole);
      if (item === undefined) delete holder[path.at(-1)];
      else holder[path.at(-1)] = item;
      const lines = good.lines.slice(0, -1);
      lines[index] = Buffer.from(JSON.stringify(whole));
      const result = verify(file([...lines, made.end(lines, 'aa/requests/2')])), where = path.join('.');
      assert.equal(result.ok, false, `line ${index + 1} was taken for whole with another ${where}`);
      // What the file and a log are called shows at the first entry that is of another one, or at the end.
      if (index > 0 && where !== 'log.service') assert.equal(result.line, index + 1, `${where}: ${result.meaning}`);
      if (/not in the form/.test(result.meaning)) malformed++;
      count++;
    }
  });
  assert.ok(count > 300 && malformed < count / 10, `${count} ${malformed}`);
});

const inWords = made => {
  const folder = mkdtempSync(join(tmpdir(), 'evidence-'));
  try {
    writeFileSync(join(folder, 'file'), file(made.lines));
    const { status, stdout, stderr } = spawnSync(process.execPath, [Verifier, join(folder, 'file')], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
};

test('how far the numbers reach is told for each audience', () => {
  const text = inWords(good);
  assert.match(text, new RegExp(`no entry was left out of the 5 for c:${Case} up to entry 7, of the 1 for c:${Case}:duties up to entry 3\\.`));
  assert.match(text, /beyond the last entry that is counted/);
  assert.doesNotMatch(text, /that nothing was left out of consular/);
});

test('an entry that is left out where the later ones show no numbers is not proved to be there', () => {
  const made = make(Sizes, {
    shown: (entry, e) => {
      if (e.service !== 'consular') return;
      entry.left = e.template === 'rotated';
      if (e.template === 'hidden') entry.audience = [];
    } });
  assert.deepEqual(holds(made).logs[1].complete, [{ audience: `c:${Case}`, number: '3', position: '4' },
    { audience: `c:${Case}:duties`, number: '1', position: '3' }]);
  const text = inWords(made);
  assert.match(text, new RegExp(`no entry was left out of the 3 for c:${Case} up to entry 4,`));
  assert.match(text, /Not proved:.*that nothing was left out of consular after entry 4,/s);
});

test('entries that show no numbers prove nothing of what was left out', () => {
  const made = make(Sizes, {
    shown: (entry, e) => {
      if (e.service !== 'consular') return;
      entry.left = e.template === 'rotated';
      entry.audience = [];
    } });
  assert.deepEqual(holds(made).logs[1].complete, []);
  const text = inWords(made), log = text.slice(text.indexOf('Log consular'), text.indexOf('Log custody'));
  assert.doesNotMatch(log, /left out/);
  assert.match(text, /Not proved:.*that nothing was left out of consular, because none/s);
});

test('of a request nothing is said to be complete', () => {
  const made = make(Sizes, { head: h => { [h.case, h.requestId] = ['', 'consular-rotated']; } });
  const [said, not] = inWords(made).split('Not proved:');
  assert.doesNotMatch(said, /left out/);
  assert.match(not, /that nothing was left out, because the file is of one request/);
});

test("a privileged entry rests on the service's word", () => {
  const text = inWords(good);
  assert.match(text, /icrc .*: privileged, not shown: the service's word$/m);
  assert.doesNotMatch(text, /attested/);
  assert.match(text, /Not proved:.*that a neutral observer made an entry that is privileged/s);
});

test('numbers of another case are not counted', () => {
  const other = make(Sizes, { entry: of('request', e => { e.audiences = [`c:${Case}1`, `c:${Case}=x`]; }) });
  holds(other);
});

// ---- The command line

test('the command line tells what is proved, what is broken, and what it cannot read', () => {
  const folder = mkdtempSync(join(tmpdir(), 'evidence-')), path = name => join(folder, name);
  const run = (args, input) => spawnSync(process.execPath, [Verifier, ...args], { input, encoding: 'utf8', maxBuffer: 64 << 20 });
  try {
    writeFileSync(path('good'), file(good.lines));
    writeFileSync(path('agreement.json'), writeJson(good.first, 'Agreement'));
    writeFileSync(path('broken'), file(good.lines.filter((_, i) => i !== 4)));
    const said = run([path('good'), '--agreement', path('agreement.json')]);
    assert.equal(said.status, 0, said.stderr);
    assert.match(said.stdout, /Signed requests: aa\/mfa 8\..*It is the agreement that you gave/s);
    assert.match(run([path('good')]).stdout, new RegExp(good.digests[0].toString('hex')));
    assert.equal(run([path('good'), '--agreement', 'ab'.repeat(32)]).status, 1);
    assert.equal(run([path('good'), '--agreement', good.digests[0].toString('hex')]).status, 0);
    const broken = run([path('broken')]);
    assert.deepEqual([broken.status, broken.stdout], [1, '']);
    assert.match(broken.stderr, /^line 5: [^\n]+\n$/);
    assert.equal(JSON.parse(run([path('broken'), '--json']).stdout).line, 5);
    for (const args of [[], [path('none')], [path('good'), '--what'], [path('good'), '--agreement', path('good')]])
      assert.equal(run(args).status, 2);

    const framed = lines => {
      const bytes = file(lines), length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return Buffer.concat([length, bytes]);
    };
    const batch = run(['--batch'],
      Buffer.concat([framed(good.lines), framed([]), framed(good.lines.slice(1)), framed(good.lines)]));
    assert.equal(batch.status, 0, batch.stderr);
    assert.deepEqual(batch.stdout.trim().split('\n').map(l => JSON.parse(l)).map(r => (r.ok ? 0 : r.line)), [0, 1, 1, 0]);
    assert.equal(run(['--batch'], framed(good.lines).subarray(0, -1)).status, 2);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
