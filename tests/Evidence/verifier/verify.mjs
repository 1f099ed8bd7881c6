#!/usr/bin/env node
// Verifies an evidence file with nothing but Node's own modules (18 or later). It is written from protos/EVIDENCE.md and the
// .proto files alone, so that it shares no mistake with the verifier in services/Ministry; "section" and "step" are of that text.
//
//   node verify.mjs FILE [--agreement AGREEMENT.json | DIGEST] [--json]
//   node verify.mjs --batch [--agreement …]
//
// A batch comes from stdin: files, each after its length in 4 bytes (big-endian); each is answered with a line of JSON. Ends with
// 0 where the file holds (a batch: was read), 1 where it is broken, 2 where it cannot be read or the command line is wrong.

import { createHash, createPublicKey, verify as verifyEd25519 } from 'node:crypto';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';

const MaxLines = 100_000, MaxLine = 16 << 20, MaxNote = 64 << 10, MaxNoteSignatures = 64, MaxField = 1024;
const Format = 'ministries.evidence.v1';

// ---- Messages and enums, as the .proto files list them: number, JSON name, type; * is repeated.

const Enums = { PartKind: names('PART_KIND_', 'UNSPECIFIED REQUEST EVENTS ASKED CAUSE ANSWER SIGNATURE AUDIENCE'),
  SigningKeyUse: names('SIGNING_KEY_USE_', 'UNSPECIFIED REQUESTS APPROVALS EVENTS CHECKPOINTS COSIGNATURES AGREEMENTS'),
  ParticipantKind: names('PARTICIPANT_KIND_', 'UNSPECIFIED MINISTRY NEUTRAL_OBSERVER PROTECTING_POWER SERVICE OPERATOR'),
  Capacity: names('CAPACITY_', 'UNSPECIFIED CALLS CUSTODY CONSULAR'),
  Level: names('LEVEL_', 'UNSPECIFIED RESTRICTED CONFIDENTIAL SECRET'),
  AttesterRole: names('ATTESTER_ROLE_', 'UNSPECIFIED INTERVIEWER INTERPRETER OBSERVER GUARDIAN'),
  Part: names('PART_', 'UNSPECIFIED DETAINING_POWER REQUESTING_STATE NEUTRAL_OBSERVER PROTECTING_POWER TRANSFERRING_POWER ' +
      'MINISTRY SERVICE OPERATOR'
  )
};
export const Messages = messages(`
  EvidenceLine: 1 head EvidenceHead, 2 log EvidenceLog, 3 entry EvidenceEntry, 4 end EvidenceEnd
  EvidenceHead: 1 format string, 2 participant string, 3 trustDomain string, 4 case string, 5 requestId string,
    6 exportTime Timestamp
  EvidenceLog: 1 service string, 2 checkpoint string
  EvidenceEntry: 1 header bytes, 2 parts EntryPart*, 3 audience AudienceNumber*, 4 privileged bool, 5 proof bytes*,
    6 receipt Receipt, 7 consistency bytes*
  EvidenceEnd: 1 lines bytes*, 2 keyId string, 3 publicKey bytes, 4 signature bytes
  EntryPart: 1 kind PartKind, 2 salt bytes, 3 data bytes, 4 erased bool
  AudienceNumber: 1 audience string, 2 number uint64, 3 salt bytes
  Receipt: 1 service string, 2 position uint64, 3 commitTime Timestamp, 4 entryHash bytes, 5 treeSize uint64, 6 rootHash bytes,
    7 inclusionProof bytes*, 8 checkpoint string
  EntryHeader: 1 position uint64, 2 commitTime Timestamp, 3 participant string, 4 requestId string, 5 method string,
    6 agreementVersion uint64, 7 parts PartDigest*, 9 audience bytes*
  PartDigest: 1 kind PartKind, 2 digest bytes
  RequestSignature: 1 authority string, 2 contentType string, 3 contentDigest string, 4 signatureInput string, 5 signature string
  Events: 1 events Event*
  Event: 1 type string, 3 data bytes, 4 case string
  Answer: 1 response Any, 2 refusal StoredRefusal
  Any: 1 typeUrl string, 2 value bytes
  StoredRefusal: 1 reason string, 2 metadata MetadataEntry*, 3 faults FieldFault*
  MetadataEntry: 1 key string, 2 value string
  FieldFault: 1 field string, 2 description string
  Request: 1 requestId string, 4 approvals Approval*
  Approval: 1 official string, 2 office string, 3 keyId string, 4 signature bytes
  Agreement: 1 version uint64, 2 validFromTime Timestamp, 3 trustDomain string, 4 states State*, 5 participants Participant*,
    6 grants Grant*, 7 approvalDemands ApprovalDemand*, 8 attestersDemanded AttesterRole*, 9 statementValidityDays uint32,
    10 observerReportsTreatment bool, 11 confirmationHours uint32, 12 bureauNotificationHours uint32,
    13 accessDecisionDays uint32, 14 hostilities bool, 15 previousDigest bytes, 16 signatures AgreementSignature*,
    17 witnesses Witness*,
    18 cosignaturesDemanded uint32, 19 cosignatureSeconds uint32,
    20 centralTracingAgency string, 21 bureaux Bureau*
  Bureau: 1 state string, 2 participant string
  AgreementSignature: 1 participant string, 2 keyId string, 3 signature bytes
  Witness: 1 participant string, 2 address string
  State: 1 code string, 2 name string, 3 partyToGc3 bool, 4 neutral bool, 5 reservations uint32*, 6 partyToAp1 bool,
    7 partyToRefugeeConvention bool
  Participant: 1 id string, 2 name string, 3 kind ParticipantKind, 4 state string, 5 capacities Capacity*,
    6 authorityCertificates string*, 7 clearance Level, 8 systems string*, 9 deniedCertificates string*,
    10 signingKeys SigningKey*, 11 addresses string*, 12 officials string*, 13 sealingKeys SealingKey*
  SigningKey: 1 id string, 2 use SigningKeyUse, 3 publicKey bytes, 4 validFromTime Timestamp, 5 validUntilTime Timestamp,
    6 revokeTime Timestamp, 7 official string
  SealingKey: 1 id string, 2 publicKey bytes, 3 validFromTime Timestamp, 4 validUntilTime Timestamp, 5 revokeTime Timestamp
  Grant: 1 part Part, 2 methods string*
  ApprovalDemand: 1 method string, 2 officials uint32`);
const { REQUEST, EVENTS, ANSWER, SIGNATURE } = Enums.PartKind.value, Use = Enums.SigningKeyUse.value,
  Kind = Enums.ParticipantKind.value;

function names(prefix, list) {
  const short = list.split(' ');
  return { name: short.map(n => prefix + n), value: Object.fromEntries(short.map((n, i) => [n, i])) };
}

function messages(text) {
  const all = {};
  for (const [, name, list] of text.matchAll(/(\w+):\s((?:\s*\d+ \w+ \w+\*?,?)+)/g)) {
    const fields = [...list.matchAll(/(\d+) (\w+) (\w+)(\*?)/g)].map(([, number, field, type, star]) => ({ number: Number(number),
      name: field, type, repeated: star === '*'
    }));
    all[name] = {
      name, fields, byNumber: new Map(fields.map(f => [f.number, f])), byName: new Map(fields.map(f => [f.name, f])) };
  }
  return all;
}

const isMessage = type => type in Messages;
const defaultOf = ({ type, repeated }) => repeated ? [] : isMessage(type) || type === 'Timestamp' ? null : type === 'string' ? ''
  : type === 'bytes' ? Buffer.alloc(0) : type === 'bool' ? false : type === 'uint64' ? 0n : 0;
const isDefault = (type, value) =>
  type === 'bytes' ? value.length === 0 : type !== 'Timestamp' && ['', false, 0n, 0].includes(value);
const empty = schema => Object.fromEntries(schema.fields.map(f => [f.name, defaultOf(f)]));

/** Bytes or text that are not in the form in which they must be. */
export class Malformed extends Error {}
/** Where a file is broken, and what that means. */
class Break extends Error {
  constructor(line, meaning) {
    super(meaning);
    this.line = line;
  }
}
function malformed(why) {
  throw new Malformed(why);
}

// ---- Hashes and signatures (section 2)

const sha256 = (...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const base64 = bytes => bytes.toString('base64');
/** The bytes of a base64 text in its one canonical form; null: it is not in it. */
const fromBase64 = text => {
  const bytes = Buffer.from(text, 'base64');
  return base64(bytes) === text ? bytes : null;
};
const lines = (...texts) => Buffer.from(texts.map(t => `${t}\n`).join(''), 'utf8');
const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** A map that forgets what it knows when it is full: what a file repeats, and one file of a batch has in common with the next. */
class Memory {
  #known = new Map();
  get(key, make) {
    let value = this.#known.get(key);
    if (value === undefined) {
      if (this.#known.size === 20_000) this.#known.clear();
      this.#known.set(key, (value = make()));
    }
    return value;
  }
}
const keys = new Memory(), verdicts = new Memory(), agreements = new Memory(), readLines = new Memory();
const KeyPrefix = Buffer.from('302a300506032b6570032100', 'hex');

/** A number of 32 bytes, little-endian. */
const number = bytes => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
const Prime = (1n << 255n) - 19n, Order = (1n << 252n) + 27742317777372353535851937790883648493n;
const SmallOrder = ['26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'].map(hex => number(Buffer.from(hex, 'hex')))
  .concat(0n, 1n, Prime - 1n);

/** Whether the 32 bytes are a point as section 2 wants it: encoded canonically, and not of small order. */
function isPoint(bytes) {
  const y = number(bytes) & ((1n << 255n) - 1n);
  return y < Prime && !SmallOrder.includes(y);
}
const isKey = bytes => bytes.length === 32 && isPoint(bytes);

/** The one place at which signatures are verified: Ed25519 as section 2 says. */
export function verifies(publicKey, text, signature) {
  if (!isKey(publicKey) || signature.length !== 64 || !isPoint(signature.subarray(0, 32)) || number(signature.subarray(32)) >= Order)
    return false;
  const hex = publicKey.toString('hex');
  return verdicts.get(`${hex} ${signature.toString('hex')} ${sha256(text).toString('hex')}`, () => {
    try {
      const key = keys.get(hex, () => createPublicKey({ key: Buffer.concat([KeyPrefix, publicKey]), format: 'der', type: 'spki' })
      );
      return verifyEd25519(null, text, key, signature);
    } catch {
      return false;
    }
  });
}

const Leaf = Buffer.of(0), Node = Buffer.of(1);

/** The root to which an inclusion proof leads (RFC 9162, 2.1.3.2, the algorithm for RFC 6962, 2.1.1); null: it leads to none. */
function rootOf(record, position, size, proof) {
  if (position >= size) return null;
  let first = position, last = size - 1n, hash = sha256(Leaf, record);
  for (const sibling of proof) {
    if (sibling.length !== 32 || last === 0n) return null;
    if (first & 1n || first === last) {
      hash = sha256(Node, sibling, hash);
      while (!(first & 1n) && first !== 0n) {
        first >>= 1n;
        last >>= 1n;
      }
    } else {
      hash = sha256(Node, hash, sibling);
    }
    first >>= 1n;
    last >>= 1n;
  }
  return last === 0n ? hash : null;
}

/** Whether a consistency proof leads from one tree to another (RFC 9162, 2.1.4.2, the algorithm for RFC 6962, 2.1.2). */
function leadsTo(from, fromRoot, to, toRoot, proof) {
  if (from === 0n || from > to || proof.some(h => h.length !== 32)) return false;
  if (from === to) return proof.length === 0 && fromRoot.equals(toRoot);
  let first = from - 1n, last = to - 1n;
  for (; first & 1n; first >>= 1n) last >>= 1n;
  const [start, ...rest] = from & (from - 1n) ? proof : [fromRoot, ...proof];
  if (!start) return false;
  let earlier = start, later = start;
  for (const hash of rest) {
    if (last === 0n) return false;
    if (first & 1n || first === last) {
      earlier = sha256(Node, hash, earlier);
      later = sha256(Node, hash, later);
      while (!(first & 1n) && first !== 0n) {
        first >>= 1n;
        last >>= 1n;
      }
    } else {
      later = sha256(Node, later, hash);
    }
    first >>= 1n;
    last >>= 1n;
  }
  return last === 0n && earlier.equals(fromRoot) && later.equals(toRoot);
}

// ---- Times: nanoseconds since 1970 as BigInt

const Second = 1_000_000_000n, LastSecond = 253370764799n;
/** Whether it is a time as section 1 wants it: from 1970 to the end of 9998, in whole 100 ns. */
const isTime = time => time >= 0n && time < (LastSecond + 1n) * Second && time % 100n === 0n;

function timeText(time) {
  const nanos = ((time % Second) + Second) % Second, digits = String(nanos).padStart(9, '0');
  const fraction = nanos === 0n ? '' : `.${digits.replace(/(000){1,2}$/, '')}`;
  return `${new Date(Number((time - nanos) / 1_000_000n)).toISOString().slice(0, 19)}${fraction}Z`;
}

function timeOf(text) {
  const [, seconds, fraction = ''] =
    /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/.exec(text) ?? malformed(`${text} is no time`);
  const milliseconds = Date.parse(`${seconds}Z`);
  const time = BigInt(Number.isNaN(milliseconds) ? malformed(`${text} is no time`) : milliseconds) * 1_000_000n +
    BigInt(fraction.padEnd(9, '0'));
  if (!isTime(time) || new Date(milliseconds).toISOString().slice(0, 19) !== seconds) malformed(`${text} is no time`);
  return time;
}

const wasValid = (key, time) => time !== null && (key.validFromTime === null || key.validFromTime <= time) &&
  (key.validUntilTime === null || key.validUntilTime > time) && (key.revokeTime === null || key.revokeTime > time);

// ---- Protobuf's wire format

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
function decodeText(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    return malformed('text that is not UTF-8');
  }
}

/** The fields of a message as they stand in its bytes: number, wire type, value (BigInt, or bytes), and from where to where. */
function* wireFields(bytes, canonical) {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n, start = at; ; shift += 7n) {
      if (at >= bytes.length || at - start === 10) malformed('a number that does not end');
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (canonical && byte === 0 && at - start > 1) malformed('a number in more bytes than it needs');
        return value >> 64n ? malformed('a number of more than 64 bits') : value;
      }
    }
  };
  const take = length => length > BigInt(bytes.length - at) ? malformed('a field longer than what it is in')
    : bytes.subarray(at, (at += Number(length)));
  while (at < bytes.length) {
    const start = at, tag = varint(), number = tag >> 3n, wire = Number(tag & 7n);
    if (number === 0n || number > 536870911n) malformed('a field with a number that there is not');
    const value = wire === 0 ? varint() : wire === 1 ? take(8n) : wire === 2 ? take(varint()) : wire === 5 ? take(4n)
      : malformed('a field of a wire type that is not used');
    yield { number: Number(number), wire, value, start, end: at };
  }
}

const withoutField = (bytes, number) =>
  Buffer.concat([...wireFields(bytes, false)].filter(f => f.number !== number).map(f => bytes.subarray(f.start, f.end)));

/**
 * Reads a message from its canonical bytes, or else only from strict ones (section 1); `others`: fields that the schema does not
 * list may stand beside its own.
 */
export function readMessage(bytes, schema, canonical, others = false) {
  const message = empty(schema), given = new Set();
  let before = 0;
  for (const { number, wire, value } of wireFields(bytes, canonical)) {
    const field = schema.byNumber.get(number);
    const scalar = field && !isMessage(field.type) && !['string', 'bytes', 'Timestamp'].includes(field.type);
    const packed = scalar && field.repeated && wire === 2;
    if (!field && others) continue;
    if (!field || wire !== (scalar && !packed && !(canonical && field.repeated) ? 0 : 2))
      malformed(`${schema.name} has a field ${number} that is not known, or of another type`);
    // The outcomes of an answer are a choice.
    const name = schema === Messages.Answer ? 'outcome' : field.name;
    if (!field.repeated && given.has(name)) malformed(`${schema.name} has ${name} twice`);
    given.add(name);
    if (canonical && (number < before || (number === before && (!field.repeated || packed))))
      malformed(`${schema.name} has its field ${number} twice or out of order`);
    before = number;
    if (packed) {
      const items = packedNumbers(value, canonical);
      if (canonical && items.length === 0) malformed(`${schema.name}.${field.name} is there and empty`);
      message[field.name].push(...items.map(n => readNumber(n, field, canonical)));
      continue;
    }
    const item = scalar ? readNumber(value, field, canonical) : field.type === 'string' ? decodeText(value)
      : field.type === 'bytes' ? Buffer.from(value) : field.type === 'Timestamp' ? readTime(value, canonical)
      : readMessage(value, Messages[field.type], canonical);
    if (field.repeated) message[field.name].push(item);
    else if (canonical && isDefault(field.type, item))
      malformed(`${schema.name}.${field.name} has its default value and is there`);
    else message[field.name] = item;
  }
  return message;
}

function packedNumbers(bytes, canonical) {
  // A packed field is the values of fields without their tags: each gets one, so that one reader reads both.
  const items = [];
  for (let at = 0; at < bytes.length;) {
    let end = at;
    while (end < bytes.length && bytes[end] >= 0x80) end++;
    const [item] = wireFields(Buffer.concat([Buffer.of(8), bytes.subarray(at, end + 1)]), canonical);
    items.push(item.value);
    at = end + 1;
  }
  return items;
}

function readNumber(value, { type, name }, canonical) {
  if (type === 'bool') return value > 1n ? malformed(`${name} is no truth value`) : value === 1n;
  if (type === 'uint64') return value;
  if (value >> 32n) malformed(`${name} is too great`);
  const number = Number(value);
  return canonical && type in Enums && !Enums[type].name[number] ? malformed(`${name} has a value that is not known`) : number;
}

function readTime(bytes, canonical) {
  let seconds = 0n, nanos = 0n, before = 0;
  for (const { number, wire, value } of wireFields(bytes, canonical)) {
    if (canonical && (wire !== 0 || number > 2 || number <= before || value === 0n))
      malformed('a time that is not in its one form');
    before = number;
    if (wire !== 0) continue;
    if (number === 1) seconds = BigInt.asIntN(64, value);
    else if (number === 2) nanos = BigInt.asIntN(64, value);
  }
  const time = seconds * Second + nanos;
  return nanos < 0n || nanos >= Second || !isTime(time) ? malformed('a time that there is not') : time;
}

const varintBytes = value => {
  const bytes = [];
  for (let rest = BigInt.asUintN(64, value); ; rest >>= 7n) {
    if (rest < 0x80n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
};

/** The canonical bytes of a message. */
export function writeMessage(message, type) {
  const parts = [], field = (number, wire, bytes) =>
      parts.push(varintBytes(BigInt((number << 3) | wire)), ...(wire === 2 ? [varintBytes(BigInt(bytes.length))] : []), bytes);
  for (const { number, name, type: of, repeated } of Messages[type].fields) {
    const value = message[name] ?? null;
    const write = item => of === 'string' ? Buffer.from(item, 'utf8') : of === 'bytes' ? item : of === 'Timestamp'
            ? writeTime(item) : isMessage(of) ? writeMessage(item, of) : varintBytes(BigInt(item));
    const wire = ['string', 'bytes', 'Timestamp'].includes(of) || isMessage(of) ? 2 : 0;
    if (repeated && wire === 0 && value?.length) field(number, 2, Buffer.concat(value.map(write)));
    else if (repeated && wire === 2) for (const item of value ?? []) field(number, 2, write(item));
    else if (!repeated && value !== null && !isDefault(of, value)) field(number, wire, write(value));
  }
  return Buffer.concat(parts);
}

function writeTime(time) {
  const nanos = ((time % Second) + Second) % Second, seconds = (time - nanos) / Second, none = Buffer.alloc(0);
  return Buffer.concat([seconds ? Buffer.concat([Buffer.of(8), varintBytes(seconds)]) : none,
    nanos ? Buffer.concat([Buffer.of(16), varintBytes(nanos)]) : none]);
}

// ---- The JSON mapping

const quoted = text => `"${text.replace(/["\\\u0000-\u001f]/g, c =>
    c === '\n' ? '\\n' : c === '"' || c === '\\' ? `\\${c}` : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)}"`;

/** The canonical form of a message (section 1). */
export function writeJson(message, type) {
  const item = (value, of) => of === 'string' ? quoted(value) : of === 'bytes' ? `"${base64(value)}"` : of === 'bool' ? 'true'
    : of === 'uint64' ? `"${value}"` : of === 'Timestamp' ? `"${timeText(value)}"` : of in Enums
                ? `"${Enums[of].name[value]}"` : isMessage(of) ? writeJson(value, of) : String(value);
  return `{${Messages[type].fields.filter(f =>
      f.repeated ? message[f.name]?.length : (message[f.name] ?? null) !== null && !isDefault(f.type, message[f.name])).map(
      f => `"${f.name}":${f.repeated ? `[${message[f.name].map(v => item(v, f.type)).join()}]` : item(message[f.name], f.type)}`)
    .join()}}`;
}

/** Reads a message from JSON as the protobuf JSON mapping reads it. */
function readJson(value, type) {
  const schema = Messages[type], message = empty(schema);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) malformed(`${type} is no object`);
  for (const [key, given] of Object.entries(value)) {
    const name = key.replace(/_([a-z0-9])/g, (_, c) => c.toUpperCase());
    const field = schema.byName.get(key) ?? schema.byName.get(name) ?? malformed(`${type} has no field ${plain(key)}`);
    if (given === null) continue;
    if (field.repeated && !Array.isArray(given)) malformed(`${field.name} is no list`);
    message[field.name] = field.repeated ? given.map(item => readJsonItem(item, field)) : readJsonItem(given, field);
  }
  return message;
}

function readJsonItem(value, { type, name }) {
  // Half a character has no UTF-8.
  const text = () => typeof value === 'string' && !/[\ud800-\udfff]/u.test(value) ? value : malformed(`${name} is no text`);
  if (isMessage(type)) return readJson(value, type);
  if (type === 'string') return text();
  if (type === 'bytes')
    return /^[A-Za-z0-9+/_-]*={0,2}$/.test(text()) ? Buffer.from(value, 'base64') : malformed(`${name} is no base64`);
  if (type === 'Timestamp') return timeOf(text());
  if (type === 'bool') return typeof value === 'boolean' ? value : malformed(`${name} is no truth value`);
  if (type in Enums && typeof value === 'string') {
    const number = Enums[type].name.indexOf(value);
    return number >= 0 ? number : malformed(`${name} has the value ${plain(value)}, which is not known`);
  }
  if (!/^\d{1,20}$/.test(String(value)) || BigInt(value) >> (type === 'uint64' ? 64n : 32n))
    malformed(`${name} is no number in its range`);
  return type === 'uint64' ? BigInt(value) : Number(value);
}

const plain = text => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, '�')
    .slice(0, 200);

// ---- Step 1: the form of each line by itself

function readForm(bytes) {
  const found = [];
  for (let at = 0, number = 1; at < bytes.length || number === 1; number++) {
    if (number > MaxLines) throw new Break(number, `the file has more than ${MaxLines} lines`);
    const end = bytes.indexOf(10, at);
    if (end < 0) throw new Break(number, bytes.length === 0 ? 'the file is empty' : 'the file is cut off: the line does not end');
    if (end - at > MaxLine) throw new Break(number, 'the line is longer than 16 MiB');
    if (found.at(-1)?.end) throw new Break(number, 'it stands after the end of the file: it was put in or moved');
    const text = bytes.subarray(at, end), hash = sha256(text);
    const line = readLines.get(hash.toString('hex'), () => {
      try {
        return readLine(text, hash);
      } catch (e) {
        return e instanceof Malformed ? e : rethrow(e);
      }
    });
    if (line instanceof Malformed) throw new Break(number, `it is not in the form of a line: ${line.message}`);
    found.push(line);
    at = end + 1;
  }
  if (!found.at(-1).end)
    throw new Break(found.length, 'it is the last line and not the end that the exporter signed: lines were removed');
  return found;
}

function rethrow(error) {
  throw error;
}

/** One line: its hash, its kind, and under that name its message. */
function readLine(bytes, hash) {
  const text = decodeText(bytes);
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    malformed('it is no JSON');
  }
  const line = readJson(value, 'EvidenceLine');
  if (writeJson(line, 'EvidenceLine') !== text) malformed('it is not written in the one canonical form');
  const kinds = ['head', 'log', 'entry', 'end'].filter(k => line[k] !== null);
  if (kinds.length !== 1) malformed('it is not exactly one of head, log, entry and end');
  const { head, entry } = line;
  if (head) {
    if (head.format !== Format) malformed(`its format is not ${Format}`);
    if ((head.case === '') === (head.requestId === '')) malformed('it names not exactly one of a case and a request');
    if (head.exportTime === null) malformed('it does not say when it was exported');
  }
  const header = entry && readMessage(entry.header, Messages.EntryHeader, true);
  if (header && header.commitTime === null) malformed("the entry's header has no commit time");
  if (header && new Set(header.parts.map(p => p.kind)).size !== header.parts.length)
    malformed("the entry's header names a part twice");
  return { ...line, kind: kinds[0], hash, header, record: entry && sha256(entry.header) };
}

// ---- Step 2: the file as its exporter signed it

function findChange(found) {
  const { end } = found.at(-1), last = found.length;
  if (!verifies(end.publicKey, lines(Format, end.keyId, base64(sha256(...end.lines))), end.signature))
    return new Break(last, "the exporter's signature over the file does not verify: its end was changed, or is another file's");
  const listed = end.lines.map(h => h.toString('hex')), here = found.slice(0, -1).map(l => l.hash.toString('hex'));
  for (let i = 0; i < Math.min(listed.length, here.length); i++) {
    if (listed[i] === here[i]) continue;
    return new Break(i + 1, !listed.includes(here[i]) ? 'it was changed or put in after the exporter signed the file'
      : !here.includes(listed[i]) ? 'a line before it was removed after the exporter signed the file'
      : 'it was moved or repeated after the exporter signed the file'
    );
  }
  if (here.length > listed.length) return new Break(listed.length + 1, 'it was put in after the exporter signed the file');
  if (here.length < listed.length) return new Break(last, 'lines before it were removed after the exporter signed the file');
  return null;
}

// ---- Step 3: the order of the lines

function readOrder(found) {
  const logs = [];
  found.forEach((line, index) => {
    const number = index + 1, before = found[index - 1]?.kind, log = logs.at(-1), previous = log?.entries.at(-1);
    const stands = line.kind === 'head' ? index === 0 : line.kind === 'log' ? before === 'head' || before === 'entry'
      : line.kind === 'entry' ? before === 'log' || before === 'entry' : before === 'entry';
    if (!stands)
      throw new Break(number, `a line of the kind ${line.kind} does not belong here: lines were removed, put in or moved`);
    if (line.kind === 'log') {
      if (log && Buffer.compare(Buffer.from(log.service), Buffer.from(line.log.service)) >= 0)
        throw new Break(number, 'the logs are not in the order of their names, or one is there twice');
      logs.push({ ...line.log, line: number, entries: [] });
    } else if (line.kind === 'entry') {
      if (previous && line.header.position <= previous.header.position)
        throw new Break(number,
          `position ${line.header.position} stands after position ${previous.header.position} of the same log`);
      log.entries.push({ ...line.entry, header: line.header, record: line.record, line: number });
    }
  });
  return { head: found[0].head, logs, end: found.at(-1).end, last: found.length };
}

// ---- Step 4: key history (section 4)

const OwnAffairs = new Set(['authorityCertificates', 'systems', 'deniedCertificates', 'signingKeys', 'sealingKeys',
  'capacities', 'clearance', 'officials']);
const Frame = new Set(['version', 'validFromTime', 'previousDigest', 'signatures', 'participants']);
const signs = participant => [Kind.MINISTRY, Kind.NEUTRAL_OBSERVER, Kind.PROTECTING_POWER].includes(participant?.kind);

/** A version of the agreement, ready to be asked. */
export function readAgreement(bytes) {
  return agreements.get(sha256(bytes).toString('hex'), () => {
    try {
      const agreement = readMessage(bytes, Messages.Agreement, true), all = agreement.participants;
      const participants = new Map(all.map(p => [p.id, p]));
      const keyList = all.flatMap(p => p.signingKeys.map(key => [key.id, { key, owner: p.id }])), keysById = new Map(keyList);
      const distinct = list => new Set(list).size === list.length;
      if (participants.size !== all.length || keysById.size !== keyList.length || !distinct(agreement.states.map(s => s.code)) ||
        !distinct(agreement.approvalDemands.map(d => d.method)))
        malformed('a participant, a key, a state or a demand is there twice');
      const sealing = all.flatMap(p => p.sealingKeys);
      if (!distinct(sealing.map(k => k.id))) malformed('a key for sealing is there twice');
      if (!distinct([...keyList.map(([, { key }]) => key), ...sealing].map(k => k.publicKey.toString('hex'))))
        malformed('a public key is listed twice');
      if (!/^[a-z0-9.-]{1,64}$/.test(agreement.trustDomain)) malformed('its trust domain is not of the form of one');
      if (!distinct(agreement.bureaux.map(b => b.state))) malformed('a state has two bureaux');
      for (const { code, reservations } of agreement.states)
        if (reservations.length > 64 || !reservations.every(a => a >= 1 && a <= 143) || !distinct(reservations))
          malformed(`the reservations of ${code} are not numbers of articles, too many, or one is there twice`);
      for (const { id, signingKeys, officials } of all) {
        if (!/^[a-z0-9._/-]{1,64}$/.test(id)) malformed("a participant's id is not of the form of one");
        if (!officials.every(o => /^[A-Za-z0-9._/-]{1,64}$/.test(o)) || !distinct(officials))
          malformed(`a code of an official of ${id} is not of the form of one, or there twice`);
        for (const key of signingKeys) {
          if (!/^[!#-[\]-~]{1,128}$/.test(key.id)) malformed(`a key's id of ${id} is not of the form of one`);
          if (!isKey(key.publicKey)) malformed(`${key.id} is no public key of Ed25519, or of small order`);
        }
      }
      for (const participant of all) checkSealingKeys(participant);
      return { ...agreement, all, participants, keys: keysById, bytes, digest: sha256(withoutField(bytes, 16)),
        signers: all.filter(signs).map(p => p.id) };
    } catch (e) {
      return e instanceof Malformed ? e : rethrow(e);
    }
  });
}

function checkSealingKeys({ id, kind, sealingKeys }) {
  if (sealingKeys.length && (!signs({ kind }) || sealingKeys.length > 64)) malformed(`${id} has no keys for sealing, or has too many`);
  for (const key of sealingKeys) {
    if (!/^[A-Za-z0-9._/-]{1,64}$/.test(key.id)) malformed(`the id of a key for sealing of ${id} is not of the form of one`);
    if (!isSealingKey(key.publicKey)) malformed(`${key.id} is no public key of X-Wing`);
    if (key.validUntilTime != null && key.validFromTime != null && key.validUntilTime <= key.validFromTime)
      malformed(`${key.id} ends before it begins`);
  }
}

function isSealingKey(bytes) {
  if (bytes.length !== 1216) return false;
  for (let i = 0; i < 1152; i += 3)
    if ((bytes[i] | (bytes[i + 1] & 15) << 8) >= 3329 || (bytes[i + 1] >> 4 | bytes[i + 2] << 4) >= 3329) return false;
  return true;
}

function keyOf(version, participant, id, use) {
  const found = version?.keys.get(id);
  return found?.owner === participant && found.key.use === use ? found.key : null;
}

function readHistory(log, known) {
  const versions = new Map();
  log.recordTimes = new Map();
  let previous = null;
  if (log.entries[0].header.method !== 'agreement')
    throw new Break(log.entries[0].line,
      'the log does not begin with a version of the agreement: nothing says whose keys are whose'
    );
  for (const entry of log.entries.filter(e => e.header.method === 'agreement')) {
    const wrong = why => { throw new Break(entry.line, `this version of the agreement does not hold: ${why}`); };
    const part = entry.parts.find(p => p.kind === REQUEST);
    if (entry.header.participant !== `service/${log.service}`)
      wrong(`it is not the service's own entry but ${plain(entry.header.participant)}'s`);
    if (!part || part.erased) wrong('it is not shown');
    const version = readAgreement(part.data);
    if (version instanceof Malformed) wrong(`it is not in canonical bytes: ${version.message}`);
    checkVersion(previous, version, entry.header.commitTime, wrong);
    const other = known.get(version.version);
    if (other && !other.digest.equals(version.digest)) wrong(`another log of the file holds another version ${version.version}`);
    known.set(version.version, version);
    versions.set(version.version, version);
    log.recordTimes.set(version.version, entry.header.commitTime);
    entry.version = previous = version;
  }
  return versions;
}

/** That a version follows from the one before (null: it is the first) and is signed by those whom it affects. */
export function checkVersion(previous, next, time, wrong) {
  if (previous && next.version !== previous.version + 1n) wrong(`version ${next.version} follows version ${previous.version}`);
  if (previous ? !next.previousDigest.equals(previous.digest) : (next.version === 1n) !== (next.previousDigest.length === 0))
    wrong("the digest of the preceding version that it names is not that version's");
  if (previous && (next.validFromTime ?? 0n) < (previous.validFromTime ?? 0n))
    wrong('it holds from an earlier time than the version before');
  for (const participant of next.all.filter(signs)) {
    if (isDeepStrictEqual(previous?.participants.get(participant.id), participant)) continue;
    if (!participant.signingKeys.some(k => k.use === Use.AGREEMENTS && wasValid(k, time)))
      wrong(`${plain(participant.id)} has no key for agreements that is valid`);
  }
  const text = lines('ministries.agreement.v1', next.trustDomain, next.version, base64(next.previousDigest), base64(next.digest));
  const signed = new Set();
  for (const { participant, keyId, signature } of next.signatures) {
    const listed = version =>
      signs(version?.participants.get(participant)) ? keyOf(version, participant, keyId, Use.AGREEMENTS) : null;
    const old = listed(previous),
      key = old ?? listed(next) ?? wrong(`a signature names a key that is no key for agreements of ${plain(participant)}`);
    if (!verifies(key.publicKey, text, signature)) wrong(`the signature of ${plain(participant)} over it does not verify`);
    if ((old || !signs(previous?.participants.get(participant))) && wasValid(key, time)) signed.add(participant);
  }
  const missing = [...neededFor(previous, next, signed)].filter(p => !signed.has(p));
  if (missing.length) wrong(`it is not signed by ${missing.map(plain).join(', ')}, whom its changes affect`);
}

function neededFor(previous, next, signed) {
  if (!previous) return new Set(next.signers);
  const everybody = previous.signers, needed = new Set(next.signers.filter(p => !everybody.includes(p)));
  let all = isDeepStrictEqual(previous.all, next.all) || !isDeepStrictEqual(previous.all.map(p => p.id), next.all.map(p => p.id));
  if (Messages.Agreement.fields.some(f => !Frame.has(f.name) && !isDeepStrictEqual(previous[f.name], next[f.name]))) all = true;
  for (const after of next.all) {
    const before = previous.participants.get(after.id);
    if (!before || isDeepStrictEqual(before, after)) continue;
    const changed = Messages.Participant.fields.map(f => f.name).filter(name => !isDeepStrictEqual(before[name], after[name]));
    if (!signs(before) || !signs(after) || changed.some(name => !OwnAffairs.has(name)) ||
      after.capacities.some(c => !before.capacities.includes(c)) || after.clearance > before.clearance) {
      all = true;
      continue;
    }
    const others = everybody.filter(p => p !== after.id);
    const replaced = changed.length === 1 && changed[0] === 'signingKeys' && onlyKeysForAgreements(before, after);
    if (!(replaced && others.length >= 2 && others.every(p => signed.has(p)))) needed.add(after.id);
  }
  return all ? new Set([...needed, ...everybody]) : needed;
}

function onlyKeysForAgreements(before, after) {
  const byId = participant => new Map(participant.signingKeys.map(k => [k.id, k])), old = byId(before), now = byId(after);
  const changed = [...new Set([...old.keys(), ...now.keys()])].filter(id => !isDeepStrictEqual(old.get(id), now.get(id)));
  return changed.length > 0 && changed.every(id => [old.get(id), now.get(id)].every(k => !k || k.use === Use.AGREEMENTS));
}

// ---- Step 5: logs and entries (section 5)

// Printable ASCII without the plus sign.
const KeyName = '[!-*,-~]{1,256}';

/** Reads a signed note with a checkpoint (section 2). */
function readCheckpoint(note) {
  const end = note.lastIndexOf('\n\n');
  if (end < 0 || note.length > MaxNote || !note.endsWith('\n')) malformed('it is no signed note');
  const text = note.slice(0, end + 1), parts = text.split('\n');
  const [origin, size, root] = parts;
  if (parts.length !== 4 || !new RegExp(`^${KeyName}$`).test(origin) || !/^(0|[1-9]\d{0,19})$/.test(size) || BigInt(size) >> 64n || fromBase64(root)?.length !== 32)
    malformed('its text is not an origin, a size and a root');
  const signatures = note.slice(end + 2, -1).split('\n').map(line => {
      const [, name, encoded] =
        new RegExp(`^— (${KeyName}) ([A-Za-z0-9+/=]+)$`).exec(line) ?? malformed('it has a line that is no signature');
      const bytes = fromBase64(encoded);
      return bytes?.length > 4 ? { name, id: bytes.subarray(0, 4), bytes: bytes.subarray(4) }
        : malformed('it has a line that is no signature');
    });
  if (signatures.length > MaxNoteSignatures) malformed('it has too many signatures');
  return { origin, size: BigInt(size), root: fromBase64(root), text, signatures };
}

/** The keys with a use, each as the greatest version that lists it has it; one that a later version leaves out is revoked by that. */
function listedKeys({ versions, recordTimes }, use, type, nameOf) {
  const found = new Map();
  for (const version of [...versions.values()].reverse()) {
    const followed = recordTimes.get(version.version + 1n);
    for (const { key, owner } of version.keys.values()) {
      const name = key.use === use ? nameOf(version, owner) : null;
      const known = `${name} ${key.publicKey.toString('hex')}`;
      if (name === null || found.has(known)) continue;
      const revokeTime = earliest(key.revokeTime, followed ?? null);
      found.set(known, { name, owner, key: { ...key, revokeTime },
        id: sha256(name, '\n', Buffer.of(type), key.publicKey).subarray(0, 4) });
    }
  }
  return [...found.values()];
}

const earliest = (one, other) => one === null || (other !== null && other < one) ? other : one;

/**
 * Judges the signatures on a checkpoint of a log (section 5, "A checkpoint"); answers it with who cosigned it, and with why it does
 * not count (null: it counts). `covers`: the latest commit time of an entry that is in its tree.
 */
export function judgeCheckpoint(note, log, covers) {
  const checkpoint = readCheckpoint(note), versions = [...log.versions.values()], { service } = log;
  if (!versions.some(v => checkpoint.origin === `${v.trustDomain}/${service}`)) malformed('it is of another log');
  const own = listedKeys(log, Use.CHECKPOINTS, 1, ({ trustDomain }, owner) => owner === `service/${service}` ? `${trustDomain}/${service}` : null);
  const theirs = listedKeys(log, Use.COSIGNATURES, 4, ({ trustDomain, participants }, owner) =>
    [Kind.SERVICE, Kind.OPERATOR].includes(participants.get(owner).kind) ? null : `${trustDomain}/witness/${owner}`);
  const by = [], cosignatures = [];
  for (const { name, id, bytes } of checkpoint.signatures) {
    const names = key => key.name === name && key.id.equals(id);
    for (const key of own.filter(names)) {
      if (name !== checkpoint.origin || !verifies(key.key.publicKey, Buffer.from(checkpoint.text), bytes)) malformed("the service's signature on it does not verify");
      by.push(key.key);
    }
    for (const { owner, key } of theirs.filter(names)) {
      const time = bytes.length === 72 ? bytes.readBigUInt64BE(0) : null;
      if (time === null || time < 1n || time > LastSecond ||
        !verifies(key.publicKey, Buffer.from(`cosignature/v1\ntime ${time}\n${checkpoint.text}`), bytes.subarray(8)))
        malformed(`the cosignature of ${plain(owner)} does not verify`);
      if (wasValid(key, time * Second)) cosignatures.push({ owner, key, time });
    }
  }
  if (!by.length) malformed('no key that the agreement lists for the service signed it');
  const demanded = Math.max(1, versions.at(-1).cosignaturesDemanded);
  // Whoever stole a key says what time he likes: only others date what it signed.
  const dates = new Map();
  for (const { owner, key, time } of cosignatures)
    if (key.revokeTime === null) dates.set(owner, earliest(dates.get(owner) ?? null, time * Second));
  const isDated = end => [...dates.values()].filter(d => d < end).length >= demanded;
  const wrongOf = key => {
    const over = earliest(key.revokeTime, key.validUntilTime);
    if (over !== null && covers >= over) return 'it has an entry of a time at which its key was no longer valid';
    return key.revokeTime === null || isDated(key.revokeTime) ? null
      : 'its key was revoked, and nothing shows that it signed this before';
  };
  const wrongs = by.map(wrongOf), cosigned = new Map();
  for (const { owner, key, time } of cosignatures)
    if (key.revokeTime === null || isDated(key.revokeTime)) cosigned.set(owner, earliest(cosigned.get(owner) ?? null, time));
  return { ...checkpoint, cosigned, wrong: wrongs.includes(null) ? null : wrongs[0] };
}

function judgeLog(log, head) {
  try {
    const latest = log.entries.map(e => e.header.commitTime).reduce((a, b) => (a > b ? a : b));
    log.judged = judgeCheckpoint(log.checkpoint, log, latest);
    if (log.judged.wrong) malformed(log.judged.wrong);
  } catch (e) {
    throw e instanceof Malformed ? new Break(log.line, `the checkpoint of ${plain(log.service)} does not hold: ${e.message}`) : e;
  }
  const recorded = new Map(), numbers = log.numbers = new Map();
  for (const entry of log.entries) {
    try {
      judgeEntry(entry, log, head, recorded, numbers);
    } catch (e) {
      throw e instanceof Malformed
        ? new Break(entry.line, `entry ${entry.header.position} of ${plain(log.service)}: ${e.message}`) : e;
    }
  }
}

/**
 * The rules of section 5 for an entry, in their order; `recorded`: the versions so far; `numbers`: the last of each audience, and
 * where it is.
 */
function judgeEntry(entry, log, head, recorded, numbers) {
  const { header, parts, receipt } = entry;
  const root = rootOf(entry.record, header.position, log.judged.size, entry.proof);
  if (!root?.equals(log.judged.root))
    malformed("its proof does not lead to the log's checkpoint: it is not what the log holds there");

  if (entry.version) recorded.set(entry.version.version, entry.version);
  const version =
    entry.version?.version === header.agreementVersion || !entry.version ? recorded.get(header.agreementVersion) : null;
  if (!version)
    malformed(`it was judged by version ${header.agreementVersion} of the agreement, which no entry before it records`);

  const followed = log.recordTimes.get(header.agreementVersion + 1n);
  if (followed !== undefined && header.commitTime > followed + 60n * Second)
    malformed(`it was judged by version ${header.agreementVersion} of the agreement, which another had followed by then`);

  let next = 0;
  for (const part of parts) {
    const place = header.parts.findIndex((p, i) => i >= next && p.kind === part.kind);
    if (place < 0) malformed(`its header does not name the part ${Enums.PartKind.name[part.kind]} there`);
    next = place + 1;
    if (part.erased ? part.kind !== REQUEST || part.salt.length || part.data.length
      : part.salt.length !== 32 || !sha256(part.salt, part.data).equals(header.parts[place].digest))
      malformed(`its part ${Enums.PartKind.name[part.kind]} is not what the header's digest names`);
  }
  const partOf = kind => parts.find(p => p.kind === kind), names = kind => header.parts.some(p => p.kind === kind);
  const request = partOf(REQUEST), signature = partOf(SIGNATURE);

  if (entry.privileged) {
    if (version.participants.get(header.participant)?.kind !== Kind.NEUTRAL_OBSERVER || parts.length || receipt)
      malformed("only a neutral observer's entry is privileged, and then no part of it and no receipt is shown");
  } else if (!partOf(EVENTS)) malformed('its events are not shown');
  if (names(REQUEST) && names(SIGNATURE) && !request !== !signature)
    malformed('its request and its signature are not shown together');

  next = 0;
  for (const number of entry.audience) {
    const commitment = sha256(writeMessage(number, 'AudienceNumber'));
    next = header.audience.findIndex((c, i) => i >= next && c.equals(commitment)) + 1;
    if (next === 0) malformed(`its number in the audience ${plain(number.audience)} is not what its header commits to`);
    const rest = head.case && number.audience.startsWith(`c:${head.case}`) ? number.audience.slice(head.case.length + 2) : null;
    if (rest === null || !['', ':', '='].includes(rest.slice(0, 1))) continue;
    const expected = (numbers.get(number.audience)?.number ?? 0n) + 1n;
    if (number.number !== expected)
      malformed(
        `it has the number ${number.number} in the audience ${plain(number.audience)} where ${expected} is next: ` +
          'an entry was left out'
      );
    numbers.set(number.audience, { number: expected, position: header.position });
  }

  const isService = header.participant.startsWith('service/');
  if (names(SIGNATURE) === isService)
    malformed(isService ? "a service's own entry names a signature" : 'its request was not signed');
  entry.state = entry.privileged ? 'privileged' : isService ? 'service' : !request ? 'hidden' : request.erased
          ? 'erased' : 'signed';
  entry.approvals = [];
  if (entry.state === 'signed') {
    judgeRequest(header, request.data, readMessage(signature.data, Messages.RequestSignature, false), version, log.service);
    entry.approvals = judgeApprovals(header, request.data, version, log.service);
  }
  if (receipt) judgeReceipt(receipt, entry, log);
  else if (entry.consistency.length) malformed('it has a consistency proof and no receipt');
  const dataOf = kind => (partOf(kind) && !partOf(kind).erased ? partOf(kind).data : Buffer.alloc(0));
  readMessage(dataOf(ANSWER), Messages.Answer, false);
  const { events } = readMessage(dataOf(EVENTS), Messages.Events, false);
  const other = head.case && events.find(e => !['', head.case].includes(e.case));
  if (other) malformed(`it is of case ${plain(other.case)}, which is not the file's`);
}

const Seconds = '([1-9]\\d{0,11})', Text = '"([ !#-[\\]-~]*)"';
const SignatureInput = new RegExp('^sig1=(\\("@method" "@path" "@authority" "content-type" "content-digest"\\)' +
  `;created=${Seconds};expires=${Seconds};keyid=${Text};nonce=${Text};tag=${Text})$`);
const ContentTypes = ['application/grpc', 'application/grpc+proto'];

/** A request's signature (RFC 9421) as section 5 says. */
export function judgeRequest(header, request, given, version, service) {
  const unreadable = () => malformed("its signature's fields are not in their form");
  const [, parameters, created, expires, keyid, nonce, tag] = SignatureInput.exec(given.signatureInput) ?? unreadable();
  const [, encoded] = /^sig1=:([A-Za-z0-9+/]{86}==):$/.exec(given.signature) ?? unreadable(), bytes = fromBase64(encoded);
  if (!bytes || given.signatureInput.length > MaxField || [created, expires].some(t => BigInt(t) > LastSecond) ||
    !ContentTypes.includes(given.contentType) || !/^[a-z0-9._:[\]-]{1,255}$/.test(given.authority)) unreadable();
  const wrong = why => malformed(`the signature of ${plain(header.participant)} does not hold: ${why}`);
  if (tag !== `ministries/${version.trustDomain}/${service}`) wrong('it is for another application or service');
  if (nonce !== header.requestId || readRequest(request).requestId !== nonce)
    wrong('it is of another request id');
  const length = Buffer.alloc(5);
  length.writeUInt32BE(request.length, 1);
  if (given.contentDigest !== `sha-256=:${base64(sha256(length, request))}:`) wrong('it is over another request');
  const key =
    keyOf(version, header.participant, keyid, Use.REQUESTS) ?? wrong(`${plain(keyid)} is no key of the participant for requests`);
  const commit = header.commitTime, from = BigInt(created) * Second, until = BigInt(expires) * Second;
  if (!wasValid(key, from) || !wasValid(key, commit)) wrong(`its key ${plain(keyid)} was not valid then`);
  if (from > commit + 30n * Second || until <= from || until - from > 300n * Second || until < commit - 60n * Second)
    wrong('it was made at another time than the entry');
  const addresses = version.participants.get(`service/${service}`)?.addresses ?? [];
  if (addresses.length && !addresses.includes(given.authority)) wrong('it is addressed to another service');
  const base =
    `"@method": POST\n"@path": /${header.method}\n"@authority": ${given.authority}\n"content-type": ${given.contentType}\n` +
    `"content-digest": ${given.contentDigest}\n"@signature-params": ${parameters}`;
  if (!verifies(key.publicKey, Buffer.from(base), bytes)) wrong('it does not verify');
}

/** What every request has; the other fields are of its own type. */
const readRequest = bytes => readMessage(bytes, Messages.Request, false, true);

export function judgeApprovals(header, request, version, service) {
  const digest = base64(sha256(withoutField(request, 4)));
  return readRequest(request).approvals.map(({ official, office, keyId, signature }) => {
    const wrong = why => malformed(`the approval of ${plain(official)} does not hold: ${why}`);
    const key = keyOf(version, header.participant, keyId, Use.APPROVALS);
    if (key?.official !== official) wrong(`${plain(keyId)} is no key of this official for approvals`);
    if (!wasValid(key, header.commitTime)) wrong(`its key ${plain(keyId)} was not valid then`);
    const text = lines('ministries.approval.v1', header.participant, `${version.trustDomain}/${service}`, header.method, digest, official, office);
    return verifies(key.publicKey, text, signature) ? `${official} (${office})` : wrong('it is not over this request');
  });
}

function judgeReceipt(receipt, entry, log) {
  const wrong = why => malformed(`its receipt does not hold: ${why}`), { header, consistency } = entry;
  if (receipt.service !== log.service || receipt.position !== header.position || receipt.commitTime !== header.commitTime)
    wrong('it is of another entry');
  if (!receipt.entryHash.equals(entry.record)) wrong('the service gave it for other content');
  if (!rootOf(entry.record, header.position, receipt.treeSize, receipt.inclusionProof)?.equals(receipt.rootHash))
    wrong('its proof does not lead to its root');
  let checkpoint;
  try {
    checkpoint = judgeCheckpoint(receipt.checkpoint, log, header.commitTime);
  } catch (e) {
    return e instanceof Malformed ? wrong(`its checkpoint: ${e.message}`) : rethrow(e);
  }
  if (checkpoint.size !== receipt.treeSize || !checkpoint.root.equals(receipt.rootHash))
    wrong('its checkpoint is of another tree');
  // A prefix of what the log has signed is the log's, whoever signed it first.
  if ((consistency.length || checkpoint.wrong) &&
    !leadsTo(checkpoint.size, checkpoint.root, log.judged.size, log.judged.root, consistency))
    wrong(consistency.length ? 'it is of no tree that the log goes on from' : checkpoint.wrong);
}

// ---- All steps from 4 on, and what is proved

/** Steps 4 to 7; answers the versions of the agreement by their numbers. */
function judge({ head, logs, end, last }, agreement) {
  const known = new Map();
  for (const log of logs) log.versions = readHistory(log, known);
  for (const log of logs) judgeLog(log, head);
  const greatest = [...known.values()].reduce((a, b) => (a.version > b.version ? a : b));
  const key = keyOf(greatest, head.participant, end.keyId, Use.REQUESTS);
  if (!key?.publicKey.equals(end.publicKey))
    throw new Break(last,
      `the key that signed the file is no key of ${plain(head.participant)} for requests: somebody else made it`);
  if (!wasValid(key, head.exportTime)) throw new Break(last, 'the key that signed the file was not valid when it was exported');
  if (head.trustDomain !== greatest.trustDomain) throw new Break(1, 'the file names another trust domain than the agreement');
  const isMeant = ({ header }) => header.participant === head.participant && header.requestId === head.requestId;
  if (head.requestId && !logs.some(log => log.entries.some(isMeant)))
    throw new Break(1, `the file has no request ${plain(head.requestId)} of ${plain(head.participant)}`);
  for (const log of agreement ? logs : [])
    if (![...log.versions.values()].some(v => v.digest.equals(agreement)))
      throw new Break(log.entries[0].line,
        `${plain(log.service)} rests on another agreement than yours: nothing says whose keys are whose`);
  return known;
}

/** What a file that holds proves. */
function describe({ head, logs, end }, known, compared) {
  const all = logs.flatMap(l => l.entries), tally = list => list.reduce((sum, x) => ({ ...sum, [x]: (sum[x] ?? 0) + 1 }), {});
  const count = state => all.filter(e => e.state === state).length;
  return { ok: true, line: null, meaning: null, entries: all.length,
    signed: tally(all.filter(e => e.state === 'signed').map(e => e.header.participant)),
    approved: tally(all.flatMap(e => e.approvals.map(a => `${e.header.participant} ${a}`))), privileged: count('privileged'),
    notShown: count('hidden'), ofServices: count('service'), erased: all.filter(e => e.parts.some(p => p.erased)).length,
    receipts: all.filter(e => e.receipt).length, exporter: head.participant, keyId: end.keyId,
    exportTime: timeText(head.exportTime), case: head.case, requestId: head.requestId, trustDomain: head.trustDomain, compared,
    agreements: [...known.values()].sort((a, b) => (a.version < b.version ? -1 : 1))
      .map(v => ({ version: Number(v.version), digest: v.digest.toString('hex') })),
    logs: logs.map(log => ({ service: log.service, size: log.judged.size.toString(),
      cosigned: [...log.judged.cosigned].map(([participant, time]) => ({
        participant, time: timeText(time * Second) })),
      complete: [...log.numbers].sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([audience, { number, position }]) => ({ audience, number: number.toString(), position: position.toString() })),
      entries: log.entries.map(e => ({ line: e.line, position: e.header.position.toString(),
        commitTime: timeText(e.header.commitTime), participant: e.header.participant, method: e.header.method, state: e.state,
        approvals: e.approvals
      }))
    }))
  };
}

const States = { signed: 'request shown, signed by the participant', service: "the service's own, by its word",
  privileged: "privileged, not shown: the service's word", hidden: "request not shown: the service's word",
  erased: "request erased: the service's word"
};

/** What the file does not show to be complete: an exporter need not show the numbers of its entries. */
const notComplete = ({ case: of, logs }) => !of ? ['that nothing was left out, because the file is of one request'] : [
  ...logs.flatMap(({ service, complete, entries }) => {
    const reached = complete.map(c => BigInt(c.position)).reduce((a, b) => (a > b ? a : b), -1n);
    return reached === BigInt(entries.at(-1).position) ? []
      : [`that nothing was left out of ${plain(service)}${reached < 0n ? '' : ` after entry ${reached}`}, ` +
        'because none of its entries here' + (reached < 0n ? '' : ' after that') + ' shows a number in the case'];
  }),
  'that nothing was left out for an audience beyond the last entry that is counted for it'
];

/** The same in plain words. */
function inWords(proved) {
  const { agreements: versions } = proved, first = versions[0], list = counts => Object.entries(counts)
        .map(([who, n]) => `${plain(who)} ${n}`).join(', ') || 'none';
  return [
    `The file holds: ${plural(proved.entries, 'entry', 'entries')} of ` +
      `${proved.case ? `case ${plain(proved.case)}` : `request ${plain(proved.requestId)}`}, ` +
      `as ${plain(proved.exporter)} may see it, exported ${proved.exportTime} and signed with its key ${plain(proved.keyId)}.`,
    ...proved.logs.flatMap(log => ['',
      `Log ${plain(log.service)}: ${plural(log.entries.length, 'entry', 'entries')} of ${log.size}, ` +
        'under a checkpoint that the service signed, ' +
        (log.cosigned.length ? `cosigned by ${log.cosigned.map(c => `${plain(c.participant)} (${c.time})`).join(', ')}.`
          : 'cosigned by nobody.'),
      ...(log.complete.length
        ? [`  By their numbers, no entry was left out of ${log.complete.map(c =>
            `the ${c.number} for ${plain(c.audience)} up to entry ${c.position}`).join(', of ')}.`] : []),
      ...log.entries.map(e =>
          `  ${e.position}  ${e.commitTime}  ${plain(e.participant)}  ${plain(e.method)}: ${States[e.state]}` +
          (e.approvals.length ? `; approved by ${e.approvals.map(plain).join(', ')}` : ''))]), '',
    `Signed requests: ${list(proved.signed)}.`, `Approvals: ${list(proved.approved)}.`,
    `Entries with a receipt: ${proved.receipts}.`,
    `Not shown: ${proved.notShown} requests; ${proved.privileged} privileged entries of neutral observers; ` +
      `erased in part: ${proved.erased}.`,
    `Services' own entries, by their word: ${proved.ofServices}.`,
    `Agreement: ${versions.map(v => `version ${v.version}`).join(', ')}, signed by those whom it affects.`,
    proved.compared ? 'It is the agreement that you gave.'
      : `Its version ${first.version} has the digest ${first.digest}: compare it with what you know (--agreement), ` +
        'for all keys rest on it.',
    '', 'Not proved:',
    ...[...notComplete(proved), 'that nothing came after', "that the services' clocks were right, beyond the cosigners' times",
      'who the officials are', 'what is sealed',
      'who made an entry whose request is not shown', 'that a neutral observer made an entry that is privileged, and what is in it',
      ...(proved.compared ? [] : ['whose keys the agreement lists'])].map(what => `  ${what}`)
  ].join('\n');
}

/**
 * Verifies an evidence file.
 * @param {Buffer} bytes The file.
 * @param {{agreement?: Buffer}} options The digest of the reader's own agreement.
 * @returns {{ok: boolean, line: ?number, meaning: ?string, entries: number, signed: Object<string, number>}} Where it is broken
 * and what that means, or what it proves (more fields: `describe`).
 */
export function verify(bytes, { agreement } = {}) {
  try {
    const found = readForm(bytes), change = findChange(found);
    try {
      const file = readOrder(found), known = judge(file, agreement);
      if (!change) return describe(file, known, Boolean(agreement));
    } catch (e) {
      if (!change || !(e instanceof Break)) throw e;
      if (e.line === change.line) throw new Break(change.line, `${change.message}; besides, ${e.message}`);
    }
    throw change;
  } catch (e) {
    if (!(e instanceof Break)) throw e;
    return { ok: false, line: e.line, meaning: e.message, entries: 0, signed: {} };
  }
}

/** The digest of an agreement that the reader has, of its JSON text. */
export function digestOf(text) {
  // White space may stand between the tokens, and characters may be escaped in another way; all else has one form.
  const given = text.replace(/"(?:[^"\\]|\\.)*"|\s+/g, token => (token[0] === '"' ? quoted(JSON.parse(token)) : ''));
  const agreement = readJson(JSON.parse(text), 'Agreement');
  if (writeJson(agreement, 'Agreement') !== given) malformed('the agreement is not in its one form');
  return sha256(withoutField(writeMessage(agreement, 'Agreement'), 16));
}

// ---- The command line

async function batch(options) {
  let rest = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    rest = rest.length ? Buffer.concat([rest, chunk]) : chunk;
    let at = 0;
    for (; rest.length - at >= 4 && rest.length - at - 4 >= rest.readUInt32BE(at); at += 4 + rest.readUInt32BE(at))
      process.stdout.write(`${JSON.stringify(verify(rest.subarray(at + 4, at + 4 + rest.readUInt32BE(at)), options))}\n`);
    rest = rest.subarray(at);
  }
  if (rest.length) throw new Error('the last file of the batch is cut off');
}

async function main(args) {
  const flags = new Set(), files = [], options = {};
  try {
    for (let i = 0; i < args.length; i++) {
      if (args[i] === '--agreement' && i + 1 < args.length)
        options.agreement = /^[0-9a-fA-F]{64}$/.test(args[++i]) ? Buffer.from(args[i], 'hex') : digestOf(decodeText(readFileSync(args[i])));
      else if (args[i] === '--json' || args[i] === '--batch') flags.add(args[i]);
      else if (args[i].startsWith('--')) throw new Error(`${args[i]} is not known`);
      else files.push(args[i]);
    }
    if (files.length !== (flags.has('--batch') ? 0 : 1))
      throw new Error('usage: verify.mjs FILE [--agreement AGREEMENT.json | DIGEST] [--json], or --batch');
    if (flags.has('--batch')) return await batch(options);
    const result = verify(readFileSync(files[0]), options);
    if (flags.has('--json')) console.log(JSON.stringify(result));
    else if (result.ok) console.log(inWords(result));
    if (!result.ok) {
      if (!flags.has('--json')) console.error(`line ${result.line}: ${result.meaning}`);
      process.exitCode = 1;
    }
  } catch (e) {
    console.error(e.message);
    process.exitCode = 2;
  }
}

if (existsSync(process.argv[1] ?? '') && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
