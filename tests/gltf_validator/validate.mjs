// Prints the Khronos validator's report of every GLB named on the command line, as one JSON object by path.
import { readFile } from "node:fs/promises";
import validator from "gltf-validator";

const reports = {};
for (const path of process.argv.slice(2)) {
  const bytes = new Uint8Array(await readFile(path));
  const report = await validator.validateBytes(bytes, { maxIssues: 50 });
  reports[path] = report.issues;
}
console.log(JSON.stringify(reports));
