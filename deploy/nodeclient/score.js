// Asks ml-engine, or any other server of the Open Inference Protocol, for the score of one state:
//
//   npm ci
//   node score.js 127.0.0.1:4010 simulated 1,0.3,-0.2,0.1,0.4,0.5,-1
//
// It asks with typed and with raw contents, prints the score, and exits 1 if the two differ.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, model, vector] = process.argv.slice(2);
if (!vector) {
  console.error("usage: node score.js ADDRESS MODEL VALUE,VALUE,...");
  process.exit(2);
}
const proto = fileURLToPath(new URL("../../pkg/oip/proto/inference/inference.proto", import.meta.url));
const { inference } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, longs: Number }));
const client = new inference.GRPCInferenceService(address, grpc.credentials.createInsecure());

// call returns the answer of a method within five seconds.
const call = (method, request) => new Promise((resolve, reject) => {
  client[method](request, { deadline: Date.now() + 5000 }, (error, answer) => (error ? reject(error) : resolve(answer)));
});

// infer returns the score of the values and the version of the model.
async function infer(values, raw) {
  const input = { name: "input", datatype: "FP64", shape: [1, values.length] };
  const request = { model_name: model, inputs: [input] };
  if (raw) {
    request.raw_input_contents = [Buffer.from(Float64Array.from(values).buffer)]; // little-endian wherever Node runs
  } else {
    input.contents = { fp64_contents: values };
  }
  const answer = await call("ModelInfer", request);
  const score = raw ? answer.raw_output_contents[0].readDoubleLE(0) : answer.outputs[0].contents.fp64_contents[0];
  return { score, version: answer.model_version };
}

const values = vector.split(",").map(Number);
const { ready } = await call("ModelReady", { name: model });
if (!ready) {
  throw new Error(`model ${model} is not ready`);
}
const [typed, raw] = [await infer(values, false), await infer(values, true)];
console.log(`${model} ${typed.version} scores ${typed.score}`);
if (typed.score !== raw.score) {
  console.error(`with raw contents ${raw.score}`);
  process.exitCode = 1;
}
client.close();
