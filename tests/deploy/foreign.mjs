// Judges objects of kinds that Kubernetes learns of others, a JSON list on stdin, by the schemas of those:
//   node tests/deploy/foreign.mjs FOLDER_WITH_NODE_MODULES
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

// One of the two packages is made of modules of the old kind, one of the new.
const folder = resolve(process.argv[2], "node_modules");
const require = createRequire(`${folder}/`);
const { Certificate } = require("@kubernetes-models/cert-manager/cert-manager.io/v1/Certificate");
const monitoring = `${folder}/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index.js`;
const { ServiceMonitor } = await import(pathToFileURL(monitoring));
const kinds = { ServiceMonitor, Certificate };

for (const object of JSON.parse(readFileSync(0))) {
  try {
    new kinds[object.kind](object).validate();
  } catch (error) {
    console.error(`${object.kind}: ${error.message}`);
    process.exitCode = 1;
  }
}
