// TCP and UNIX sockets: half-closed on either side, reset, paused and resumed; timers beside them; files meanwhile.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const dgram = require('node:dgram');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { finish, sleep, until } = require('./node-report.js');

const directory = process.argv[2];

const listen = (server, ...where) => new Promise((resolve, reject) => {
  server.on('error', reject);
  server.listen(...where, resolve);
});
const close = (server) => new Promise((resolve) => server.close(resolve));

// Clients say everything and close their side; the server answers after their end, with all it got.
async function halfClosed(connections, ...where) {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const taken = [];
    socket.on('data', (chunk) => taken.push(chunk));
    socket.on('end', () => setTimeout(() => socket.end(Buffer.concat(taken)), 5));
  });
  await listen(server, ...where);
  const address = server.address();
  const jobs = Array.from({ length: connections }, (_, number) => new Promise((resolve, reject) => {
    const said = crypto.randomBytes(1 + number * 1500);
    const socket = net.connect(typeof address === 'string' ? { path: address, allowHalfOpen: true }
      : { port: address.port, host: '127.0.0.1', allowHalfOpen: true });
    const got = [];
    socket.on('error', reject);
    socket.on('data', (chunk) => got.push(chunk));
    socket.on('end', () => {
      assert.ok(Buffer.concat(got).equals(said), `connection ${number} gets back what it said`);
    });
    socket.on('close', resolve);
    socket.end(said);
  }));
  await Promise.all(jobs);
  await close(server);
  return connections;
}

// A reader that stops again and again: the writer has to wait for room each time.
async function paused() {
  const body = crypto.randomBytes(8000000);
  const server = net.createServer((socket) => socket.end(body));
  await listen(server, 0, '127.0.0.1');
  const socket = net.connect(server.address().port, '127.0.0.1');
  const got = [];
  socket.on('data', (chunk) => {
    got.push(chunk);
    if (got.length % 20 === 0) {
      socket.pause();
      setTimeout(() => socket.resume(), 2);
    }
  });
  await new Promise((resolve, reject) => socket.on('close', resolve).on('error', reject));
  assert.ok(Buffer.concat(got).equals(body));
  await close(server);
  return body.length;
}

// Clients that vanish: with a reset, in the middle of what they say, and before they were accepted.
async function vanished() {
  let closed = 0;
  let resets = 0;
  const server = net.createServer((socket) => {
    socket.on('error', (error) => {
      assert.ok(['ECONNRESET', 'EPIPE'].includes(error.code), error.code);
      resets++;
    });
    socket.on('close', () => closed++);
    socket.write('x'.repeat(100000));
    socket.resume();
  });
  await listen(server, 0, '127.0.0.1');
  const { port } = server.address();
  let opened = 0;
  for (let number = 0; number < 100; number++) {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', (error) => assert.ok(['ECONNRESET', 'EPIPE'].includes(error.code), error.code));
    socket.on('connect', () => {
      opened++;
      socket.write('half a sent');
      if (number % 2) socket.resetAndDestroy();
      else socket.destroy();
    });
  }
  await until('100 connections', () => opened === 100);
  await until('their ends', () => closed === 100);
  await close(server);
  return `${opened} vanished`;
}

async function datagrams() {
  const server = dgram.createSocket('udp4');
  server.on('message', (message, from) => server.send(message, from.port, from.address));
  await new Promise((resolve) => server.bind(0, '127.0.0.1', resolve));
  const client = dgram.createSocket('udp4');
  await new Promise((resolve) => client.connect(server.address().port, '127.0.0.1', resolve));
  // One after the other: a queue that is full drops them, natively too.
  let answers = 0;
  await new Promise((resolve) => {
    client.on('message', (message) => {
      assert.strictEqual(message.toString(), `datagram ${answers}`);
      if (++answers === 1000) resolve();
      else client.send(`datagram ${answers}`);
    });
    client.send('datagram 0');
  });
  client.close();
  server.close();
  return answers;
}

// None early, all in order, however busy the sockets are.
async function timers() {
  const fired = [];
  const start = process.hrtime.bigint();
  await Promise.all(Array.from({ length: 300 }, (_, number) => new Promise((resolve) => {
    const due = 1 + ((number * 7) % 300);
    setTimeout(() => {
      const took = Number(process.hrtime.bigint() - start) / 1e6;
      // Node rounds its clock to whole milliseconds.
      assert.ok(took >= due - 1, `a timer of ${due} ms after ${took} ms`);
      fired.push(due);
      resolve();
    }, due);
  })));
  let ticks = 0;
  const interval = setInterval(() => ticks++, 2);
  await until('50 ticks', () => ticks >= 50);
  clearInterval(interval);
  const cleared = ticks;
  await sleep(20);
  assert.strictEqual(ticks, cleared, 'a cleared interval ticks no more');
  assert.strictEqual(fired.length, 300);
  return fired.length;
}

// Files go by the thread pool or by io_uring, whose ends the event loop is told of.
async function files() {
  const body = crypto.randomBytes(100000);
  await Promise.all(Array.from({ length: 100 }, async (_, number) => {
    const name = path.join(directory, `file.${number}`);
    await fs.promises.writeFile(name, body);
    assert.ok((await fs.promises.readFile(name)).equals(body));
    assert.strictEqual((await fs.promises.stat(name)).size, body.length);
    await fs.promises.unlink(name);
  }));
  return 100;
}

// A file that is watched: inotify.
async function watched() {
  const name = path.join(directory, 'watched');
  fs.writeFileSync(name, '');
  let changes = 0;
  const watcher = fs.watch(name, () => changes++);
  for (let number = 1; number <= 5; number++) {
    const before = changes;
    fs.appendFileSync(name, 'more\n');
    await until('a change of the file', () => changes > before);
  }
  watcher.close();
  fs.unlinkSync(name);
  return 5;
}

async function main() {
  const [tcp, unix, bytes, gone, packets, fired, read, changes] = await Promise.all([
    halfClosed(100, 0, '127.0.0.1'), halfClosed(50, path.join(directory, 'socket')), paused(), vanished(), datagrams(),
    timers(), files(), watched()]);
  return `${tcp} TCP and ${unix} UNIX connections half-closed, ${bytes} bytes with pauses, ${gone}, ` +
    `${packets} datagrams, ${fired} timers, ${read} files, ${changes} changes of a file`;
}

finish(main());
