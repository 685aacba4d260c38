// Worker threads, each with an event loop of its own: messages, sockets and timers in them, an end while they wait.
'use strict';
const assert = require('node:assert');
const net = require('node:net');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { finish, until } = require('./node-report.js');

const WORKERS = 4;
const MESSAGES = 5000;

// Asks the main thread's server once a number, over a connection of its own.
function askServer(port, count) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    let text = '';
    let asked = 1;
    socket.on('error', reject);
    socket.on('connect', () => socket.write('1\n'));
    socket.on('data', (chunk) => {
      text += chunk;
      if (!text.endsWith('\n')) return;
      assert.strictEqual(text, `${asked * 2}\n`);
      text = '';
      if (asked++ === count) socket.end();
      else socket.write(`${asked}\n`);
    });
    socket.on('close', () => resolve(asked - 1));
  });
}

if (!isMainThread) {
  let sum = 0;
  parentPort.on('message', async (message) => {
    if (message.ask) {
      const answers = await askServer(message.ask, 500);
      parentPort.postMessage({ answers });
    } else {
      sum += message.number;
      parentPort.postMessage({ echo: message.number, sum });
    }
  });
  if (workerData.ticks) setInterval(() => {}, 1);
  return;
}

function talk(worker) {
  return new Promise((resolve, reject) => {
    let next = 1;
    worker.on('error', reject);
    worker.on('message', ({ echo, sum }) => {
      if (echo === undefined) return;
      assert.strictEqual(echo, next);
      assert.strictEqual(sum, (next * (next + 1)) / 2);
      if (next++ === MESSAGES) resolve();
    });
    for (let number = 1; number <= MESSAGES; number++) worker.postMessage({ number });
  });
}

async function main() {
  const server = net.createServer((socket) => {
    socket.on('data', (chunk) => socket.write(`${Number(chunk) * 2}\n`));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const workers = Array.from({ length: WORKERS }, (_, number) =>
    new Worker(__filename, { workerData: { ticks: number % 2 === 0 } }));
  await Promise.all(workers.map(talk));

  let answers = 0;
  for (const worker of workers) {
    worker.on('message', (message) => { answers += message.answers ?? 0; });
    worker.postMessage({ ask: server.address().port });
  }
  await until('the workers\' answers', () => answers === 500 * WORKERS);

  // Ended from outside while they sleep in their loops.
  const codes = await Promise.all(workers.map((worker) => worker.terminate()));
  assert.deepStrictEqual(codes, Array(WORKERS).fill(1));
  await new Promise((resolve) => server.close(resolve));
  return `${WORKERS} workers, ${WORKERS * MESSAGES} messages each way, ${answers} requests from their sockets`;
}

finish(main());
