// Recomputes every field of the vector file in JavaScript, the language whose rules it records:
//
//     node tests/vectors/check.mjs tests/vectors/seed.tsv
//
// Says how many texts agree, or which lines do not.

import { readFileSync } from 'node:fs';

// The engine's own meaning of `i`, `\s` and `length` is what is asked for; the rest is spelled out.
const RULES = [
  /<script(?![0-9A-Za-z_])[^]*?<\/script>/gi,
  /javascript:/gi,
  /on[0-9A-Za-z_]+\s*=/gi,
];

const path = process.argv[2];
if (!path) {
  console.error('usage: node check.mjs FILE');
  process.exit(2);
}

// "ab"*3+"c"
function text(notation) {
  let read = '';
  let end = 0;
  for (const term of notation.matchAll(/("(?:[^"\\]|\\.)*")(?:\*([0-9]+))?(?:\+|$)/gy)) {
    read += JSON.parse(term[1]).repeat(Number(term[2] ?? 1));
    end = term.index + term[0].length;
  }
  if (end !== notation.length) throw new Error(`not a text: ${notation}`);
  return read;
}

const lines = readFileSync(path, 'utf8').split('\n');
const wrong = [];
let texts = 0;
lines.forEach((line, index) => {
  if (line === '' || line.startsWith('#')) return;
  const fields = line.split('\t');
  const input = text(fields[0]);
  const sanitized = RULES.reduce((rest, rule) => rest.replaceAll(rule, ''), input);
  const harmful = RULES.some((rule) => input.search(rule) >= 0);
  const request = sanitized.length > 10000 ? 'too_long' : sanitized === input ? 'clean' : 'sanitized';
  const response = harmful ? 'blocked' : input.length > 50000 ? 'too_long' : 'clean';
  const same = [
    (fields[1] === '=' ? input : text(fields[1])) === sanitized,
    fields[2] === request,
    fields[3] === response,
    fields[4] === String(input.length),
    fields[5] === String(sanitized.length),
    fields.length === 6,
  ];
  texts += 1;
  if (same.includes(false)) wrong.push(`line ${index + 1}: ${line.slice(0, 200)}`);
});

if (wrong.length > 0) {
  console.log(`${wrong.length} of ${texts} texts differ:\n${wrong.join('\n')}`);
  process.exit(1);
}
console.log(`${texts} texts: all fields agree`);
