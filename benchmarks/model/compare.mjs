#!/usr/bin/env node
// nibble and ONNX Runtime on the same models, side by side: rounds in turn, medians of the rounds' medians, ratios within a round.
// usage: compare.mjs [--nibble PROGRAM] [--threads N] [--rounds N] FLOAT.onnx INT8.onnx [FLOAT.onnx INT8.onnx ...]
// The int8 file is the same for both engines (nibble quantize writes it). Pin to cores with taskset: `taskset -c 0 benchmarks/model/compare.mjs ...`.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, '..', '..');
const options = { nibble: path.join(root, 'build/release/cli/nibble'), threads: '1', rounds: '5' };
const files = [];
for (let words = process.argv.slice(2); words.length > 0;) {
  const word = words.shift();
  if (!word.startsWith('--')) files.push(word);
  else if (word.slice(2) in options && words.length > 0) options[word.slice(2)] = words.shift();
  else fail(`unknown option ${word}, or no value for it; known: ${Object.keys(options).map((name) => `--${name}`).join(' ')}`);
}
if (files.length === 0 || files.length % 2 !== 0) fail('give pairs of files: FLOAT.onnx INT8.onnx');

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(2);
}

function json(program, args) {
  try {
    return JSON.parse(execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
  } catch (error) {
    console.error(`error: ${program} ${args.join(' ')} failed${error.status === 77 ? ' (ONNX Runtime is not installed: run tools/peers/setup)' : ''}`);
    process.exit(error.status ?? 1);
  }
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const nibble = (file) => json(options.nibble, ['benchmark', file, '--threads', options.threads, '--json']).median_ms;
const peers = (float, int8) => json('node', [path.join(root, 'tools/peers/ort_bench.mjs'), float, int8, '--threads', options.threads, '--seconds', '1']).models.map((m) => m.median_ms);

const columns = ['ORT float', 'ORT int8', 'nibble float', 'nibble int8'];
console.log(`${options.threads} thread(s), ${options.rounds} rounds, ms; ratios are medians over the rounds`);
console.log(['model'.padEnd(32), ...columns.map((c) => c.padStart(12)), 'int8/ORT int8'.padStart(15), 'int8/ORT float'.padStart(15), 'float/ORT float'.padStart(16), 'int8/own float'.padStart(15)].join(' '));
for (let i = 0; i < files.length; i += 2) {
  const rounds = [];
  for (let round = 0; round < Number(options.rounds); round++) {
    const [ortFloat, ortInt8] = peers(files[i], files[i + 1]);
    rounds.push([ortFloat, ortInt8, nibble(files[i]), nibble(files[i + 1])]);
  }
  const ratio = (a, b) => median(rounds.map((r) => r[a] / r[b])).toFixed(2);
  const times = columns.map((_, c) => median(rounds.map((r) => r[c])).toFixed(2).padStart(12));
  console.log([path.basename(files[i], '.onnx').padEnd(32), ...times, ratio(3, 1).padStart(15), ratio(3, 0).padStart(15), ratio(2, 0).padStart(16), ratio(3, 2).padStart(15)].join(' '));
}
