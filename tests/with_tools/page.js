// Drives Chromium for page.rs: it reads one command a line from standard input, as JSON, and answers each with one line.
// When its input ends, it closes the browser and ends.
//
//     node page.js FOLDER CHROMIUM      (an empty folder for the browser's profile, and the browser)
'use strict';
const { readFileSync } = require('node:fs');
const { createInterface } = require('node:readline');
const puppeteer = require('puppeteer-core');

const AXE = readFileSync(require.resolve('axe-core'), 'utf8');
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
// What the page sees of the time in the background: a minute of it takes a tenth of a second.
const QUICK = `
  const usual = window.setTimeout;
  window.setTimeout = (act, time, ...rest) => usual(act, time === 60000 ? 100 : time, ...rest);
`;
const VIOLATIONS = `
  window.violations = [];
  document.addEventListener('securitypolicyviolation', event =>
    window.violations.push(event.violatedDirective + ' ' + event.blockedURI));
`;

let browser, page, devtools;
let problems = [], requested = [], size = { width: 1000, height: 900 };

async function open({ url, script = true, quick = false }) {
  await page?.close();
  page = await browser.newPage();
  await page.setViewport(size);
  devtools = await page.createCDPSession();
  [problems, requested] = [[], []];
  page.on('console', message => problems.push(`console: ${message.text()}`));
  page.on('pageerror', error => problems.push(`error: ${error.message}`));
  page.on('request', request => requested.push(request.url()));
  page.on('requestfailed', request => problems.push(`failed: ${request.url()} ${request.failure()?.errorText}`));
  await page.evaluateOnNewDocument(VIOLATIONS);
  if (quick) await page.evaluateOnNewDocument(QUICK);
  await page.setJavaScriptEnabled(script);
  await page.goto(url, { waitUntil: 'domcontentloaded' });
}

// Not in the page itself, whose policy forbids to evaluate a text.
async function wait({ until, time }) {
  const end = Date.now() + time;
  for (;;) {
    const value = await page.evaluate(until);
    if (value) return value;
    if (Date.now() > end) {
      const text = await page.evaluate('document.body.innerText');
      throw new Error(`still not so: ${until}\nproblems: ${problems.join('\n')}\npage: ${text.slice(0, 3000)}`);
    }
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

async function axe() {
  await page.evaluate(AXE);
  const found = await page.evaluate('axe.run()');
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.html.slice(0, 200)} ${node.failureSummary}`)}`);
}

async function heap() {
  await devtools.send('HeapProfiler.collectGarbage');
  return (await page.metrics()).JSHeapUsedSize;
}

const commands = {
  open,
  wait,
  axe,
  heap,
  size: async ({ width }) => { size = { width, height: 900 }; },
  media: ({ features }) => devtools.send('Emulation.setEmulatedMedia', { features }),
  evaluate: ({ text }) => page.evaluate(text),
  press: ({ key }) => page.keyboard.press(key),
  tree: () => page.accessibility.snapshot({ interestingOnly: false }),
  problems: async () => problems.concat(await page.evaluate('window.violations')),
  requested: async () => requested,
  picture: ({ path }) => page.screenshot({ path, fullPage: true }).then(() => null),
};

async function main() {
  browser = await puppeteer.launch({ executablePath: process.argv[3], userDataDir: process.argv[2], args: FLAGS });
  try {
    for await (const line of createInterface({ input: process.stdin })) {
      const { act, ...rest } = JSON.parse(line);
      const answer = await commands[act](rest).then(value => ({ value: value ?? null }), error => ({ error: error.message }));
      process.stdout.write(`${JSON.stringify(answer)}\n`);
    }
  } finally {
    await browser.close();
  }
}

main().catch(error => {
  process.stdout.write(`${JSON.stringify({ error: `the browser: ${error.message}` })}\n`);
  process.exitCode = 1;
});
