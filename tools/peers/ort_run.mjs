#!/usr/bin/env node
// Runs a model in ONNX Runtime: .npy in, one .npy for each output.
// usage: ort_run.mjs MODEL.onnx --input NAME=FILE.npy ... --output DIR [--threads N] [--optimize all|extended|basic|disabled]
import fs from 'node:fs';
import path from 'node:path';
import { fileNameOf, readNpy, writeNpy } from './npy.mjs';
import { loadRuntime, openSession, parseArguments, usage } from './ort.mjs';

const options = parseArguments(['output', 'threads', 'optimize'], ['input']);
if (options._.length !== 1 || !options.output) usage('one MODEL.onnx and --output DIR are needed');
const ort = await loadRuntime();
const session = await openSession(ort, options._[0], options);
const feeds = {};
for (const text of options.input) {
  const split = text.indexOf('=');
  if (split < 1) usage(`--input ${text}: NAME=FILE.npy is needed`);
  const { type, dims, data } = readNpy(text.slice(split + 1));
  feeds[text.slice(0, split)] = new ort.Tensor(type, data, dims);
}
const results = await session.run(feeds);
fs.mkdirSync(options.output, { recursive: true });
for (const name of session.outputNames) {
  const { type, dims, data } = results[name];
  const file = path.join(options.output, fileNameOf(name));
  writeNpy(file, { type, dims, data });
  console.log(`${name} ${type}[${dims}] -> ${file}`);
}
