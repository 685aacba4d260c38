// A server and its client in one process: every body is compared, connections are kept alive and used again.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const http = require('node:http');
const { finish } = require('./node-report.js');

const CONNECTIONS = 200;
const REQUESTS = 2000;
const SIZES = [0, 1, 1000, 20000, 100000];
const bodies = SIZES.map((size) => crypto.randomBytes(size));

let accepted = 0;
let served = 0;
const server = http.createServer((request, response) => {
  const taken = [];
  request.on('data', (chunk) => taken.push(chunk));
  request.on('end', () => {
    served++;
    response.setHeader('x-number', request.headers['x-number']);
    // A part of the answers only after a timer, so that answers overtake one another.
    const answer = () => response.end(Buffer.concat(taken));
    if (served % 7 === 0) setTimeout(answer, served % 5);
    else answer();
  });
});
server.on('connection', () => accepted++);

function ask(agent, port, number) {
  const body = bodies[number % bodies.length];
  return new Promise((resolve, reject) => {
    const request = http.request({ agent, port, host: '127.0.0.1', method: 'POST',
      headers: { 'x-number': String(number), 'content-length': body.length } }, (response) => {
      const got = [];
      response.on('data', (chunk) => got.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        assert.strictEqual(response.statusCode, 200);
        assert.strictEqual(response.headers['x-number'], String(number));
        assert.ok(Buffer.concat(got).equals(body), `body of request ${number}`);
        resolve(body.length);
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function main() {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', 1024, resolve));
  const { port } = server.address();
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const sizes = await Promise.all(Array.from({ length: REQUESTS }, (_, number) => ask(agent, port, number)));
  assert.strictEqual(served, REQUESTS);
  assert.strictEqual(accepted, CONNECTIONS, 'connections are kept alive');
  agent.destroy();
  await new Promise((resolve) => server.close(resolve));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  return `${REQUESTS} requests over ${accepted} connections, ${bytes} bytes each way`;
}

finish(main());
