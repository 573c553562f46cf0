'use strict';
// The page of a server. It opens one stream of events and shows what it says. Every text from outside, such as the id
// of a client, is only ever set as the content of a text node, so none of it can become a part of the page.

const $ = id => document.getElementById(id);
const WAIT = 2000;              // until the next attempt, ms
const SILENCE = 8000;           // a stream that says nothing for so long is lost, ms
const BACKGROUND = 60000;       // a page that nobody sees closes its stream, ms
const NEWS = 5000;              // between two announcements, ms
const RECORDS = 200, TURNS = 240, DOTS = 2000, ROWS = 200, NODES = 60, EDGE_TEXTS = 12;

// ---- elements

const fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const tag = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const shape = (name, attributes = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };

// ---- words

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const count = (number, one) => `${whole.format(number)} ${one}${number === 1 ? '' : 's'}`;

function span(seconds) {
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

function turnTime(microseconds) {
  if (microseconds < 1000) return `${Math.round(microseconds)} µs`;
  const short = number => number < 10 ? number.toFixed(1) : Math.round(number);
  return microseconds < 1e6 ? `${short(microseconds / 1000)} ms` : `${short(microseconds / 1e6)} s`;
}

const degrees = (value, positive, negative) => `${Math.abs(value).toFixed(4)}° ${value < 0 ? negative : positive}`;
const latitude = value => degrees(value, 'N', 'S');
const longitude = value => degrees(value, 'E', 'W');

// ---- what the server has said

let herd = { own: 0, servers: [], edges: [] };
let links = [];
let turns = [];
let samples = [];               // uptime and lines, for the rate
let cells = new Map();          // number -> { count, rect }
let dots = new Map();           // number -> { latitude, longitude, id, circle }, the latest last
let map = null;                 // whether positions are shown, and how many clients are counted
let known = 0;                  // clients

// ---- the connection

let source = null, heard = 0, isPaused = false, isAsleep = false, sleeper = 0, epoch = '';

function say(state, text) {
  $('connection').dataset.state = state;
  write($('connection'), text);
}

function connect() {
  disconnect();
  if (isPaused || isAsleep) return;
  heard = Date.now();
  const opened = source = new EventSource('events');
  const on = (name, show) => opened.addEventListener(name, event => {
    if (opened !== source) return;
    heard = Date.now();
    show(JSON.parse(event.data));
  });
  on('state', state => { showState(state); say('connected', 'connected'); });
  on('delta', showDelta);
  on('log', addRecords);
  on('leaving', () => lose('not connected: the server stops'));
  opened.onerror = () => { if (opened === source) lose('not connected'); };
}

function disconnect() {
  source?.close();
  source = null;
}

function lose(text) {
  disconnect();
  if ($('connection').dataset.state === 'connected') announce('server', 'The server is not connected');
  say('lost', text);
}

// One place decides when to try again, whatever has gone wrong.
setInterval(() => {
  if (source && Date.now() - heard > SILENCE) lose('not connected: the server says nothing');
}, 1000);
setInterval(() => { if (!source && !isPaused && !isAsleep) connect(); }, WAIT);

function pause() {
  isPaused = !isPaused;
  $('pause').setAttribute('aria-pressed', isPaused);
  write($('pause'), isPaused ? 'Go on' : 'Pause');
  if (isPaused) {
    disconnect();
    say('paused', 'paused');
  } else {
    say('waiting', 'connecting');
    connect();
  }
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(sleeper);
  if (document.hidden) {
    sleeper = setTimeout(() => { isAsleep = true; disconnect(); say('paused', 'asleep in the background'); }, BACKGROUND);
  } else if (isAsleep) {
    isAsleep = false;
    if (isPaused) say('paused', 'paused');
    else { say('waiting', 'connecting'); connect(); }
  }
});

// ---- events

function showState(state) {
  if (epoch && epoch !== state.epoch) announce('server', `${state.server} was started again`);
  epoch = state.epoch;
  herd = state.herd;
  map = state.positions ? { counted: 0 } : null;
  turns = [];
  samples = [];
  document.title = `${state.server} · herd-mio`;
  write($('server'), state.server);
  $('run').dataset.words = `herd-mio ${state.version} · epoch ${state.epoch}`;
  $('numbers').hidden = $('controls').hidden = false;
  cells = new Map();
  dots = new Map();
  $('cells').replaceChildren();
  $('dots').replaceChildren();
  placeNodes();
  showDelta(state);
  $('log').replaceChildren();
  held = [];
  addRecords(state.log);
}

function showDelta(delta) {
  showNumbers(delta.numbers);
  if (delta.links) showLinks(delta.links);
  if (delta.turns.length) addTurns(delta.turns);
  if (delta.map) moveClients(delta.map);
  describeMap();
}

function showNumbers(numbers) {
  known = numbers.clients;
  const phase = numbers.phase === 'running' ? '' : ` · ${numbers.phase}`;
  write($('run'), `${$('run').dataset.words} · up for ${span(numbers.uptime)}${phase}`);
  write($('clients'), whole.format(numbers.clients));
  write($('connections'), whole.format(numbers.connections));
  samples.push([numbers.uptime, numbers.lines]);
  samples = samples.slice(-9);
  const [[from, before], [to, now]] = [samples[0], samples.at(-1)];
  write($('rate'), to > from ? whole.format((now - before) / (to - from)) : '–');
  showKept(numbers.kept);
  $('trouble').hidden = numbers.trouble.length === 0;
  const list = $('trouble').querySelector('ul');
  if (list.dataset.shown !== numbers.trouble.join('\n')) {
    list.dataset.shown = numbers.trouble.join('\n');
    list.replaceChildren(...numbers.trouble.map(reason => tag('li', {}, reason)));
  }
}

// ---- the state directory and the engine

const KEPT = ['the state directory', 'the engine'];
const keptStates = new Map();

function showKept(kept) {
  $('kept').hidden = !kept;
  if (!kept) return;
  const rows = [kept.disk && diskRow(kept.disk), kept.engine && engineRow(kept.engine)];
  rows.forEach((row, at) => {
    const before = keptStates.get(at);
    if (row && before && before !== row.state) announce(KEPT[at], `State of ${KEPT[at]}: ${row.state}`);
    keptStates.set(at, row?.state);
  });
  const shown = rows.filter(Boolean);
  const body = $('kept-rows');
  while (body.rows.length > shown.length) body.deleteRow(-1);
  while (body.rows.length < shown.length) {
    body.append(tag('tr', {}, tag('th', { scope: 'row' }), ...Array.from({ length: 4 }, () => tag('td'))));
  }
  shown.forEach(({ name, state, isWell, behind, ack, details }, at) => {
    const cells = body.rows[at].cells;
    [name, state, behind, ack ? 'wait for it' : 'do not wait for it', details]
      .forEach((text, place) => write(cells[place], text));
    cells[1].className = isWell ? 'up' : 'down';
  });
  write($('kept-text'), `${count(kept.held, 'answer')} ${kept.held === 1 ? 'waits' : 'wait'} until what is confirmed is kept.`);
}

const diskRow = disk => ({
  name: 'State directory', state: disk.failing ? 'failing' : 'works', isWell: !disk.failing, ack: disk.ack,
  behind: disk.unwritten ? count(disk.unwritten, 'change') : 'nothing',
  details: disk.failing ? `it can't be written: ${disk.reason ?? 'the log says why'}`
    : `${whole.format(disk.bytes / 1000)} kB${disk.commit > 0 ? `, last commit ${turnTime(disk.commit * 1e6)}` : ''}`,
});

const engineRow = engine => ({
  name: 'Engine', state: engine.state.replace('_', ' '), isWell: engine.state === 'in_sync', ack: engine.ack,
  behind: [engine.pending && `${whole.format(engine.pending)} to read`,
    engine.in_flight && `${whole.format(engine.in_flight)} to be acknowledged`].filter(Boolean).join(', ') || 'nothing',
  details: [engine.version && `NATS ${engine.version}`, engine.address && `at ${engine.address}`].filter(Boolean).join(' ')
    + (engine.reason ? `${engine.address ? '; ' : ''}${engine.reason}` : ''),
});

// ---- links

const stateOf = link => link.up ? 'up' : 'down';

function lagOf(link) {
  if (!link.up) return link.lag > 0 ? `down for ${span(link.lag)}` : '';
  return link.lag < 1 ? 'none' : `${span(link.lag)} behind`;
}

function reasonOf(link) {
  if (link.up) return '';
  const direction = link.out === 'up' ? 'it does not send to us' : link.in === 'up' ? 'it sends to us' : '';
  return [link.reason ?? 'it has not answered yet', direction].filter(Boolean).join('; ');
}

function showLinks(now) {
  for (const link of now) {
    const before = links.find(other => other.neighbour === link.neighbour);
    if (before && before.up !== link.up) {
      const reason = link.up ? '' : `: ${reasonOf(link)}`;
      announce(link.neighbour, `Link with ${link.neighbour} is ${stateOf(link)}${reason}`);
    }
  }
  links = now;
  write($('links-up'), `${links.filter(link => link.up).length} of ${links.length}`);
  $('links-rows').replaceChildren(...links.map(link => tag('tr', {},
    tag('th', { scope: 'row' }, nameOf(link.neighbour)),
    tag('td', { class: stateOf(link) }, stateOf(link)),
    tag('td', {}, lagOf(link)),
    tag('td', {}, reasonOf(link)))));
  drawEdges();
}

function nameOf(name) {
  const page = herd.servers.find(server => server.name === name)?.page;
  return page ? tag('a', { href: page }, name) : name;
}

// ---- the graph

let nodes = [];                 // { place, x, y } of the servers that are drawn, x and y from 0 to 1
let width = 400, height = 300;

// Each pair of servers wants to be as far apart as there are edges between them; some rounds of moving each to where
// the others want it settle that. Without a random number, so that a herd always looks the same.
function placeNodes() {
  const near = new Set([herd.own]);
  for (const [a, b] of herd.edges) if (a === herd.own || b === herd.own) near.add(a).add(b);
  const all = [...herd.servers.keys()];
  const drawn = all.length <= NODES ? all : all.filter(place => near.has(place)).slice(0, NODES);
  const next = new Map(drawn.map(place => [place, []]));
  for (const [a, b] of herd.edges) { next.get(a)?.push(b); next.get(b)?.push(a); }
  const far = drawn.map(from => distances(from, next, drawn));
  nodes = drawn.map((place, at) => {
    const angle = 2 * Math.PI * at / drawn.length - Math.PI / 2;
    return { place, x: Math.cos(angle), y: Math.sin(angle) };
  });
  for (let round = 0; round < 80; round++) nodes.forEach((node, at) => settle(node, at, far[at]));
  turn();
  describeGraph(drawn.length);
}

function distances(from, next, drawn) {
  const found = new Map([[from, 0]]);
  for (const place of found.keys()) {
    for (const other of next.get(place) ?? []) {
      if (next.has(other) && !found.has(other)) found.set(other, found.get(place) + 1);
    }
  }
  return drawn.map(place => found.get(place) ?? 4);
}

function settle(node, at, far) {
  let [x, y, sum] = [0, 0, 0];
  nodes.forEach((other, place) => {
    if (place === at) return;
    const [dx, dy] = [node.x - other.x, node.y - other.y];
    const [length, weight] = [Math.hypot(dx, dy) || 1e-3, 1 / far[place] ** 2];
    x += weight * (other.x + far[place] * dx / length);
    y += weight * (other.y + far[place] * dy / length);
    sum += weight;
  });
  if (sum > 0) [node.x, node.y] = [x / sum, y / sum];
}

// Of some directions in which the herd can be seen, the one in which names have the most room.
function turn() {
  const views = Array.from({ length: 18 }, (_, step) => {
    const [sin, cos] = [Math.sin(step * Math.PI / 18), Math.cos(step * Math.PI / 18)];
    const view = nodes.map(({ place, x, y }) => ({ place, x: x * cos - y * sin, y: x * sin + y * cos }));
    stretch(view);
    return view;
  });
  nodes = views.map(view => [room(view), view]).sort((a, b) => b[0] - a[0])[0][1];
}

function stretch(view) {
  for (const axis of ['x', 'y']) {
    const values = view.map(node => node[axis]);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    for (const node of view) node[axis] = most - least < 1e-6 ? .5 : (node[axis] - least) / (most - least);
  }
}

// A name is about five times as wide as high.
function room(view) {
  let least = 9;
  view.forEach((a, at) => view.slice(at + 1).forEach(b => {
    least = Math.min(least, Math.hypot(a.x - b.x, (a.y - b.y) * 2));
  }));
  return least;
}

function describeGraph(drawn) {
  const others = herd.edges.filter(edge => !edge.includes(herd.own));
  const rest = herd.servers.length - drawn;
  write($('graph-text'), `${count(herd.servers.length, 'server')}${rest ? `, of which ${rest} are not drawn` : ''}. `
    + 'The links of this server are live; what others have between them is not known here.');
  const named = ([a, b]) => tag('li', {}, nameOf(herd.servers[a].name), ' – ', nameOf(herd.servers[b].name),
    ': not known here');
  $('edges').replaceChildren(...others.slice(0, ROWS).map(named));
  $('edges-details').hidden = others.length === 0;
}

// The widest box is 126 units wide.
const across = node => 64 + node.x * (width - 128);
const down = node => 26 + node.y * (height - 52);

function drawEdges() {
  const byPlace = new Map(nodes.map(node => [node.place, node]));
  const isFew = herd.edges.filter(edge => !edge.includes(herd.own)).length <= EDGE_TEXTS;
  const [lines, texts] = [[], []];
  for (const [a, b] of herd.edges) {
    const [from, to] = [byPlace.get(a), byPlace.get(b)];
    if (!from || !to) continue;
    const other = a === herd.own ? b : b === herd.own ? a : null;
    const link = other === null ? null : links.find(link => link.neighbour === herd.servers[other].name);
    const state = link ? stateOf(link) : 'unknown';
    lines.push(shape('path', { class: `edge ${state}`,
      d: `M${across(from).toFixed(1)} ${down(from).toFixed(1)}L${across(to).toFixed(1)} ${down(to).toFixed(1)}` }));
    const isShort = Math.hypot(across(from) - across(to), down(from) - down(to)) < 130;
    if (!link && (!isFew || isShort)) continue;
    const text = !link ? 'not known here' : link.up && link.lag < 1 ? 'up'
      : link.up ? `up, ${lagOf(link)}` : `down${link.lag > 0 ? ` for ${span(link.lag)}` : ''}`;
    const label = shape('text', { class: `of-edge ${state}`, x: ((across(from) + across(to)) / 2).toFixed(1),
      y: ((down(from) + down(to)) / 2 + 4).toFixed(1) }, text);
    if (link && !link.up) label.append(shape('title', {}, reasonOf(link)));
    texts.push(label);
  }
  $('graph').replaceChildren(...lines, ...texts, ...nodes.map(drawNode));
}

function drawNode(node) {
  const server = herd.servers[node.place];
  // Names of a large herd differ at their ends.
  const name = server.name.length > 14 ? `${server.name.slice(0, 6)}…${server.name.slice(-7)}` : server.name;
  const wide = name.length * 7.4 + 22;
  const isOwn = node.place === herd.own;
  const page = isOwn ? null : server.page;
  const box = shape('g', { class: `node${isOwn ? ' own' : ''}${page ? ' linked' : ''}` },
    shape('title', {}, isOwn ? `${server.name}, this server` : server.name),
    shape('rect', { x: (across(node) - wide / 2).toFixed(1), y: (down(node) - 15).toFixed(1),
      width: wide.toFixed(1), height: 30, rx: 8 }),
    shape('text', { x: across(node).toFixed(1), y: (down(node) + 4).toFixed(1) }, name));
  // The table has the same link for the keyboard.
  return page ? shape('a', { href: page, tabindex: -1, 'aria-hidden': true }, box) : box;
}

// ---- turns

const TURN_TICKS = [[10, '10 µs'], [100, '100 µs'], [1e3, '1 ms'], [1e4, '10 ms'], [1e5, '100 ms']];
let turnsWidth = 600;
const bars = Array.from({ length: TURNS }, () => shape('rect', { width: 0, height: 0 }));
const grid = shape('path');
const ticks = TURN_TICKS.map(([, text]) => shape('text', {}, text));

function addTurns(durations) {
  turns = turns.concat(durations).slice(-TURNS);
  const sorted = [...turns].sort((a, b) => a - b);
  const at = part => turnTime(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]);
  write($('p99-short'), at(.99));
  write($('turns-text'), `The last ${count(turns.length, 'turn')}: p50 ${at(.5)}, p99 ${at(.99)}, `
    + `longest ${turnTime(sorted.at(-1))}.`);
  drawTurns();
}

// From 1 µs to 1 s, 20 units for each factor of ten.
const tall = microseconds => Math.max(2, Math.min(120, Math.log10(Math.max(1, microseconds)) * 20));

function drawTurns() {
  const step = (turnsWidth - 46) / TURNS;
  bars.forEach((bar, place) => {
    const duration = turns[turns.length - TURNS + place];
    const high = duration === undefined ? 0 : tall(duration);
    bar.setAttribute('x', (46 + place * step).toFixed(2));
    bar.setAttribute('y', (126 - high).toFixed(1));
    bar.setAttribute('width', Math.max(.5, step * .72).toFixed(2));
    bar.setAttribute('height', high.toFixed(1));
    bar.setAttribute('class', duration > 1e4 ? 'slow' : '');
  });
}

function drawGrid() {
  $('turns').setAttribute('viewBox', `0 0 ${turnsWidth} 132`);
  grid.setAttribute('d', TURN_TICKS.map(([tick]) => `M46 ${126 - tall(tick)}H${turnsWidth}`).join('') + `M46 126H${turnsWidth}`);
  ticks.forEach((text, place) => {
    text.setAttribute('x', 0);
    text.setAttribute('y', 130 - tall(TURN_TICKS[place][0]));
  });
}
$('turns').append(grid, ...ticks, ...bars);

// ---- clients

function moveClients(change) {
  if (map) map.counted = change.counted;
  for (const number of change.gone ?? []) {
    dots.get(number)?.circle.remove();
    dots.delete(number);
  }
  const isCalm = change.dots.length <= 50;
  for (const [number, lat, lng, id] of change.dots) moveDot(number, lat, lng, id, isCalm);
  for (const [number, clients] of change.cells) countCell(number, clients);
  showCells();
  if ($('clients-details').open) showClients();
}

function moveDot(number, lat, lng, id, isCalm) {
  const before = dots.get(number);
  const circle = before?.circle ?? shape('circle', {}, shape('title'));
  circle.setAttribute('cx', (lng * 10).toFixed(1));
  circle.setAttribute('cy', (-lat * 10).toFixed(1));
  write(circle.firstChild, id);
  circle.classList.toggle('moved', Boolean(before) && isCalm);
  dots.delete(number);
  dots.set(number, { lat, lng, id, circle });
  if (!before) $('dots').append(circle);
}
$('dots').addEventListener('animationend', event => event.target.classList.remove('moved'));

function countCell(number, clients) {
  const cell = cells.get(number) ?? { count: 0, rect: null };
  cell.count = clients;
  cells.set(number, cell);
  if (clients === 0) {
    cell.rect?.remove();
    cells.delete(number);
  } else if (cell.rect) shade(cell);
}

const shade = cell => cell.rect.setAttribute('fill-opacity', Math.min(.9, .18 + Math.log10(cell.count) * .2).toFixed(2));

// As long as each client is a dot, the cells say nothing more.
function showCells() {
  const isMany = Boolean(map) && map.counted > DOTS;
  $('dots').classList.toggle('many', isMany || dots.size > 400);
  if (!isMany) {
    for (const cell of cells.values()) { cell.rect?.remove(); cell.rect = null; }
    return;
  }
  for (const [number, cell] of cells) {
    if (cell.rect) continue;
    cell.rect = shape('rect', { x: number % 360 * 10 - 1800, y: Math.floor(number / 360) * 10 - 900, width: 10, height: 10 });
    shade(cell);
    $('cells').append(cell.rect);
  }
}

function describeMap() {
  if (!map) {
    write($('map-text'), `${count(known, 'client')} known. This server shows no positions: [admin] positions is not set.`);
    return;
  }
  const latest = [...dots.values()].at(-1);
  const counted = map.counted < known ? `, of which ${whole.format(map.counted)} are counted so far` : '';
  const many = map.counted > DOTS ? ` Squares of one degree show how many; dots are the ${whole.format(dots.size)} that changed last.` : '';
  const last = latest ? ` The latest change: ${latest.id} at ${latitude(latest.lat)}, ${longitude(latest.lng)}.` : '';
  write($('map-text'), known === 0 ? 'No client is known yet.' : `${count(known, 'client')} known${counted}.${many}${last}`);
}

function showClients() {
  const latest = [...dots.values()].slice(-ROWS).sort((a, b) => a.id < b.id ? -1 : 1);
  const rest = known > latest.length ? `, of ${whole.format(known)}` : '';
  write($('clients-caption'), `The ${count(latest.length, 'client')} that changed last${rest}`);
  const rows = $('clients-rows');
  while (rows.rows.length > latest.length) rows.deleteRow(-1);
  while (rows.rows.length < latest.length) {
    rows.append(tag('tr', {}, tag('th', { scope: 'row' }), tag('td'), tag('td')));
  }
  latest.forEach((dot, at) => {
    const texts = [dot.id, latitude(dot.lat), longitude(dot.lng)];
    texts.forEach((text, place) => write(rows.rows[at].cells[place], text));
  });
  showDensest();
}

function showDensest() {
  const isMany = Boolean(map) && map.counted > DOTS;
  $('cells-table').hidden = !isMany;
  if (!isMany) return;
  const densest = [...cells].sort((a, b) => b[1].count - a[1].count).slice(0, 20);
  $('cells-rows').replaceChildren(...densest.map(([number, cell]) => {
    const [north, west] = [90 - Math.floor(number / 360), number % 360 - 180];
    const side = (value, positive, negative) => `${Math.abs(value)}° ${value < 0 ? negative : positive}`;
    return tag('tr', {},
      tag('th', { scope: 'row' }, `${side(north - 1, 'N', 'S')} to ${side(north, 'N', 'S')}, ${side(west, 'E', 'W')} to ${side(west + 1, 'E', 'W')}`),
      tag('td', {}, whole.format(cell.count)));
  }));
}
$('clients-details').addEventListener('toggle', () => { if ($('clients-details').open) showClients(); });

// ---- the log

let isHeld = false, held = [];

function addRecords(records) {
  if (isHeld) {
    held = held.concat(records).slice(-RECORDS);
    return;
  }
  const log = $('log');
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(...records.slice(-RECORDS).map(([, time, level, target, text]) => tag('p', { class: level.toLowerCase() },
    tag('time', {}, new Date(time).toLocaleTimeString('en-GB')),
    tag('span', { class: 'level' }, level),
    tag('span', { class: 'target' }, target),
    tag('span', { class: 'text' }, text))));
  while (log.childElementCount > RECORDS) log.firstElementChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

$('log-pause').addEventListener('click', () => {
  isHeld = !isHeld;
  $('log-pause').setAttribute('aria-pressed', isHeld);
  write($('log-pause'), isHeld ? 'Continue the log' : 'Pause the log');
  if (!isHeld) {
    addRecords(held);
    held = [];
  }
});
$('level').addEventListener('change', () => {
  $('log').dataset.level = $('level').value;
  $('log').scrollTop = $('log').scrollHeight;
});

// ---- announcements: at most one in some seconds; of each subject only the latest counts

const news = new Map();
let announced = 0, announcer = 0;

function announce(subject, text) {
  news.delete(subject);
  news.set(subject, text);
  if (!announcer) announcer = setTimeout(tell, Math.max(0, announced + NEWS - Date.now()));
}

function tell() {
  [announcer, announced] = [0, Date.now()];
  const texts = [...news.values()];
  const more = texts.length > 3 ? ` And ${texts.length - 3} more changes.` : '';
  write($('news'), `${new Date().toLocaleTimeString('en-GB')} ${texts.slice(-3).join('. ')}.${more}`);
  news.clear();
}

// ---- keys and sizes

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey || $('keys').open) return;
  const isControl = event.target.closest('button, select, summary, a, input');
  if (event.key === ' ' && !isControl) {
    event.preventDefault();
    pause();
  } else if (event.key === '?') {
    $('keys').showModal();
  }
});
$('pause').addEventListener('click', pause);
$('help').addEventListener('click', () => $('keys').showModal());

// Texts in these two drawings are as large as everywhere: a unit is a pixel.
const sizes = new ResizeObserver(entries => {
  for (const { target, contentRect } of entries) {
    if (contentRect.width < 1) continue;
    if (target.id === 'turns') {
      turnsWidth = Math.round(contentRect.width);
      drawGrid();
      drawTurns();
    } else {
      width = Math.round(contentRect.width);
      height = Math.round(Math.min(380, Math.max(230, width * .72)));
      target.setAttribute('viewBox', `0 0 ${width} ${height}`);
      drawEdges();
    }
  }
});
sizes.observe($('turns'));
sizes.observe($('graph'));

fetch('land.svg').then(answer => answer.text()).then(text => {
  const land = new DOMParser().parseFromString(text, 'image/svg+xml').getElementById('land');
  $('land').setAttribute('d', land.getAttribute('d'));
}).catch(() => {}); // Without it the map has no land, and the dots are where they are.

drawGrid();
connect();
