// A ministry's system calls the call log: it reads, logs a call, checks the receipt, and follows the ledger.
//
//   node first_calls.mjs log ADDRESS CASE COUNTERPART
//   node first_calls.mjs follow ADDRESS [POSITION]
//
// ADDRESS is host:port. MINISTRIES_FOLDER is a folder such as `ministry pki init` makes, and MINISTRIES_AS the participant that calls.
// protos/README.md explains each step; the README beside this folder says what to install.

import { createHash, createPrivateKey, createPublicKey, randomUUID, sign, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const service = 'calllog';
const contracts = loadSync(
  [
    'ministries/calllog/v1/calllog_service.proto',
    'ministries/ledger/v1/ledger_service.proto',
    'google/rpc/status.proto',
    'google/rpc/error_details.proto',
  ],
  {
    includeDirs: [fileURLToPath(new URL('../../../protos', import.meta.url))],
    keepCase: true, // Names as in the contracts.
    longs: String, // A position may be greater than a number holds exactly.
    enums: String,
    defaults: true,
  },
);
export const calls = contracts['ministries.calllog.v1.CallLogService'];
const ledger = contracts['ministries.ledger.v1.LedgerService'];

/** The service's answer does not prove what it says. Keep it, and ask the other participants what they see. */
export class NotProved extends Error {}

const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest();

// --- The agreement: whom to trust -----------------------------------------------------------------------------------------------

const participantIn = (agreement, id) => agreement.participants.find((p) => p.id === id);

/** Whether a key may sign now. */
function isInForce(key) {
  const now = Date.now();
  const ended = (time) => time !== undefined && Date.parse(time) <= now;
  return !(key.validFromTime && Date.parse(key.validFromTime) > now) && !ended(key.validUntilTime) && !ended(key.revokeTime);
}

// --- The channel: TLS 1.3 with both certificates ---------------------------------------------------------------------------------

/** What is wrong with the name that a service's certificate gives. That its chain leads to the service's authority is known already. */
function wrongName(certificate, participant, trustDomain) {
  const systems = `spiffe://${trustDomain}/${participant.id}/`;
  const names = (certificate.subjectaltname ?? '').split(', ');
  const uris = names.filter((name) => name.startsWith('URI:')).map((name) => name.slice('URI:'.length));
  if (uris.length !== 1 || !uris[0].startsWith(systems) || !/^[a-z0-9_-]+$/.test(uris[0].slice(systems.length)))
    return new NotProved(`the certificate names ${uris}, and no system of ${participant.id}`);
  if (participant.systems?.length && !participant.systems.includes(uris[0].slice(`spiffe://${trustDomain}/`.length)))
    return new NotProved(`the agreement does not list the system ${uris[0]}`);
  const serial = (text) => BigInt(`0x${text.replaceAll(':', '')}`);
  const denied = participant.deniedCertificates?.map(serial) ?? [];
  for (let link = certificate; link; link = link.issuerCertificate === link ? undefined : link.issuerCertificate)
    if (denied.includes(serial(link.serialNumber))) return new NotProved('the agreement denies the certificate');
  return undefined;
}

/** A participant's way to one service. */
export class Ministry {
  constructor(folder, participant, address) {
    this.agreement = JSON.parse(readFileSync(`${folder}/agreement.json`, 'utf8'));
    this.participant = participant;
    this.service = participantIn(this.agreement, `service/${service}`);
    this.authority = address;

    this.key = createPrivateKey(readFileSync(`${folder}/${participant}/requests.key`));
    const publicKey = Buffer.from(createPublicKey(this.key).export({ format: 'jwk' }).x, 'base64url').toString('base64');
    this.keyId = participantIn(this.agreement, participant).signingKeys.find(
      (k) => k.use === 'SIGNING_KEY_USE_REQUESTS' && k.publicKey === publicKey,
    ).id;

    const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
    const secure = createSecureContext({
      // The service's own authorities alone, and not those of the machine. An authority speaks for one participant only.
      ca: this.service.authorityCertificates,
      cert: readFileSync(`${folder}/${participant}/system.pem`),
      key: readFileSync(`${folder}/${participant}/system.key`),
      minVersion: 'TLSv1.3',
    });
    const credentials = grpc.credentials.createFromSecureContext(secure, {
      // Called once the chain is verified. It replaces the check of the host, which is therefore called first.
      checkServerIdentity: (_, certificate) =>
        checkServerIdentity(host, certificate) ?? wrongName(certificate, this.service, this.agreement.trustDomain),
    });
    this.client = new grpc.Client(address, credentials, {
      'grpc.max_receive_message_length': 8 << 20,
      // Pings notice a connection that is gone. Without them a stream on which nothing comes would wait for ever.
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 5_000,
    });
  }

  close() {
    this.client.close();
  }

  // --- Reading -------------------------------------------------------------------------------------------------------------------

  /**
   * Calls a method with the bytes of its request, until it is answered. It is safe to call again if it is not known whether a call arrived:
   * a read changes nothing, and the same id with the same bytes is the same write. A signature ends, so each attempt has its own headers.
   */
  async call(method, request, headers = () => ({})) {
    for (let attempt = 0; ; attempt++)
      try {
        return await this.attempt(method, request, headers());
      } catch (error) {
        if (attempt === 4 || ![grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED].includes(error.code)) throw error;
        await pause(200 * 2 ** attempt);
      }
  }

  attempt(method, request, headers) {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    const options = { deadline: Date.now() + 10_000 };
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        method.path,
        (bytes) => bytes, // They are sent as they are.
        method.responseDeserialize,
        request,
        metadata,
        options,
        (error, response) => (error ? reject(error) : resolve(response)),
      );
    });
  }

  // --- Writing -------------------------------------------------------------------------------------------------------------------

  /** The three header fields that sign a write (RFC 9421). */
  sign(path, request, requestId, created) {
    // The body of a gRPC call is one frame: not compressed, its length, the message.
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(request.length, 1);
    const digest = `sha-256=:${sha256(prefix, request).toString('base64')}:`;
    const parameters =
      '("@method" "@path" "@authority" "content-type" "content-digest")' +
      `;created=${created};expires=${created + 120};keyid="${this.keyId}";nonce="${requestId}"` +
      `;tag="ministries/${this.agreement.trustDomain}/${service}"`;
    const base = [
      '"@method": POST',
      `"@path": ${path}`,
      `"@authority": ${this.authority}`,
      '"content-type": application/grpc',
      `"content-digest": ${digest}`,
      `"@signature-params": ${parameters}`,
    ].join('\n');
    const signature = sign(null, Buffer.from(base, 'ascii'), this.key).toString('base64');
    return { 'content-digest': digest, 'signature-input': `sig1=${parameters}`, signature: `sig1=:${signature}:` };
  }

  /** Sends a write, and checks the receipt. */
  async write(method, request, requestId) {
    const headers = () => this.sign(method.path, request, requestId, Math.floor(Date.now() / 1000));
    const response = await this.call(method, request, headers);
    this.checkReceipt(response.receipt);
    this.checkEntry(response, method, request, requestId);
    return response;
  }

  // --- Proofs --------------------------------------------------------------------------------------------------------------------

  /** Whether the service has signed a log that holds an entry with this hash at this position. */
  checkReceipt(receipt) {
    if (receipt?.service !== service) throw new NotProved(`the receipt is of '${receipt?.service ?? ''}'`);
    // What the checkpoint must say. So nothing of it needs to be parsed.
    const origin = `${this.agreement.trustDomain}/${service}`;
    const text = `${origin}\n${receipt.tree_size}\n${receipt.root_hash.toString('base64')}\n`;
    if (!receipt.checkpoint.startsWith(`${text}\n`))
      throw new NotProved('the checkpoint is of another log or tree than the receipt');
    this.checkSignatures(origin, text, receipt.checkpoint.slice(text.length + 1));
    const leaf = sha256(Buffer.from([0]), receipt.entry_hash);
    if (!rootOf(leaf, BigInt(receipt.position), BigInt(receipt.tree_size), receipt.inclusion_proof)?.equals(receipt.root_hash))
      throw new NotProved('the proof does not lead from the entry to the root');
  }

  /** Whether the service has signed the text of a checkpoint. */
  checkSignatures(origin, text, signatures) {
    let signed = false;
    for (const key of this.service.signingKeys) {
      if (key.use !== 'SIGNING_KEY_USE_CHECKPOINTS' || !isInForce(key)) continue;
      const bytes = Buffer.from(key.publicKey, 'base64');
      const keyId = sha256(Buffer.from(`${origin}\n\x01`), bytes).subarray(0, 4);
      const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: bytes.toString('base64url') }, format: 'jwk' });
      for (const line of signatures.split('\n')) {
        const mark = `\u2014 ${origin} `;
        const signature = Buffer.from(line.slice(mark.length), 'base64');
        // A witness's, or one by a key that is not listed: ignored.
        if (!line.startsWith(mark) || !signature.subarray(0, 4).equals(keyId)) continue;
        if (!verify(null, Buffer.from(text), publicKey, signature.subarray(4)))
          throw new NotProved("the checkpoint's signature is wrong");
        signed = true;
      }
    }
    if (!signed) throw new NotProved('no key that the agreement lists for the service has signed the checkpoint');
  }

  /** Whether the entry of the receipt is this very request, and holds this very answer. The receipt shows it, once it is checked. */
  checkEntry(response, method, request, requestId) {
    const { receipt } = response;
    if (!sha256(receipt.header).equals(receipt.entry_hash))
      throw new NotProved("the entry at the receipt's position is not this request");
    const header = headerOf(receipt);
    const holds = (kind, salt, data) =>
      salt.length === 32 && header.parts.find((part) => part.kind === kind)?.digest.equals(sha256(salt, data));
    const isRequest =
      header.position === receipt.position &&
      isDeepStrictEqual(header.commit_time, receipt.commit_time) &&
      header.participant === this.participant &&
      `/${header.method}` === method.path &&
      header.request_id === requestId &&
      // A part that is there twice is two answers to one question.
      new Set(header.parts.map((part) => part.kind)).size === header.parts.length &&
      holds('PART_KIND_REQUEST', receipt.request_salt, request);
    if (!isRequest) throw new NotProved("the entry at the receipt's position is not this request");

    // They are compared as messages, because another version of the service may write the same answer in other bytes.
    const isRecorded = holds('PART_KIND_ANSWER', receipt.answer_salt, receipt.answer);
    const recorded = isRecorded && contracts['ministries.ledger.v1.Answer'].deserialize(receipt.answer).response;
    const type = `${method.path.slice(1, method.path.lastIndexOf('.'))}.${method.responseType.type.name}`;
    const isAnswer =
      recorded &&
      recorded.type_url === `type.googleapis.com/${type}` &&
      isDeepStrictEqual(method.responseDeserialize(recorded.value), { ...response, receipt: null });
    if (!isAnswer) throw new NotProved("the entry at the receipt's position holds another answer");
  }

  // --- Following -----------------------------------------------------------------------------------------------------------------

  /**
   * Yields each entry from a position on, once and in order, with the position from which to go on. Keep that position when you have done
   * what the entry asks of you, and begin there after a restart.
   */
  async *follow(position) {
    const { path, requestSerialize, responseDeserialize } = ledger.FollowEntries;
    for (let failures = 0; ; await pause(Math.min(5000, 100 * 2 ** failures))) {
      let pieces = Buffer.alloc(0);
      const stream = this.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { from_position: position });
      try {
        for await (const { entry, piece, next_position } of stream) {
          failures = 0;
          let whole = entry;
          if (piece) {
            // Of an entry of more than 64 KiB.
            if (piece.offset === 0) pieces = Buffer.alloc(0);
            if (piece.offset !== pieces.length || piece.size > 8 << 20) throw new NotProved('the pieces of an entry do not fit together');
            pieces = Buffer.concat([pieces, piece.data]);
            if (pieces.length < piece.size) continue;
            whole = contracts['ministries.ledger.v1.Entry'].deserialize(pieces);
          }
          position = next_position;
          if (whole) yield { entry: whole, next: position }; // Otherwise it only says how far the log is.
        }
      } catch (error) {
        // The service was restarted, the connection broke, or this program read too slowly.
        if (++failures === 10 || ![grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED].includes(error.code)) throw error;
      } finally {
        stream.cancel();
      }
    }
  }
}

const headerOf = (entry) => contracts['ministries.ledger.v1.EntryHeader'].deserialize(entry.header);

/** The root to which an inclusion proof leads (RFC 9162, 2.1.3.2); undefined if it is none for that position and size. */
function rootOf(leaf, position, size, proof) {
  if (position >= size) return undefined;
  let [index, last, node] = [position, size - 1n, leaf];
  for (const sibling of proof) {
    if (last === 0n || sibling.length !== 32) return undefined;
    if (index & 1n || index === last) {
      node = sha256(Buffer.from([1]), sibling, node);
      while (index && !(index & 1n)) [index, last] = [index >> 1n, last >> 1n];
    } else node = sha256(Buffer.from([1]), node, sibling);
    [index, last] = [index >> 1n, last >> 1n];
  }
  return last === 0n ? node : undefined;
}

/** What a refusal says: a google.rpc.Status in the trailer `grpc-status-details-bin`. undefined: it is another error. */
function refusalOf(error) {
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!bytes) return undefined;
  const { details } = contracts['google.rpc.Status'].deserialize(bytes);
  const detail = (type) => {
    const found = details.find((d) => d.type_url === `type.googleapis.com/${type}`);
    return found && contracts[type].deserialize(found.value);
  };
  const info = detail('google.rpc.ErrorInfo');
  return info?.domain === 'ministries' ? { info, fields: detail('google.rpc.BadRequest')?.field_violations ?? [] } : undefined;
}

// --- What this program does -------------------------------------------------------------------------------------------------------

/** What our side says of a call that has just taken place. It names no prisoner; what is about a person would be sealed. */
function aCall(requestId, file, participant, counterpart) {
  // Serialized once. These bytes are signed, sent, kept for another attempt, and compared with the receipt.
  return calls.LogCall.requestSerialize({
    request_id: requestId,
    actor: {
      office: 'consular-department',
      official: `${participant.replaceAll('/', '-')}-official-1`, // One of the codes that the agreement lists.
      authority: 'order-12',
    },
    case: file,
    counterpart,
    account: {
      start_time: { time: { seconds: Math.floor(Date.now() / 1000) - 3600 }, time_zone: 'Asia/Seoul' },
      channel: 'CHANNEL_TELEPHONE',
      attendees: [{ participant, office: 'minister' }],
      subjects: ['SUBJECT_CITIZENSHIP'],
    },
  });
}

async function log(ministry, file, counterpart) {
  const listed = await ministry.call(calls.ListCalls, calls.ListCalls.requestSerialize({ case: file }));
  console.log(`calls of the case so far: ${listed.calls.length}`);

  let requestId = randomUUID();
  const request = aCall(requestId, file, ministry.participant, counterpart);
  const response = await ministry.write(calls.LogCall, request, requestId);
  console.log(`request ${requestId} logged ${response.call} at position ${response.receipt.position}`);

  const again = await ministry.write(calls.LogCall, request, requestId);
  console.log(`sent again: ${again.call} at position ${again.receipt.position}`);

  // A call with oneself is none. The refusal says why, and what to do.
  requestId = randomUUID();
  try {
    await ministry.write(calls.LogCall, aCall(requestId, file, ministry.participant, ministry.participant), requestId);
  } catch (error) {
    const refusal = refusalOf(error);
    if (!refusal) throw error;
    console.log(`refused: ${refusal.info.reason}`);
    console.log(`  article: ${refusal.info.metadata.source}`);
    console.log(`  missing: ${refusal.info.metadata.missing}`);
    console.log(`  remedy: ${refusal.info.metadata.unlock}`);
    for (const { field, description } of refusal.fields) console.log(`  ${field}: ${description}`);
  }
}

async function follow(ministry, position = '0') {
  for await (const { entry, next } of ministry.follow(position)) {
    const header = headerOf(entry);
    console.log(`${header.position} ${header.participant} ${header.method} next ${next}`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [verb, address, ...rest] = process.argv.slice(2);
  const ours = new Ministry(process.env.MINISTRIES_FOLDER, process.env.MINISTRIES_AS, address);
  await (verb === 'log' ? log : follow)(ours, ...rest);
  ours.close();
}
