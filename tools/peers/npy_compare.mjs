#!/usr/bin/env node
// How far two arrays of one shape are apart.
// usage: npy_compare.mjs A.npy B.npy [--top1 PERCENT] [--max DIFFERENCE]
// One JSON object on stdout: equal, max_difference, rms_difference, sqnr_db, and with a last axis top1 (percent of rows with the same greatest
// value). Code 1 where top1 is less than --top1 or the difference more than --max.
import { readNpy } from './npy.mjs';
import { parseArguments, usage } from './ort.mjs';

const options = parseArguments(['top1', 'max']);
if (options._.length !== 2) usage('two .npy files are needed');
const [a, b] = options._.map(readNpy);
if (a.dims.join() !== b.dims.join()) usage(`shapes differ: [${a.dims}] and [${b.dims}]`, 1);

let max = 0, squares = 0, signal = 0;
for (let i = 0; i < a.data.length; i++) {
  const difference = Math.abs(Number(a.data[i]) - Number(b.data[i]));
  if (!(difference <= max)) max = difference;
  squares += difference ** 2;
  signal += Number(a.data[i]) ** 2;
}
const width = a.dims.at(-1) ?? 1;
const rows = a.data.length / width;
const place = (data, row) => {
  let best = 0;
  for (let i = 1; i < width; i++) if (data[row * width + i] > data[row * width + best]) best = i;
  return best;
};
let same = 0;
for (let row = 0; row < rows; row++) if (place(a.data, row) === place(b.data, row)) same++;
const top1 = (100 * same) / rows;
console.log(JSON.stringify({ equal: max === 0, max_difference: max, rms_difference: Math.sqrt(squares / a.data.length), sqnr_db: squares > 0 ? 10 * Math.log10(signal / squares) : null, rows, top1 }));
if (options.top1 && !(top1 >= Number(options.top1))) usage(`top-1 agrees on ${top1.toFixed(2)} % of the rows, less than ${options.top1} %`, 1);
if (options.max && !(max <= Number(options.max))) usage(`the largest difference is ${max}, more than ${options.max}`, 1);
