#!/usr/bin/env node
// Latency of models in ONNX Runtime, side by side: in each round every model runs once, so that a change of the machine's speed meets all alike.
// usage: ort_bench.mjs MODEL.onnx [MODEL.onnx ...] [--threads N] [--batch N] [--seconds S]
// One JSON object on stdout: threads, batch, rounds, models[{model, median_ms, p10_ms, p90_ms, ratio}]; ratio is the median over the rounds of
// this model's time by the first model's.
import { loadRuntime, inputTypes, openSession, parseArguments, quantile, randomTensor, usage } from './ort.mjs';

const options = parseArguments(['threads', 'batch', 'seconds', 'optimize']);
if (options._.length < 1) usage('at least one MODEL.onnx is needed');
const ort = await loadRuntime();
const threads = Number(options.threads ?? 1), batch = Number(options.batch ?? 1), seconds = Number(options.seconds ?? 3);

const models = [];
for (const file of options._) {
  const session = await openSession(ort, file, { threads, optimize: options.optimize });
  const feeds = Object.fromEntries(inputTypes(session, batch).map((type) => [type.name, randomTensor(ort, type)]));
  for (let i = 0; i < 3; i++) await session.run(feeds);
  models.push({ file, session, feeds, times: [], ratios: [] });
}
const end = performance.now() + seconds * 1000;
let rounds = 0;
while (rounds < 5 || performance.now() < end) {
  for (const model of models) {
    const start = performance.now();
    await model.session.run(model.feeds);
    model.times.push(performance.now() - start);
    model.ratios.push(model.times.at(-1) / models[0].times.at(-1));
  }
  rounds++;
}
const summary = models.map(({ file, times, ratios }) => {
  const sorted = [...times].sort((a, b) => a - b);
  const ratio = quantile([...ratios].sort((a, b) => a - b), 0.5);
  return { model: file, median_ms: quantile(sorted, 0.5), p10_ms: quantile(sorted, 0.1), p90_ms: quantile(sorted, 0.9), ratio };
});
console.log(JSON.stringify({ threads, batch, rounds, models: summary }));
