#!/usr/bin/env node
// Accuracy of a classifier in ONNX Runtime on samples that preprocess.py wrote (a folder with labels.csv and one .npy a sample).
// usage: ort_eval.mjs MODEL.onnx --data DIR [--samples N] [--reference OTHER.onnx] [--against LOGITS.npy] [--save LOGITS.npy] [--threads N]
// One JSON object on stdout: samples, top1, top5 (percent), agreement with --reference or with the rows of --against.
import fs from 'node:fs';
import path from 'node:path';
import { readNpy, writeNpy } from './npy.mjs';
import { loadRuntime, openSession, parseArguments, usage } from './ort.mjs';

const options = parseArguments(['data', 'samples', 'reference', 'against', 'save', 'threads', 'optimize']);
if (options._.length !== 1 || !options.data) usage('one MODEL.onnx and --data DIR are needed');
const ort = await loadRuntime();

const table = fs.readFileSync(path.join(options.data, 'labels.csv'), 'utf8').trim().split(/\r?\n/).slice(1).map((row) => row.split(','));
const rows = options.samples ? table.slice(0, Number(options.samples)) : table;

// Places of the n greatest, greatest first; of equal ones the earlier.
function top(values, n) {
  return [...values.keys()].sort((a, b) => Number(values[b]) - Number(values[a]) || a - b).slice(0, n);
}

const session = await openSession(ort, options._[0], options);
const reference = options.reference ? await openSession(ort, options.reference, options) : null;
const against = options.against ? readNpy(options.against) : null;
const saved = [];
let right = 0, right5 = 0, agree = 0;
for (const [index, [file, label]] of rows.entries()) {
  const sample = readNpy(path.join(options.data, file));
  const run = async (s) => {
    // A sample without its batch axis gets one.
    const rank = s.inputMetadata[0].shape.length;
    const dims = sample.dims.length === rank - 1 ? [1, ...sample.dims] : sample.dims;
    return Array.from((await s.run({ [s.inputNames[0]]: new ort.Tensor(sample.type, sample.data, dims) }))[s.outputNames[0]].data, Number);
  };
  const logits = await run(session);
  const best = top(logits, 5);
  if (best[0] === Number(label)) right++;
  if (best.includes(Number(label))) right5++;
  if (reference && top(await run(reference), 1)[0] === best[0]) agree++;
  if (against) {
    const width = against.data.length / against.dims[0];
    if (top(Array.from(against.data.subarray(index * width, (index + 1) * width), Number), 1)[0] === best[0]) agree++;
  }
  if (options.save) saved.push(...logits);
}
if (options.save) writeNpy(options.save, { type: 'float32', dims: [rows.length, saved.length / rows.length], data: Float32Array.from(saved) });
const percent = (count) => (100 * count) / rows.length;
const result = { samples: rows.length, top1: percent(right), top5: percent(right5) };
if (reference || against) result.agreement = percent(agree);
console.log(JSON.stringify(result));
