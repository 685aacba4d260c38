// An HTTP server for the load of node.sh: port, file to serve. Ends gracefully on TERM.
'use strict';
const fs = require('node:fs');
const http = require('node:http');

const body = fs.readFileSync(process.argv[3]);
let served = 0;
const server = http.createServer((request, response) => {
  served++;
  response.setHeader('content-length', body.length);
  response.end(body);
});
server.keepAliveTimeout = 60000;
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 1024 });
process.on('SIGTERM', () => {
  server.close(() => console.log(`SERVED ${served}`));
  server.closeIdleConnections();
});
