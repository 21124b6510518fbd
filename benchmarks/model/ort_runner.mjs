#!/usr/bin/env node
// ONNX Runtime on one model, with the protocol of runner.cc: a line of JSON, then for each line with a number of milliseconds the median of a run.
// usage: ort_runner.mjs MODEL.onnx [--threads N]
import readline from 'node:readline';
import { inputTypes, loadRuntime, openSession, parseArguments, quantile, randomTensor, usage } from '../../tools/peers/ort.mjs';

const options = parseArguments(['threads']);
if (options._.length !== 1) usage('one MODEL.onnx is needed');
const ort = await loadRuntime();
const begin = performance.now();
const session = await openSession(ort, options._[0], options);
const load_ms = performance.now() - begin;
const feeds = Object.fromEntries(inputTypes(session).map((type) => [type.name, randomTensor(ort, type)]));
await session.run(feeds);
console.log(JSON.stringify({ load_ms }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  await session.run(feeds);
  const times = [];
  const end = performance.now() + Number(line);
  while (times.length < 3 || performance.now() < end) {
    const start = performance.now();
    await session.run(feeds);
    times.push(performance.now() - start);
  }
  console.log(quantile(times.sort((a, b) => a - b), 0.5));
}
