// Asks executor for decisions, one for each line of standard input, which is an id and the values of a state:
//
//   npm ci && npm run build
//   node build/decide.js 127.0.0.1:4020 5 <<<'order-1 1,0.3,-0.2,0.1,0.4,0.5,-1'
//
// The second argument is how many milliseconds a decision may take. The first line is asked by a call of Predict, the others
// over a stream of Decide, which is reopened when it ends.
import { createInterface } from "node:readline";
import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";
import type { ProtoGrpcType } from "./gen/decision.js";
import type { DecideRequest } from "./gen/greenlight/executor/v1/DecideRequest.js";
import type { DecideResponse__Output as Answer } from "./gen/greenlight/executor/v1/DecideResponse.js";
import type { DecisionServiceClient } from "./gen/greenlight/executor/v1/DecisionService.js";
import type { PredictRequest } from "./gen/greenlight/executor/v1/PredictRequest.js";

const maxUnanswered = 64; // further messages of a stream would wait in executor
const options = {
  "grpc.client_idle_timeout_ms": 2 ** 31 - 1, // no handshake after a quiet hour
  "grpc.initial_reconnect_backoff_ms": 50, "grpc.max_reconnect_backoff_ms": 1000,
  "grpc-node.flow_control_window": 64 << 10, // the same as in executor
};
type Stream = ReturnType<DecisionServiceClient["Decide"]>;

function failed(code: grpc.status, message: string): Answer {
  return { sequence: 0, result: "error", error: { code, reason: "", message, metadata: {} } };
}

// Decider asks over one stream. Requests without an answer fail when the stream ends. They are not sent again: it may be too late.
class Decider {
  private stream: Stream | undefined; // undefined while there is no stream
  private sequence = 0;
  private backoff = 50;
  private closed = false;
  private readonly waiting = new Map<number, (answer: Answer) => void>();

  constructor(private readonly client: DecisionServiceClient) { this.stream = this.open(); }

  private open(): Stream {
    const stream = this.client.Decide();
    stream.on("data", (answer: Answer) => {
      this.backoff = 50;
      this.waiting.get(answer.sequence)?.(answer);
      this.waiting.delete(answer.sequence);
    });
    stream.on("error", () => {}); // status follows
    stream.on("status", ({ code, details }: grpc.StatusObject) => {
      for (const lost of this.waiting.values()) lost(failed(grpc.status.UNAVAILABLE, `no answer: ${grpc.status[code]}: ${details}`));
      this.waiting.clear();
      this.stream = undefined;
      if (this.closed) return;
      setTimeout(() => { this.stream = this.open(); }, this.backoff * (0.5 + Math.random() / 2)); // so that not all clients reconnect at once
      this.backoff = Math.min(2 * this.backoff, 1000);
    });
    return stream;
  }

  decide(request: PredictRequest, timeout: number): Promise<Answer> {
    if (this.waiting.size >= maxUnanswered) return Promise.resolve(failed(grpc.status.RESOURCE_EXHAUSTED, "too many are unanswered"));
    const stream = this.stream;
    if (!stream) return Promise.resolve(failed(grpc.status.UNAVAILABLE, "there is no stream now"));
    const sequence = ++this.sequence, at = Date.now() + timeout;
    const message: DecideRequest = { sequence, request, deadline: { seconds: Math.floor(at / 1000), nanos: (at % 1000) * 1e6 } };
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(failed(grpc.status.DEADLINE_EXCEEDED, "no answer in time")), timeout);
      this.waiting.set(sequence, (answer) => { clearTimeout(timer); resolve(answer); });
      stream.write(message);
    });
  }

  close() { this.closed = true; this.stream?.end(); }
}

function show(name: string, { error, response }: Answer) {
  if (error) {
    console.log(`${name} ${grpc.status[error.code]} ${`${error.reason} ${error.message}`.trim()}`);
  } else if (response) {
    const gate = response.gate; // only while a model may decide
    const reason = gate && gate.fallbackReason !== "FALLBACK_REASON_UNSPECIFIED" ? `, ${gate.fallbackReason}` : "";
    const who = gate ? `, decided by ${gate.decidedBy}, baseline ${gate.baselineScore.toFixed(6)}${reason}` : "";
    console.log(`${name} score ${response.score.toFixed(6)} by ${response.modelVersion}${who}`);
  }
}

const [address, milliseconds] = process.argv.slice(2);
if (!address || !(Number(milliseconds) > 0)) {
  console.error("usage: decide.js ADDRESS MILLISECONDS");
  process.exit(2);
}
const timeout = Number(milliseconds);
const definition = loader.loadSync("greenlight/executor/v1/decision.proto", { // as the types in gen/ are generated
  includeDirs: [`${import.meta.dirname}/../../../proto`], longs: Number, enums: String, defaults: true, oneofs: true,
});
const { greenlight } = grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType;
const client = new greenlight.executor.v1.DecisionService(address, grpc.credentials.createInsecure(), options);

async function main() {
  await new Promise<void>((resolve, reject) => { // connect before trading starts
    client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve()));
  });
  let decider: Decider | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    const [name = "", values] = line.trim().split(" ");
    const vector = values ? { schema: "v1.8.1", values: values.split(",").map(Number) } : undefined;
    const request: PredictRequest = { requestId: name, symbol: "BTC-PERP", ...(vector && { vector }) };
    show(name, decider ? await decider.decide(request, timeout) : await new Promise<Answer>((resolve) => {
      client.Predict(request, { deadline: Date.now() + timeout }, (error, response) =>
        resolve(error ? failed(error.code, error.details) : { sequence: 0, result: "response", response }));
    }));
    decider ??= new Decider(client);
  }
  decider?.close();
  client.close();
}
void main();
