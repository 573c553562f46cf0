// Node's net module: a callback for each chunk that arrives, a write for each line.
//
//     node node.js PORT LOG|off
//
// Chunks are read as latin1, in which every byte is one character and stays what it was.
'use strict';

const fs = require('node:fs');
const net = require('node:net');

const AHEAD = 300n * 1_000_000_000n; // nanoseconds that a timestamp may lie in the future
const LINE_BYTES = 4096;
const LOCATION =
  /^[+-](\d{1,2}|\d{4}|\d{6})(\.\d+)?[+-](\d{1,3}|\d{5}|\d{7})(\.\d+)?([+-]\d+(\.\d+)?)?(CRSWGS_84)?\/?$/;
const TIMESTAMP = /^(\d{1,18})(?:\.(\d+))?$/;
const SPACE = /[ \t\r\f\v]+/;

function isAngle(digits, fraction, width, greatest) {
  const minutes = Number(digits.slice(width, width + 2));
  const seconds = Number(digits.slice(width + 2));
  const degrees = Number(digits.slice(0, width)) + minutes / 60 + seconds / 3600;
  const exact = fraction === undefined || /^\.0+$/.test(fraction);
  return minutes < 60 && seconds < 60 && (degrees < greatest || (degrees === greatest && exact));
}

function isLocation(text) {
  const parts = LOCATION.exec(text);
  return (
    parts !== null && text.length <= 64 &&
    isAngle(parts[1], parts[2], 2, 90) && isAngle(parts[3], parts[4], 3, 180)
  );
}

// Nanoseconds since 1970, or null. A Number would lose the last digits.
function timestampOf(text) {
  const parts = TIMESTAMP.exec(text);
  if (parts === null || text.length > 40) return null;
  const nanos = BigInt(parts[1] + (parts[2] ?? '').slice(0, 9).padEnd(9, '0'));
  return nanos <= BigInt(Date.now()) * 1_000_000n + AHEAD ? nanos : null;
}

const clients = new Map();

function answer(line) {
  const fields = line.split(SPACE).filter((field) => field !== '');
  if (fields.length === 4 && fields[0] === 'IAMAT' && fields[1].length <= 256) {
    const [, client, location, timestamp] = fields;
    const nanos = isLocation(location) ? timestampOf(timestamp) : null;
    if (nanos !== null) {
      const known = clients.get(client);
      if (known === undefined || known.nanos < nanos) clients.set(client, { nanos, location, timestamp });
      return `AT AT ${client} ${location} ${timestamp}\n`;
    }
  }
  return `? ${line}\n`;
}

const [port, log] = process.argv.slice(2);
const file = log === 'off' ? null : fs.createWriteStream(log, { flags: 'a' });
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
let stamp = { second: 0, text: '' };

// The stream buffers, so a record costs no system call of its own.
function info(message) {
  const second = Math.floor(Date.now() / 1000);
  if (second !== stamp.second) {
    const now = new Date(second * 1000);
    const two = (number) => String(number).padStart(2, '0');
    const date = `${two(now.getDate())}-${MONTHS[now.getMonth()]}-${two(now.getFullYear() % 100)}`;
    const time = `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
    stamp = { second, text: `${date} ${time} - INFO: ` };
  }
  file.write(`${stamp.text}${message}\n`, 'latin1');
}

const server = net.createServer({ noDelay: true }, (socket) => {
  const peer = `${socket.remoteAddress}:${socket.remotePort}`;
  let begun = '';
  if (file) info(`Client ${peer} is connected.`);
  socket.setEncoding('latin1');
  socket.on('data', (chunk) => {
    const lines = (begun + chunk).split('\n');
    begun = lines.pop();
    for (const whole of lines) {
      const line = whole.endsWith('\r') ? whole.slice(0, -1) : whole;
      if (file) info(`Received from ${peer}: ${line}`);
      const text = answer(line);
      socket.write(text, 'latin1');
      if (file) info(`Sent to ${peer}: ${text.slice(0, -1)}`);
    }
    if (begun.length > LINE_BYTES) socket.destroy();
  });
  socket.on('error', () => {});
  socket.on('close', () => file && info(`Client ${peer} is disconnected.`));
});
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 });
