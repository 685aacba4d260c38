// Child processes: what goes through their pipes comes back, exit codes and signals are told, all are reaped.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const { exec, fork, spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const { finish, until } = require('./node-report.js');

// This file is the forked child as well.
if (process.argv[2] === 'child') {
  process.on('message', (message) => {
    if (message === 'end') process.exit(7);
    process.send({ square: message.number ** 2 });
  });
  return;
}

const ended = (child) => new Promise((resolve, reject) => {
  child.on('error', reject);
  child.on('close', (code, signal) => resolve({ code, signal }));
});

async function through(command, input) {
  const child = spawn(command[0], command.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] });
  const output = [];
  const errors = [];
  child.stdout.on('data', (chunk) => output.push(chunk));
  child.stderr.on('data', (chunk) => errors.push(chunk));
  child.stdin.on('error', (error) => assert.strictEqual(error.code, 'EPIPE'));
  child.stdin.end(input);
  const { code, signal } = await ended(child);
  return { code, signal, output: Buffer.concat(output), errors: Buffer.concat(errors).toString() };
}

async function pipes() {
  const input = crypto.randomBytes(2000000);
  const results = await Promise.all(Array.from({ length: 10 }, () => through(['cat'], input)));
  for (const result of results) {
    assert.strictEqual(result.code, 0);
    assert.ok(result.output.equals(input), 'cat gives back what it got');
  }
  return results.length;
}

async function codes() {
  const jobs = Array.from({ length: 100 }, async (_, number) => {
    const result = await through(['sh', '-c', `echo out ${number}; echo err ${number} >&2; exit ${number}`], '');
    assert.deepStrictEqual([result.code, result.output.toString(), result.errors],
      [number, `out ${number}\n`, `err ${number}\n`]);
  });
  await Promise.all(jobs);
  return jobs.length;
}

// The child that ends before it has read its input.
async function deaf() {
  const result = await through(['true'], Buffer.alloc(1000000));
  assert.strictEqual(result.code, 0);
}

async function killed() {
  const children = Array.from({ length: 10 }, () => spawn('sleep', ['100']));
  const ends = children.map(ended);
  for (const child of children) child.kill('SIGTERM');
  for (const end of await Promise.all(ends)) assert.deepStrictEqual(end, { code: null, signal: 'SIGTERM' });
  return children.length;
}

async function messages() {
  const child = fork(__filename, ['child']);
  const end = ended(child);
  let sum = 0;
  let answers = 0;
  child.on('message', ({ square }) => { answers++; sum += square; });
  for (let number = 1; number <= 1000; number++) child.send({ number });
  await until('answers of the forked child', () => answers === 1000);
  assert.strictEqual(sum, 333833500);
  child.send('end');
  assert.deepStrictEqual(await end, { code: 7, signal: null });
  return answers;
}

function synchronous() {
  const result = spawnSync('sh', ['-c', 'cat; exit 3'], { input: 'once and again' });
  assert.deepStrictEqual([result.status, result.stdout.toString()], [3, 'once and again']);
}

const shell = () => new Promise((resolve) => exec('echo one; exit 5', (error, stdout) => {
  assert.deepStrictEqual([error.code, stdout], [5, 'one\n']);
  resolve();
}));

async function main() {
  const [cats, exits, kills, answers] = await Promise.all([pipes(), codes(), killed(), messages(), deaf(), shell()]);
  synchronous();
  const left = fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8');
  assert.strictEqual(left, '', 'children that are left');
  return `${cats} pipes of 2 MB, ${exits} exit codes, ${kills} kills, ${answers} messages with a forked child`;
}

finish(main());
