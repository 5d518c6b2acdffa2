// Classify photos with ONNX Runtime Web, in Node or a browser: node classify.mjs PHOTO.ppm...
//
// Needs: npm install onnxruntime-web. In a page, take the pixels of a canvas: getImageData(...).data is R, G, B, A.

import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";

/** R, G, B bytes, row by row -> [class, score] pairs, best first. */
export async function classify(session, rgb, height, width) {
  const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const found = await session.run({ image });
  if (found.classes) {
    return Array.from(found.classes.data, (index, i) => [Number(index), found.scores.data[i]]);
  }
  const values = (found.probabilities ?? found.logits).data;
  return Array.from(values, (value, index) => [index, value]).sort((a, b) => b[1] - a[1]).slice(0, 5);
}

/** R, G, B, A bytes, as a canvas has them -> R, G, B. */
export function withoutAlpha(rgba) {
  return rgba.filter((_, i) => i % 4 !== 3);
}

function readPpm(bytes) {
  const header = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 64).toString("latin1"));
  if (!header) throw new Error("not a binary PPM of 8 bits");
  return { width: Number(header[1]), height: Number(header[2]), rgb: new Uint8Array(bytes.subarray(header[0].length)) };
}

const session = await ort.InferenceSession.create(await readFile(new URL("../ship/@FILE@", import.meta.url)));
for (const path of process.argv.slice(2)) {
  const { rgb, height, width } = readPpm(await readFile(path));
  const best = await classify(session, rgb, height, width);
  console.log(path, ...best.map(([index, value]) => `${index}:${value.toFixed(4)}`));
}
