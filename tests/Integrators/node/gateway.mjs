// A ministry's system calls its own gateway: it reads, logs a call, sends it again, shows a refusal, and follows the events.
//
//   node gateway.mjs log ADDRESS CASE COUNTERPART
//   node gateway.mjs follow ADDRESS [EVENT]
//
// ADDRESS is such as https://127.0.0.1:7120. GATEWAY_AUTHORITY is the file of the certificate that the gateway shows, or of its authority.
// GATEWAY_TOKEN is the file of the caller's token. MINISTRIES_AS is the participant whose gateway it is. It needs nothing but Node: the
// gateway seals, signs, and checks receipts. The README of the repository has all that a gateway does.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, request as open } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';

const file = (variable) => readFileSync(process.env[variable], 'utf8').trim();
const participant = process.env.MINISTRIES_AS;
// The gateway's own authority alone, and not those of the machine.
const agent = new Agent({ ca: file('GATEWAY_AUTHORITY'), keepAlive: true });
const token = file('GATEWAY_TOKEN');

/** The gateway refused: nothing was recorded. `problem` says why, and what to do (RFC 9457). */
class Refused extends Error {
  constructor(problem) {
    super(`${problem.reason}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** Sends one request. */
async function send(url, { headers = {}, body, ...options } = {}) {
  const request = open(url, { agent, ...options, headers: { authorization: `Bearer ${token}`, ...headers } });
  request.on('error', () => {}); // Whoever waits for the response, or reads it, gets the error.
  request.end(body);
  const [response] = await once(request, 'response');
  return response;
}

/** Sends one request, and reads the JSON that answers it. */
async function ask(url, options) {
  const response = await send(url, options);
  let text = '';
  for await (const part of response.setEncoding('utf8')) text += part;
  const answer = JSON.parse(text);
  if (response.statusCode >= 400) throw new Refused(answer);
  return { status: response.statusCode, answer };
}

/**
 * Makes a write. Keep the key with the request before you send it: with the same key and the same request it is the same write, however
 * often it is sent, also after a lost connection or a restart.
 */
async function write(address, rpc, request, key) {
  const made = await ask(new URL(`/v1/${rpc}`, address), {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': key },
    body: JSON.stringify(request),
  });
  if (made.status !== 202) return made.answer;
  // It waits in the gateway's outbox until the service answers.
  for (;;) {
    const { answer: kept } = await ask(new URL(`/outbox/${key}`, address));
    if (kept.state === 'ANSWERED') return kept.answer;
    if (kept.state !== 'WAITING') throw new Refused(kept.problem);
    await pause(1000);
  }
}

/** What our side says of a call that has just taken place. */
function aCall(of, counterpart) {
  return {
    actor: { office: 'consular-department', official: `${participant.replace('/', '-')}-official-1`, authority: 'order-12' },
    case: of,
    counterpart,
    account: {
      start_time: { time: new Date(Date.now() - 3600_000).toISOString(), time_zone: 'Asia/Seoul' },
      channel: 'CHANNEL_TELEPHONE',
      attendees: [{ participant, office: 'minister' }],
      subjects: ['SUBJECT_CITIZENSHIP'],
    },
  };
}

async function log(address, of, counterpart) {
  const { answer: listed } = await ask(new URL(`/v1/calllog/ListCalls?case=${of}`, address));
  console.log(`calls of the case so far: ${listed.calls?.length ?? 0}`);

  const [key, request] = [randomUUID(), aCall(of, counterpart)];
  const logged = await write(address, 'calllog/LogCall', request, key);
  console.log(`request ${key} logged ${logged.call} at position ${logged.receipt.position}`);
  const again = await write(address, 'calllog/LogCall', request, key);
  console.log(`sent again: ${again.call} at position ${again.receipt.position}`);

  // A call with oneself is none. The refusal says why, and what to do.
  try {
    await write(address, 'calllog/LogCall', aCall(of, participant), randomUUID());
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const { reason, article, missing, remedy } = error.problem;
    console.log(`refused: ${reason}\n  article: ${article}\n  missing: ${missing}\n  remedy: ${remedy}`);
  }
}

/** Writes each event after the one with this id, once and in order. Keep the id when you have done what the event asks of you. */
async function follow(address, last) {
  for (let failures = 0; ; await pause(Math.min(5000, 100 * 2 ** failures)))
    try {
      const response = await send(new URL('/events', address), { headers: last ? { 'last-event-id': last } : {} });
      if (response.statusCode !== 200) throw new Error(`it answered ${response.statusCode}`);
      failures = 0;
      let [id, text] = [last, ''];
      for await (const part of response.setEncoding('utf8')) {
        const lines = (text + part).split('\n');
        text = lines.pop(); // The rest of this line comes with the next part.
        for (const line of lines)
          if (line.startsWith('id: ')) id = line.slice('id: '.length);
          else if (line.startsWith('data: ')) {
            const event = JSON.parse(line.slice('data: '.length));
            console.log(`${id} ${event.type} ${event.subject ?? '-'}`);
            last = id;
          }
      }
    } catch (error) {
      // The gateway was restarted, or the connection broke.
      if (++failures === 10) throw error;
    }
}

const [verb, address, ...rest] = process.argv.slice(2);
await (verb === 'log' ? log : follow)(address, ...rest);
agent.destroy();
