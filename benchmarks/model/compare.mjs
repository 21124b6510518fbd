#!/usr/bin/env node
// nibble, ONNX Runtime and oneDNN on the same networks, side by side. Every engine is a process of its own; in every round each of them runs for a slice of
// time in turn, so that a change of the machine's speed meets all alike. Times are medians, ratios are medians of the rounds' ratios.
//
//   benchmarks/model/compare.mjs                                   five networks, one and two threads, each figure beside the bar that it is to pass
//   benchmarks/model/compare.mjs FLOAT.onnx INT8.onnx ...          these files instead, in pairs
//
//   --only NAME,...    of the five (and `dynamic`)          --threads 1,2      --seconds S    of each network [6]      --slice MS [40]
//   --isa avx2         nibble's and oneDNN's instruction set, e.g. avx2; ONNX Runtime, which always takes the best, is left out
//   --prepare          only make the files                  --work DIR         where they lie [build/benchmark]
//   --json FILE        everything measured                  --build DIR        nibble, built with -DNIBBLE_BUILD_BENCHMARKS=ON [build/release]
//
// The int8 file is nibble's default export (per channel, QDQ), one for all engines. Networks are taken from NIBBLE_ASSETS where it has them, the others are
// generated (tools/models) and calibrated on noise. One thread is pinned to one processor, two to two, where there is taskset.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, '..', '..');
const options = { only: '', threads: '1,2', seconds: '6', slice: '40', isa: '', work: path.join(root, 'build/benchmark'), json: '', build: path.join(root, 'build/release') };
const flags = { prepare: false };
const files = [];
for (let words = process.argv.slice(2); words.length > 0;) {
  const word = words.shift();
  const name = word.slice(2);
  if (!word.startsWith('--')) files.push(word);
  else if (name in flags) flags[name] = true;
  else if (name in options && words.length > 0) options[name] = words.shift();
  else fail(`unknown option ${word}, or no value for it; known: ${[...Object.keys(options), ...Object.keys(flags)].map((n) => `--${n}`).join(' ')}`);
}
if (files.length % 2 !== 0) fail('give pairs of files: FLOAT.onnx INT8.onnx');
const threadCounts = options.threads.split(',').map(Number);
const assets = process.env.NIBBLE_ASSETS ?? path.join(root, '../shared/assets');
const nibble = path.join(options.build, 'cli/nibble');
const runner = path.join(options.build, 'benchmarks/model/nibble_model_runner');
for (const program of [nibble, runner]) if (!fs.existsSync(program)) fail(`${program} is missing: cmake --preset release -DNIBBLE_BUILD_BENCHMARKS=ON && cmake --build --preset release`);

function fail(message, code = 2) {
  console.error(`error: ${message}`);
  process.exit(code);
}

function run(program, args) {
  try {
    execFileSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  } catch (error) {
    fail(`${program} ${args.join(' ')} failed`, error.status ?? 1);
  }
}

// --- The networks, and what is asked of them ------------------------------------------------------------------------------------------------------

// int8: time by ONNX Runtime's for the same file, one thread and two; float: time by ONNX Runtime's float; scaling: one thread's time by two threads'.
const networks = {
  mobilenet_v2: { asset: 'mobilenet_v2_1.0_224', int8: 0.67, int8Two: 0.75, float: 0.3, scaling: 1.6 },
  mobilenet_v1: { int8: 0.72, int8Two: 0.8, float: 0.3 },
  'squeezenet1.1': { asset: 'squeezenet1.1_gluon', int8: 0.67, int8Two: 0.75, float: 0.3 },
  resnet18: { int8: 0.86, int8Two: 0.9, float: 0.3 },
  resnet50: { int8: 0.88, int8Two: 0.9, float: 0.3, scaling: 1.8 },
};
const dynamicFile = path.join(assets, 'prequantized/mobilenetv2_torchvision_dynamic_int8.onnx');

// The float file and nibble's export of it, made where they are missing or older than the program.
function prepare(name) {
  fs.mkdirSync(options.work, { recursive: true });
  const { asset } = networks[name];
  const trained = asset && path.join(assets, 'models', `${asset}.onnx`);
  const float = trained && fs.existsSync(trained) ? trained : path.join(options.work, `${name}.onnx`);
  if (!fs.existsSync(float)) run('/usr/bin/python3', [path.join(root, 'tools/models/generate.py'), options.work, name]);
  const int8 = path.join(options.work, `${name}.int8.onnx`);
  if (!fs.existsSync(int8) || fs.statSync(int8).mtimeMs < fs.statSync(nibble).mtimeMs) {
    const data = float === trained ? [path.join(assets, 'imagenet/calibration'), '--samples', '20'] : ['random', '--samples', '8'];
    run(nibble, ['quantize', float, '-o', int8, '--calibrate-method', 'min_max', '--data', ...data]);
  }
  return { name, float, int8, bars: networks[name] };
}

function chosen() {
  if (files.length > 0) return files.flatMap((file, i) => (i % 2 === 0 ? [{ name: path.basename(file, '.onnx'), float: file, int8: files[i + 1], bars: {} }] : []));
  const names = options.only ? options.only.split(',') : [...Object.keys(networks), 'dynamic'];
  return names.flatMap((name) => {
    if (name !== 'dynamic') return name in networks ? [prepare(name)] : fail(`unknown network ${name}; known: ${Object.keys(networks).join(' ')} dynamic`);
    if (!fs.existsSync(dynamicFile)) return console.log(`dynamic: skipped, ${dynamicFile} is missing`) ?? [];
    return [{ name, float: prepare('mobilenet_v2').float, int8: dynamicFile, bars: { dynamic: true } }];
  });
}

// --- Engines --------------------------------------------------------------------------------------------------------------------------------------

const onednnNames = { avx2: 'AVX2', avxvnni: 'AVX2_VNNI', avx512vnni: 'AVX512_CORE_VNNI' };
const environment = { ...process.env };
if (options.isa) {
  environment.NIBBLE_FORCE_ISA = options.isa;
  if (options.isa in onednnNames) environment.ONEDNN_MAX_CPU_ISA = onednnNames[options.isa];
}
const pins = fs.existsSync('/usr/bin/taskset');

class Engine {
  constructor(label, threads, command) {
    Object.assign(this, { label, threads, times: [] });
    const words = pins && threads <= os.cpus().length ? ['taskset', '-c', [...Array(threads).keys()].join(','), ...command] : command;
    this.process = spawn(words[0], [...words.slice(1), '--threads', String(threads)], { env: environment, stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
    this.process.on('close', (code) => { if (!this.ended) fail(`${words.join(' ')} ended early${code === 77 ? ' (run tools/peers/setup)' : ''}`, code || 1); });
  }
  async facts() {
    this.said = JSON.parse((await this.lines.next()).value);
  }
  async slice(milliseconds) {
    this.process.stdin.write(`${milliseconds}\n`);
    this.times.push(Number((await this.lines.next()).value));
  }
  end() {
    this.ended = true;
    this.process.kill();
  }
  get ms() {
    return median(this.times);
  }
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const ratio = (a, b) => median(a.times.map((time, round) => time / b.times[round]));

async function measure({ float, int8, bars }) {
  const engines = {};
  for (const threads of threadCounts) {
    const ort = (file) => ['node', path.join(here, 'ort_runner.mjs'), file];
    // One after the other: loading is timed too.
    const add = async (key, label, command) => {
      const engine = new Engine(label, threads, command);
      await engine.facts();
      engines[`${key}${threads}`] = engine;
    };
    if (!options.isa) await add('ortFloat', 'ONNX Runtime float', ort(float));
    if (!options.isa) await add('ortInt8', 'ONNX Runtime int8', ort(int8));
    await add('nibbleFloat', 'nibble float', [runner, float]);
    await add('nibbleInt8', 'nibble int8', [runner, int8]);
    if (!bars.dynamic) await add('onednn', 'oneDNN int8, convolutions alone', [runner, int8, '--onednn']);
  }
  const all = Object.values(engines);
  const end = performance.now() + 1000 * Number(options.seconds);
  for (let rounds = 0; rounds < 5 || performance.now() < end; rounds++) for (const engine of all) await engine.slice(Number(options.slice));
  for (const engine of all) engine.end();
  return engines;
}

// --- The table ------------------------------------------------------------------------------------------------------------------------------------

const rows = [];  // {what, bar, figure, holds}
function judge(what, figure, bar, below = true) {
  if (bar !== undefined) rows.push({ what, bar: `${below ? '<=' : '>='} ${bar}`, figure, holds: below ? figure <= bar : figure >= bar });
}

function report(model, e) {
  console.log(`\n${model.name}: ${path.basename(model.float)}, ${path.basename(model.int8)}; ${e[Object.keys(e)[0]].times.length} rounds, ms`);
  const head = threadCounts.map((n) => `${n} thread${n > 1 ? 's' : ''}`.padStart(10)).join(' ');
  const base = options.isa ? 'nibbleFloat' : 'ortInt8';
  console.log(`  ${''.padEnd(34)} ${head}   time by ${e[`${base}${threadCounts[0]}`].label}'s`);
  for (const key of ['ortFloat', 'ortInt8', 'nibbleFloat', 'nibbleInt8', 'onednn']) {
    if (!(`${key}${threadCounts[0]}` in e)) continue;
    const times = threadCounts.map((n) => e[`${key}${n}`].ms.toFixed(3).padStart(10)).join(' ');
    const ratios = threadCounts.map((n) => ratio(e[`${key}${n}`], e[`${base}${n}`]).toFixed(2)).join(', ');
    console.log(`  ${e[`${key}${threadCounts[0]}`].label.padEnd(34)} ${times}   ${ratios}`);
  }
  const { said } = e[`nibbleInt8${threadCounts[0]}`];
  const mb = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  console.log(`  nibble int8 (${said.isa}): read ${said.load_ms.toFixed(1)} ms, lowered ${said.lower_ms.toFixed(1)} ms; arena ${mb(said.arena_bytes)}, largest live pair ${mb(said.largest_live_bytes)}, weights ${mb(said.weight_bytes)}`);
  const { bars, name } = model;
  const one = threadCounts.includes(1), two = threadCounts.includes(2);
  if (options.isa) {
    if (files.length === 0) for (const n of threadCounts) judge(`${name}, ${options.isa}, ${n} thread(s): int8 / own float`, ratio(e[`nibbleInt8${n}`], e[`nibbleFloat${n}`]), 1);
    return;
  }
  if (bars.dynamic) {
    for (const n of threadCounts) judge(`dynamic MobileNetV2, ${n} thread(s): / ONNX Runtime float`, ratio(e[`nibbleInt8${n}`], e[`ortFloat${n}`]), 1);
    for (const n of threadCounts) judge(`dynamic MobileNetV2, ${n} thread(s): / ONNX Runtime's own run`, ratio(e[`nibbleInt8${n}`], e[`ortInt8${n}`]), 0.1);
    return;
  }
  if (one) {
    judge(`${name}, 1 thread: int8 / ONNX Runtime int8`, ratio(e.nibbleInt81, e.ortInt81), bars.int8);
    judge(`${name}, 1 thread: int8 / ONNX Runtime float`, ratio(e.nibbleInt81, e.ortFloat1), bars.float);
    if (bars.int8) judge(`${name}: ONNX Runtime's own int8 / float`, ratio(e.ortInt81, e.ortFloat1), 0.55);
  }
  if (two) judge(`${name}, 2 threads: int8 / ONNX Runtime int8`, ratio(e.nibbleInt82, e.ortInt82), bars.int8Two);
  if (one && two) judge(`${name}: one thread's time by two threads'`, ratio(e.nibbleInt81, e.nibbleInt82), bars.scaling, false);
  if (name === 'mobilenet_v2') {
    judge(`${name}: start, read and lowered, ms`, said.load_ms + said.lower_ms, 50);
    judge(`${name}: arena by the largest live pair`, said.arena_bytes / said.largest_live_bytes, 1.3);
  }
}

const models = chosen();
if (flags.prepare) process.exit(0);
const cpu = os.cpus()[0]?.model ?? 'unknown processor';
console.log(`${cpu}${options.isa ? `, held to ${options.isa}` : ''}; slices of ${options.slice} ms`);
const measured = [];
for (const model of models) {
  const engines = await measure(model);
  report(model, engines);
  measured.push({ ...model, engines: Object.values(engines).map(({ label, threads, times, said }) => ({ label, threads, median_ms: median(times), times, ...said })) });
}
if (rows.length > 0) {
  const width = Math.max(...rows.map((r) => r.what.length));
  console.log(`\n${'what'.padEnd(width)}  ${'bar'.padStart(8)}  ${'figure'.padStart(8)}`);
  for (const r of rows) console.log(`${r.what.padEnd(width)}  ${r.bar.padStart(8)}  ${r.figure.toFixed(3).padStart(8)}  ${r.holds ? '' : 'short'}`.trimEnd());
}
if (options.json) fs.writeFileSync(options.json, `${JSON.stringify({ cpu, isa: options.isa || null, models: measured, rows }, null, 1)}\n`);
