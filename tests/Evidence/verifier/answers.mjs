// Answers for the tests that compare this verifier with the other one, as long as they ask: stdin has frames, each of its length in 4
// bytes (big-endian), a letter for what is asked, and the rest; each is answered with a line of JSON.

import { Malformed, Messages, checkVersion, digestOf, judgeApprovals, judgeCheckpoint, judgeRequest, readAgreement, readMessage,
  verifies, verify } from './verify.mjs';

const bytes = text => Buffer.from(text, 'base64');
const held = version => {
  if (version instanceof Malformed) throw version;
  return version;
};
const refuse = why => { throw new Malformed(why); };

// The agreement that is meant where a question names none.
let agreed;
const versionOf = agreement => held(agreement ? readAgreement(bytes(agreement)) : agreed);

const answers = {
  /** The agreement that is meant from now on. */
  v: agreement => {
    agreed = readAgreement(Buffer.from(agreement));
    return { ok: !(agreed instanceof Malformed), meaning: agreed.message };
  },
  /** A file: where it breaks. */
  f: file => {
    const { ok, line, meaning } = verify(file);
    return { ok, line, meaning };
  },
  /** A signature: key, signature, text. */
  e: all => ({ ok: verifies(all.subarray(0, 32), all.subarray(96), all.subarray(32, 96)) }),
  /** A checkpoint: who cosigned it. */
  n: all => {
    const { note, service, agreement } = JSON.parse(all), version = versionOf(agreement);
    const log = { service, versions: new Map([[version.version, version]]), recordTimes: new Map() };
    const { cosigned, wrong } = judgeCheckpoint(note, log, -1n);
    return wrong ? { ok: false, meaning: wrong } : { ok: true, cosigned: [...cosigned.keys()].sort() };
  },
  /** The signature and the approvals of a request. */
  s: all => {
    const { header, request, signature, service, agreement } = JSON.parse(all), version = versionOf(agreement);
    const of = readMessage(bytes(header), Messages.EntryHeader, true);
    judgeRequest(of, bytes(request), readMessage(bytes(signature), Messages.RequestSignature, false), version, service);
    judgeApprovals(of, bytes(request), version, service);
    return { ok: true };
  },
  /** Versions of the agreement, the first one first, each with its time in seconds. */
  a: all => {
    let previous = null;
    for (const { agreement, time } of JSON.parse(all)) {
      const next = held(readAgreement(bytes(agreement)));
      checkVersion(previous, next, BigInt(time) * 1_000_000_000n, refuse);
      previous = next;
    }
    return { ok: true };
  },
  /** A reader's own agreement: its digest. */
  o: file => ({ ok: true, digest: digestOf(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(file)).toString('hex') })
};

let rest = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  rest = rest.length ? Buffer.concat([rest, chunk]) : chunk;
  let at = 0;
  const lines = [];
  for (; rest.length - at >= 4 && rest.length - at - 4 >= rest.readUInt32BE(at); at += 4 + rest.readUInt32BE(at)) {
    const frame = rest.subarray(at + 4, at + 4 + rest.readUInt32BE(at));
    let answer;
    try {
      answer = answers[String.fromCharCode(frame[0])](frame.subarray(1));
    } catch (e) {
      // Of these alone the verifier says that something does not hold; any other error is one of its own.
      const meant = e instanceof Malformed || (frame[0] === 0x6f && (e instanceof SyntaxError || e instanceof TypeError));
      answer = { ok: false, meaning: e.message, error: meant ? undefined : e.stack };
    }
    // Half a character is no text elsewhere.
    if (answer.meaning) answer.meaning = answer.meaning.replace(/[\ud800-\udfff]/g, '?');
    lines.push(`${JSON.stringify(answer)}\n`);
  }
  process.stdout.write(lines.join(''));
  rest = rest.subarray(at);
}
