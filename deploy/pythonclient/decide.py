"""Asks executor for decisions, one for each line of standard input, which is an id and the values of a state:

    mkdir -p gen && protoc -I proto --python_out=gen --grpc_out=gen \\
        --plugin=protoc-gen-grpc="$(command -v grpc_python_plugin)" proto/greenlight/executor/v1/*.proto
    PYTHONPATH=gen python3 decide.py 127.0.0.1:4020 0.005 <<<'order-1 1,0.3,-0.2,0.1,0.4,0.5,-1'

The second argument is how many seconds a decision may take. The first line is asked by a call of Predict, the others over a
stream of Decide, which is opened again when it ends. Debian: python3-grpcio, protobuf-compiler-grpc, libprotobuf-dev.
"""
import asyncio
import random
import sys
import time

import grpc
from greenlight.executor.v1 import decision_pb2, decision_pb2_grpc, gate_pb2

MAX_UNANSWERED = 64  # further messages of a stream would wait in executor
OPTIONS = [
    ("grpc.client_idle_timeout_ms", 2**31 - 1),  # no handshake after a quiet hour
    ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.http2.lookahead_bytes", 64 << 10), ("grpc.http2.bdp_probe", 0),  # the flow-control window of executor
]


def failed(code, message):
    return decision_pb2.DecideResponse(error=decision_pb2.DecideError(code=code.value[0], message=message))


class Decider:
    """Asks over one stream. What a stream has not answered when it ends fails, and is not sent again: it may be too late."""

    def __init__(self, client):
        self.client, self.stream, self.sequence, self.waiting = client, client.Decide(), 0, {}
        self.unanswered, self.sending = asyncio.Semaphore(MAX_UNANSWERED), asyncio.Lock()

    async def run(self):
        """Hands out answers, and opens the stream again, until it is canceled."""
        backoff = 0.05
        while True:
            why = "the stream has ended"
            try:
                while (answer := await self.stream.read()) is not grpc.aio.EOF:
                    backoff = 0.05
                    self.waiting.pop(answer.sequence).set_result(answer)
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
            self.stream, waiting, self.waiting = None, self.waiting, {}
            for lost in waiting.values():
                lost.set_result(failed(grpc.StatusCode.UNAVAILABLE, f"no answer: {why}"))
            await asyncio.sleep(random.uniform(0.5, 1) * backoff)  # so that not all clients reconnect at once
            backoff = min(2 * backoff, 1)
            self.stream = self.client.Decide()

    async def decide(self, request, timeout):
        await self.unanswered.acquire()
        stream = self.stream
        if not stream:
            self.unanswered.release()
            return failed(grpc.StatusCode.UNAVAILABLE, "there is no stream now")
        answered = asyncio.get_running_loop().create_future()
        answered.add_done_callback(lambda _: self.unanswered.release())  # even if the caller no longer waits
        self.sequence += 1
        message = decision_pb2.DecideRequest(sequence=self.sequence, request=request)
        message.deadline.FromNanoseconds(time.time_ns() + int(timeout * 1e9))
        self.waiting[message.sequence] = answered
        try:
            async with self.sending:
                await stream.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the stream has ended: run has the reason
        try:
            return await asyncio.wait_for(asyncio.shield(answered), timeout)
        except asyncio.TimeoutError:
            return failed(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time")


def show(name, answer):
    if answer.HasField("error"):
        error = answer.error
        code = next(code.name for code in grpc.StatusCode if code.value[0] == error.code)
        print(name, code, f"{error.reason} {error.message}".strip(), flush=True)
        return
    decision = answer.response
    who = ""
    if decision.HasField("gate"):  # only while a model may decide
        gate = decision.gate
        who = f", decided by {gate_pb2.Decider.Name(gate.decided_by)}, baseline {gate.baseline_score:.6f}"
        if gate.fallback_reason:
            who += f", {gate_pb2.FallbackReason.Name(gate.fallback_reason)}"
    print(f"{name} score {decision.score:.6f} by {decision.model_version}{who}", flush=True)


async def main(address, timeout):
    async with grpc.aio.insecure_channel(address, OPTIONS) as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)  # connect before trading starts
        client, running, decider = decision_pb2_grpc.DecisionServiceStub(channel), None, None
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, _, values = line.strip().partition(" ")
            request = decision_pb2.PredictRequest(request_id=name, symbol="BTC-PERP")
            if values:
                request.vector.schema = "v1.8.1"
                request.vector.values.extend(map(float, values.split(",")))
            if decider:
                show(name, await decider.decide(request, timeout))
                continue
            try:
                show(name, decision_pb2.DecideResponse(response=await client.Predict(request, timeout=timeout)))
            except grpc.aio.AioRpcError as error:
                show(name, failed(error.code(), error.details()))
            decider = Decider(client)
            running = asyncio.create_task(decider.run())
        if running:
            running.cancel()


if len(sys.argv) != 3:
    sys.exit("usage: decide.py ADDRESS SECONDS")
asyncio.run(main(sys.argv[1], float(sys.argv[2])))
