// Makes a screenshot small: a PNG of 8-bit RGB or RGBA becomes one with a palette of at most 256 of its colours.

import { readFile, writeFile } from "node:fs/promises";
import { crc32, deflateSync, inflateSync } from "node:zlib";

/** Squared distance in RGB up to which two colours are taken for one. */
const NEAR = 64;
const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);

/** Rewrites the PNG `from` as `to`. */
export async function shrink(from, to) {
  const { width, height, pixels } = decode(await readFile(from));
  const counts = new Map();
  for (const colour of pixels) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const parts = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const distance = (a, b) => parts(a).reduce((sum, part, i) => sum + (part - parts(b)[i]) ** 2, 0);
  // Colours that look like one another have one place, so that there are some left for gradients.
  const palette = [];
  for (const [colour] of [...counts].sort((a, b) => b[1] - a[1]))
    if (palette.length < 256 && palette.every((other) => distance(other, colour) > NEAR)) palette.push(colour);
  const closest = (colour) => palette.reduce((best, other, i) => (distance(other, colour) < distance(palette[best], colour) ? i : best), 0);
  const indices = new Map([...counts.keys()].map((colour) => [colour, closest(colour)]));
  const rows = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = indices.get(pixels[y * width + x]);
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  // 8 bits, a palette.
  head.set([8, 3, 0, 0, 0], 8);
  const chunks = [["IHDR", head], ["PLTE", Buffer.from(palette.flatMap(parts))], ["IDAT", deflateSync(rows, { level: 9 })], ["IEND", Buffer.alloc(0)]];
  await writeFile(to, Buffer.concat([SIGNATURE, ...chunks.map(chunk)]));
}

function chunk([name, data]) {
  const named = Buffer.concat([Buffer.from(name, "latin1"), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, sum]);
}

/** Width, height and the colours of a PNG without interlacing, row by row; what is transparent is taken as opaque. */
function decode(png) {
  const [width, height, channels] = [png.readUInt32BE(16), png.readUInt32BE(20), png[25] === 6 ? 4 : 3];
  const data = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at))
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") data.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  const packed = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const bytes = new Uint8Array(height * stride);
  for (let y = 0; y < height; y++) {
    const filter = packed[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const left = x < channels ? 0 : bytes[y * stride + x - channels];
      const up = y ? bytes[(y - 1) * stride + x] : 0;
      const corner = y && x >= channels ? bytes[(y - 1) * stride + x - channels] : 0;
      const paeth = () => {
        const [a, b, c] = [left, up, corner].map((one) => Math.abs(left + up - corner - one));
        return a <= b && a <= c ? left : b <= c ? up : corner;
      };
      const guess = [0, left, up, (left + up) >> 1, filter === 4 ? paeth() : 0][filter];
      bytes[y * stride + x] = packed[y * (stride + 1) + 1 + x] + guess;
    }
  }
  const colour = (_, i) => (bytes[i * channels] << 16) | (bytes[i * channels + 1] << 8) | bytes[i * channels + 2];
  return { width, height, pixels: Uint32Array.from({ length: width * height }, colour) };
}
