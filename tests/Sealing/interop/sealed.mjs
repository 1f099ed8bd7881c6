// The second implementation of sealed data, written from protos/SEALED.md alone. HPKE and X-Wing are hpke-js's.
//
//   node sealed.mjs    reads one JSON request a line, and answers each with one JSON line. Bytes are hexadecimal.
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { createInterface } from "node:readline";
import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";

const SCHEME = "ministries-sealed-v1";
const SIZES = [64, 256, 1024, 4096, 16384, 49152];
const kem = new XWing();
const suite = new CipherSuite({ kem, kdf: new HkdfSha256(), aead: new Chacha20Poly1305() });

class SealError extends Error {}
const fail = (fault) => {
  throw new SealError(fault);
};

// --- bytes ---------------------------------------------------------------------------------------------------------------------

const bytes = (...parts) => Buffer.concat(parts.map((p) => (typeof p === "string" ? Buffer.from(p, "utf8") : Buffer.from(p))));
const u32 = (n) => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(n);
  return b;
};
const lp = (x) => bytes(u32(bytes(x).length), x);
const hmac = (key, text) => createHmac("sha256", key).update(text).digest();
const extract = (salt, ikm) => hmac(salt, ikm);
const expand32 = (key, info) => hmac(key, bytes(info, [1]));
const same = (a, b) => a.length === b.length && timingSafeEqual(a, b);
const exact = (b) => b.buffer.slice(b.byteOffset, b.byteOffset + b.length);

// --- protobuf, as much as SealedContent needs ----------------------------------------------------------------------------------

const varint = (n) => {
  const out = [];
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) | 128);
  return Buffer.from([...out, n]);
};
const put = (number, value) => {
  const b = bytes(value);
  return b.length === 0 ? b : bytes(varint(number * 8 + 2), varint(b.length), b);
};
const putNumber = (number, value) => (value === 0 ? Buffer.alloc(0) : bytes(varint(number * 8), varint(value)));

function* read(all) {
  let at = 0;
  const next = () => {
    let n = 0;
    for (let i = 0; ; i++) {
      if (at >= all.length || i > 5) fail("Truncated");
      const b = all[at++];
      n += (b & 127) * 2 ** (7 * i);
      if (b < 128) return n;
    }
  };
  while (at < all.length) {
    const tag = next();
    const [number, type] = [Math.floor(tag / 8), tag % 8];
    if (type === 0) yield [number, next()];
    else if (type === 2) {
      const length = next();
      if (at + length > all.length) fail("Truncated");
      yield [number, all.subarray(at, (at += length))];
    } else fail("NotCanonical");
  }
}

const encode = (c) =>
  bytes(
    put(1, c.case),
    put(2, c.record),
    put(3, c.field),
    put(4, c.sender),
    put(5, c.message),
    ...c.keys.map((k) => put(6, bytes(put(1, k.recipient), put(2, k.keyId), put(3, k.encapsulation), put(4, k.secret)))),
    ...c.fields.map((f) => put(7, bytes(putNumber(1, f.number), put(2, f.commitment), put(3, f.ciphertext)))),
  );

function decode(all) {
  const c = { case: "", record: "", field: "", sender: "", message: "", keys: [], fields: [] };
  const texts = { 1: "case", 2: "record", 3: "field", 4: "sender", 5: "message" };
  const part = (value, names) => Object.fromEntries([...read(value)].map(([n, v]) => [names[n] ?? fail("NotCanonical"), v]));
  for (const [number, value] of read(all))
    if (texts[number]) c[texts[number]] = value.toString("utf8");
    else if (number === 6) {
      const k = part(value, { 1: "recipient", 2: "keyId", 3: "encapsulation", 4: "secret" });
      c.keys.push({ ...k, recipient: k.recipient.toString("utf8"), keyId: k.keyId.toString("utf8") });
    } else if (number === 7) c.fields.push(part(value, { 1: "number", 2: "commitment", 3: "ciphertext" }));
    else fail("NotCanonical");
  if (!encode(c).equals(all)) fail("NotCanonical");
  return c;
}

// --- the scheme ----------------------------------------------------------------------------------------------------------------

const contextOf = (c, recipients) =>
  createHash("sha256")
    .update(
      bytes(
        ...[SCHEME, c.case, c.record, c.field, c.sender, c.message].map(lp),
        u32(recipients.length),
        ...recipients.map((r) => lp(r)),
      ),
    )
    .digest();

const fieldKey = (secret, context, number) => expand32(extract(context, secret), bytes("field", u32(number)));
const commitmentOf = (key) => expand32(key, "commitment");
const SUITE = "chacha20-poly1305";

function encrypt(key, context, number, plain) {
  const padded = Buffer.alloc(SIZES.find((s) => s >= plain.length + 4) ?? fail("TooLarge"));
  u32(plain.length).copy(padded);
  plain.copy(padded, 4);
  const cipher = createCipheriv(SUITE, expand32(key, "key"), Buffer.alloc(12), { authTagLength: 16 });
  cipher.setAAD(bytes(context, u32(number)), { plaintextLength: padded.length });
  return bytes(cipher.update(padded), cipher.final(), cipher.getAuthTag());
}

function decrypt(key, context, field) {
  if (!same(commitmentOf(key), field.commitment)) fail("CommitmentDiffers");
  const size = field.ciphertext.length - 16;
  if (!SIZES.includes(size)) fail("WrongPadding");
  const cipher = createDecipheriv(SUITE, expand32(key, "key"), Buffer.alloc(12), { authTagLength: 16 });
  cipher.setAAD(bytes(context, u32(field.number)), { plaintextLength: size });
  cipher.setAuthTag(field.ciphertext.subarray(size));
  let padded;
  try {
    padded = bytes(cipher.update(field.ciphertext.subarray(0, size)), cipher.final());
  } catch {
    fail("NotAuthentic");
  }
  const length = padded.readUInt32BE();
  if (SIZES.find((s) => s >= length + 4) !== size || padded.subarray(4 + length).some((b) => b !== 0)) fail("WrongPadding");
  return padded.subarray(4, 4 + length);
}

async function wrap(secret, context, use, recipient) {
  const { ct, enc } = await suite.seal(
    {
      recipientPublicKey: await kem.deserializePublicKey(exact(Buffer.from(recipient.publicKey, "hex"))),
      info: exact(bytes(`${SCHEME} ${use}`, context)),
    },
    exact(secret),
    exact(bytes(lp(recipient.participant), lp(recipient.keyId))),
  );
  return { recipient: recipient.participant, keyId: recipient.keyId, encapsulation: Buffer.from(enc), secret: Buffer.from(ct) };
}

async function unwrap(key, context, use, seed) {
  try {
    return Buffer.from(
      await suite.open(
        {
          recipientKey: await kem.deserializePrivateKey(exact(Buffer.from(seed, "hex"))),
          enc: exact(key.encapsulation),
          info: exact(bytes(`${SCHEME} ${use}`, context)),
        },
        exact(key.secret),
        exact(bytes(lp(key.recipient), lp(key.keyId))),
      ),
    );
  } catch {
    fail("NotAuthentic");
  }
}

async function seal({ context, message, fields, recipients }) {
  const c = { ...context, message, keys: [], fields: [] };
  const names = recipients.map((r) => r.participant);
  const hash = contextOf(c, names);
  const secret = randomBytes(32);
  for (const recipient of recipients) c.keys.push(await wrap(secret, hash, "record", recipient));
  for (const { number, plain } of fields) {
    const key = fieldKey(secret, hash, number);
    c.fields.push({ number, commitment: commitmentOf(key), ciphertext: encrypt(key, hash, number, Buffer.from(plain, "hex")) });
  }
  return { scheme: SCHEME, recipients: names, content: encode(c).toString("hex") };
}

function check({ sealed, context, message }) {
  if (sealed.scheme !== SCHEME) fail("UnknownScheme");
  const c = decode(Buffer.from(sealed.content, "hex"));
  const order = { sender: "OtherSender", case: "OtherCase", record: "OtherRecord", field: "OtherField" };
  for (const [name, fault] of Object.entries(order)) if (c[name] !== context[name]) fail(fault);
  if (c.message !== message) fail("OtherMessage");
  if (c.keys.length < sealed.recipients.length) fail("Truncated");
  if (c.keys.map((k) => k.recipient).join("\n") !== sealed.recipients.join("\n")) fail("OtherRecipients");
  return { c, hash: contextOf(c, sealed.recipients) };
}

const parse = (k) => ({ ...k, encapsulation: Buffer.from(k.encapsulation, "hex"), secret: Buffer.from(k.secret, "hex") });
const show = (k) => ({ ...k, encapsulation: k.encapsulation.toString("hex"), secret: k.secret.toString("hex") });

async function secretOf(request, { c, hash }) {
  const key = request.added ? parse(request.added) : c.keys.find((k) => k.recipient === request.participant);
  if (!key || key.recipient !== request.participant) fail("WrongRecipient");
  if (key.keyId !== request.keyId) fail("KeyUnknown");
  return unwrap(key, hash, "record", request.seed);
}

const operations = {
  seal,
  async open(request) {
    const checked = check(request);
    const secret = await secretOf(request, checked);
    const { c, hash } = checked;
    return { fields: c.fields.map((f) => ({ number: f.number, plain: decrypt(fieldKey(secret, hash, f.number), hash, f).toString("hex") })) };
  },
  // Another recipient, or another key: the same secret, wrapped anew.
  async rewrap(request) {
    const checked = check(request);
    return show(await wrap(await secretOf(request, checked), checked.hash, "record", request.recipient));
  },
  async disclose(request) {
    const checked = check(request);
    return { key: fieldKey(await secretOf(request, checked), checked.hash, request.number).toString("hex") };
  },
  openField(request) {
    const { c, hash } = check(request);
    const field = c.fields.find((f) => f.number === request.number) ?? fail("OtherField");
    return { plain: decrypt(Buffer.from(request.key, "hex"), hash, field).toString("hex") };
  },
  async openFields(request) {
    const { c, hash } = check(request);
    const keys = await unwrap(parse(request.wrap), hash, "fields", request.seed);
    const fields = [];
    for (let at = 0; at < keys.length; at += 36) {
      const number = keys.readUInt32BE(at);
      const field = c.fields.find((f) => f.number === number) ?? fail("OtherField");
      fields.push({ number, plain: decrypt(keys.subarray(at + 4, at + 36), hash, field).toString("hex") });
    }
    return { fields };
  },
  async publicKey({ seed }) {
    const pair = await kem.generateKeyPairDerand(Uint8Array.from(Buffer.from(seed, "hex")));
    return { publicKey: Buffer.from(await kem.serializePublicKey(pair.publicKey)).toString("hex") };
  },
  // The commitments to a wish, and the openings of its destinations.
  wish({ case: id, prisoner, destinations, secret: hex }) {
    const [secret, about] = [Buffer.from(hex, "hex"), (d) => bytes(lp(id), lp(prisoner), lp(d))];
    const openings = destinations.map((d) => expand32(secret, bytes("ministries-wish-v1 opening", about(d))));
    const commitments = destinations.map((d, i) => hmac(openings[i], bytes("ministries-wish-v1 commitment", about(d))));
    for (let i = 0; commitments.length < 16; i++)
      commitments.push(hmac(expand32(secret, bytes("ministries-wish-v1 filler", u32(i))), "ministries-wish-v1 filler"));
    return {
      commitments: commitments.sort(Buffer.compare).map((c) => c.toString("hex")),
      openings: openings.map((o) => o.toString("hex")),
    };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = await operations[request.op](request);
  } catch (e) {
    if (!(e instanceof SealError)) throw e;
    answer = { fault: e.message };
  }
  console.log(JSON.stringify(answer));
}
