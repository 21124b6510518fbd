// What the ort_*.mjs programs share: the command line, ONNX Runtime itself, sessions, random inputs.
import process from 'node:process';
import { kindOf } from './npy.mjs';

export const SKIPPED = 77;  // what ctest takes for "skipped"

// One line for a user's mistake, not a stack.
process.on('uncaughtException', (error) => usage(String(error.message).split('\n')[0], 1));

// ONNX Runtime, or a loud end with code 77 where it is not installed.
export async function loadRuntime() {
  try {
    return (await import('onnxruntime-node')).default;
  } catch (error) {
    console.error(`skipped: onnxruntime-node is not installed; run tools/peers/setup (${error.message.split('\n')[0]})`);
    process.exit(SKIPPED);
  }
}

// {_: positional arguments, name: value}. Options take one value; those of `repeated` collect theirs in a list.
export function parseArguments(known, repeated = []) {
  const result = { _: [] };
  for (const name of repeated) result[name] = [];
  const words = process.argv.slice(2);
  while (words.length > 0) {
    const word = words.shift();
    if (!word.startsWith('--')) {
      result._.push(word);
      continue;
    }
    const name = word.slice(2);
    if (!known.includes(name) && !repeated.includes(name)) usage(`unknown option ${word}; known: ${[...known, ...repeated].map((n) => `--${n}`).join(' ')}`);
    if (words.length === 0) usage(`${word} needs a value`);
    if (repeated.includes(name)) result[name].push(words.shift());
    else result[name] = words.shift();
  }
  return result;
}

export function usage(message, code = 2) {
  console.error(`error: ${message}`);
  process.exit(code);
}

export async function openSession(ort, path, { threads = 1, optimize = 'all' } = {}) {
  return ort.InferenceSession.create(path, {
    intraOpNumThreads: Number(threads), interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: optimize, logSeverityLevel: 3,
  });
}

// Name -> {type, dims}; axes without a size become `batch` where they come first, 1 elsewhere.
export function inputTypes(session, batch = 1) {
  return session.inputMetadata.map(({ name, type, shape }) => ({
    name, type, dims: shape.map((size, axis) => (typeof size === 'number' && size > 0 ? size : axis === 0 ? Number(batch) : 1)),
  }));
}

// Deterministic values in [-1, 1), or 0..255 for 8-bit integers (xorshift).
export function randomTensor(ort, { type, dims }, seed = 1) {
  const size = dims.reduce((a, b) => a * b, 1);
  const data = new (kindOf(type)[2])(size);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < size; i++) {
    state ^= state << 13; state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5; state >>>= 0;
    const unit = state / 2 ** 32;
    if (type.startsWith('float')) data[i] = unit * 2 - 1;
    else if (type === 'int8' || type === 'uint8') data[i] = state & 255;
    else if (type.endsWith('64')) data[i] = BigInt(state & 1);
    else data[i] = state & 1;
  }
  return new ort.Tensor(type, data, dims);
}

export function quantile(sorted, fraction) {
  const at = (sorted.length - 1) * fraction;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}
