/** The polynomial of Castagnoli, its bits reversed. */
const POLYNOMIAL = 0x82f63b78;

/** Eight tables, to take eight bytes at a time: 0.3 µs for a record of 550 bytes, where one table takes 1 µs. */
const TABLES: readonly Int32Array[] = makeTables();

function makeTables(): Int32Array[] {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0][byte] = crc;
  }
  for (let byte = 0; byte < 256; byte++) {
    for (let i = 1; i < 8; i++) {
      const previous = tables[i - 1][byte];
      tables[i][byte] = (previous >>> 8) ^ tables[0][previous & 255];
    }
  }
  return tables;
}

/** The CRC-32C of some bytes. */
export function crc32c(given: Uint8Array): number {
  const bytes = given.byteOffset % 4 === 0 ? given : given.slice(); // words have to begin at a multiple of 4
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 3 << 1);
  let crc = -1;
  for (let i = 0; i < words.length; i += 2) {
    const first = crc ^ words[i];
    const second = words[i + 1];
    crc = t7[first & 255] ^ t6[(first >>> 8) & 255] ^ t5[(first >>> 16) & 255] ^ t4[first >>> 24] ^
      t3[second & 255] ^ t2[(second >>> 8) & 255] ^ t1[(second >>> 16) & 255] ^ t0[second >>> 24];
  }
  for (let i = 4 * words.length; i < bytes.length; i++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[i]) & 255];
  return (crc ^ -1) >>> 0;
}
