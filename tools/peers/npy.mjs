// NumPy's .npy files, as far as tensors of ONNX models need them: C order, little endian.
import fs from 'node:fs';

const KINDS = [
  // ONNX Runtime's type, NumPy's descriptor, the JavaScript array
  ['float32', '<f4', Float32Array], ['float64', '<f8', Float64Array], ['float16', '<f2', Uint16Array], ['int8', '|i1', Int8Array],
  ['uint8', '|u1', Uint8Array], ['int16', '<i2', Int16Array], ['uint16', '<u2', Uint16Array], ['int32', '<i4', Int32Array],
  ['uint32', '<u4', Uint32Array], ['int64', '<i8', BigInt64Array], ['uint64', '<u8', BigUint64Array], ['bool', '|b1', Uint8Array],
];

export function kindOf(type) {
  const kind = KINDS.find((k) => k[0] === type);
  if (!kind) throw new Error(`type ${type} has no .npy form here`);
  return kind;
}

// {type, dims, data}
export function readNpy(path) {
  const bytes = fs.readFileSync(path);
  if (bytes.length < 10 || bytes.toString('latin1', 0, 6) !== '\x93NUMPY') throw new Error(`${path}: not a .npy file`);
  const wide = bytes[6] >= 2;
  const begin = wide ? 12 : 10;
  const end = begin + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const header = bytes.toString('latin1', begin, end);
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1].replace('=', '<');
  const kind = KINDS.find((k) => k[1] === descr);
  if (!kind) throw new Error(`${path}: element type ${descr} is not supported`);
  if (!/'fortran_order':\s*False/.test(header)) throw new Error(`${path}: Fortran order is not supported`);
  const dims = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? '').split(',').map((s) => s.trim()).filter(Boolean).map(Number);
  const size = dims.reduce((a, b) => a * b, 1);
  const raw = bytes.subarray(end);
  if (raw.length < size * kind[2].BYTES_PER_ELEMENT) throw new Error(`${path}: shorter than its header says`);
  const data = new kind[2](new Uint8Array(raw.subarray(0, size * kind[2].BYTES_PER_ELEMENT)).buffer);
  return { type: kind[0], dims, data };
}

export function writeNpy(path, { type, dims, data }) {
  const shape = dims.length === 1 ? `(${dims[0]},)` : `(${dims.join(', ')})`;
  let header = `{'descr': '${kindOf(type)[1]}', 'fortran_order': False, 'shape': ${shape}, }`;
  header += ' '.repeat(63 - ((10 + header.length) % 64)) + '\n';
  const head = Buffer.alloc(10);
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(header.length, 8);
  fs.writeFileSync(path, Buffer.concat([head, Buffer.from(header, 'latin1'), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]));
}

// The name of the file that holds the output `name`: whatever a path could trip over becomes '_'.
export function fileNameOf(name) {
  return `${name.replace(/[^A-Za-z0-9._-]/g, '_')}.npy`;
}
