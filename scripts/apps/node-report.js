// The end of each node-*.js: prints `RESULT` where all went well and nothing is left in the event loop.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');

exports.sockets = () => fs.readdirSync('/proc/self/fd').filter((number) => {
  try {
    return fs.readlinkSync(`/proc/self/fd/${number}`).startsWith('socket:');
  } catch {
    return false; // the directory itself, closed by now
  }
}).length;

exports.sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Until the condition holds; a clock of its own, as what is waited for may be what is broken.
exports.until = async (what, condition) => {
  const end = Date.now() + 10000;
  while (!condition()) {
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await exports.sleep(5);
  }
};

const before = exports.sockets();

exports.finish = (promise) => {
  let result;
  promise.then((text) => { result = text; }).catch((error) => {
    console.log(error.stack);
    process.exit(1);
  });
  // Comes only when the loop has run empty: what is left open keeps the process, and the script's time limit tells.
  process.on('exit', () => {
    if (result === undefined) return;
    assert.strictEqual(exports.sockets(), before, 'sockets that are left');
    console.log(`RESULT ${result}`);
  });
};
