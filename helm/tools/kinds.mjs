// Validates manifests of kinds that Kubernetes itself does not have, with their own models.
// In: a JSON list of manifests on standard input. Out: a JSON list of strings or nulls, one for each:
// what is wrong with it. Unknown fields are not seen here: the types see those.
import { createRequire } from "node:module";
import { PodMonitor, PrometheusRule, ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { BackendTrafficPolicy } from "@kubernetes-models/envoy-gateway/gateway.envoyproxy.io/v1alpha1";

const require = createRequire(import.meta.url); // older packages whose ES modules Node can't resolve
const { ScaledObject } = require("@kubernetes-models/keda/keda.sh/v1alpha1");
const { GRPCRoute } = require("@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2");

const models = [PodMonitor, PrometheusRule, ServiceMonitor, BackendTrafficPolicy, ScaledObject, GRPCRoute];

function problem(manifest) {
  const model = models.find((m) => m.kind === manifest.kind && m.apiVersion === manifest.apiVersion);
  if (!model) return `no model of ${manifest.apiVersion} ${manifest.kind}`;
  try {
    new model(manifest).validate();
    return null;
  } catch (error) {
    return String(error.message);
  }
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
console.log(JSON.stringify(JSON.parse(Buffer.concat(chunks)).map(problem)));
